// What the notes of a trace tell about single calls: usable sizes and durations.
//
// Memory: 15 KiB for each function and each power of two of sizes that occurs, nothing without
// notes.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "analysis/histogram.h"
#include "formats/event.h"
#include "formats/wire/opcodes.h"

namespace alloctape::analysis {

class CallDetails {
 public:
  static constexpr std::size_t kOps = wire::kMapOpLimit;
  // Requested and usable bytes of calls whose usable size is known.
  struct Sizes {
    std::uint64_t calls = 0, requested = 0, usable = 0;
    void add(std::uint64_t size, std::uint64_t usable_size) {
      ++calls;
      requested += size;
      usable += usable_size;
    }
    // Share of the usable bytes that was not asked for.
    double overhead() const {
      return usable <= requested || usable == 0
                 ? 0
                 : static_cast<double>(usable - requested) / static_cast<double>(usable);
    }
  };

  // REQUIRES: event.notes != 0
  void add(const formats::Event& event);

  bool has_sizes() const { return sizes_.calls != 0; }
  const Sizes& sizes() const { return sizes_; }
  const Sizes& sizes_of(std::size_t log2_bucket) const { return sizes_by_size_[log2_bucket]; }

  // In raw ticks. nullptr where there are none.
  bool has_durations() const { return has_durations_; }
  const QuantileHistogram* durations_of(wire::Op op) const {
    return by_op_[static_cast<std::size_t>(op)].get();
  }
  const QuantileHistogram* durations_of_size(std::size_t log2_bucket) const {
    return by_size_[log2_bucket].get();
  }

 private:
  Sizes sizes_;
  std::array<Sizes, Log2Histogram::kBuckets> sizes_by_size_{};
  bool has_durations_ = false;
  // Shared: statistics are copied.
  std::array<std::shared_ptr<QuantileHistogram>, kOps> by_op_;
  std::array<std::shared_ptr<QuantileHistogram>, Log2Histogram::kBuckets> by_size_;
};

}  // namespace alloctape::analysis
