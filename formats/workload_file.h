// Reading a workload: the tables and op words of one .awl file, validated.
//
// Thread safety: immutable after open().
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "formats/mapped_file.h"
#include "formats/result.h"
#include "formats/wire/workload_layout.h"

namespace alloctape::formats {

class WorkloadFile {
 public:
  // Checks header, tables and section bounds; not the op words (see validate).
  static Result<WorkloadFile> open(const std::string& path);

  const std::string& path() const;
  const wire::WorkloadHeader& header() const;
  std::string provenance() const;                  // JSON text
  std::span<const wire::LaneEntry> lanes() const;  // header().lanes + 1; the last is the prologue
  std::span<const wire::ChunkEntry> chunks() const;
  std::span<const wire::ThreadEntry> threads() const;
  std::span<const wire::CurvePoint> live_curve() const;
  std::span<const wire::CurvePoint> rss_curve() const;
  std::span<const std::uint64_t> words(const wire::ChunkEntry& chunk) const;

  // Runs the whole workload symbolically in an order its sync points allow: every opcode known,
  // every slot in range, free before reuse, no op on an empty slot, waits that can be met (no
  // deadlock), spawn and exit paired, counts equal to the header's. What validates here needs no
  // error branch in the replay loop. Memory: 1 byte per slot and a little per lane.
  Status validate() const;

 private:
  WorkloadFile();
  struct State;
  std::shared_ptr<const State> state_;
};

}  // namespace alloctape::formats
