// Writes a workload file, streaming: one open chunk in memory for each lane.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "formats/result.h"
#include "formats/wire/workload_layout.h"

namespace alloctape::formats {

struct Op {
  wire::Op op = wire::Op::kNone;
  std::uint8_t flags = 0;       // wire::OpFlag
  std::uint64_t slot = 0;       // 0 = NULL
  std::uint64_t size = 0;       // requested bytes
  std::uint64_t alignment = 0;  // ops that take one
  std::uint64_t count = 0;      // calloc, reallocarray: first argument where it must be kept (the
                                // product overflowed); then size is the element size. Else 0.
  std::uint64_t offset = 0;     // mmap's family: of the part, from the mapping's beginning
  std::uint64_t value = 0;      // mmap: prot | flags << 32; madvise: the advice
};

class WorkloadWriter {
 public:
  static Result<WorkloadWriter> create(const std::string& path);
  WorkloadWriter(WorkloadWriter&&) noexcept;
  ~WorkloadWriter();  // an unfinished file stays marked incomplete

  std::uint32_t add_lane();                          // returns its index; the first is 0
  std::uint64_t position(std::uint32_t lane) const;  // word index where the next op will start
  // Appends and returns the position after the op. Calls are counted in ops_by_kind.
  Result<std::uint64_t> append(std::uint32_t lane, const Op& op);
  Result<std::uint64_t> append_wait(std::uint32_t lane, std::uint32_t other,
                                    std::uint64_t position);
  // Makes an earlier wait of the lane wait for more. `wait_end` is what append_wait returned for
  // it. False when its chunk has been written out: then nothing has changed. REQUIRES: `position`
  // is published, and not below the position that the wait is for.
  bool raise_wait(std::uint32_t lane, std::uint64_t wait_end, std::uint64_t position);
  Result<std::uint64_t> append_spawn(std::uint32_t lane, std::uint32_t other);
  Result<std::uint64_t> append_exit(std::uint32_t lane);
  Result<std::uint64_t> append_time(std::uint32_t lane, std::uint64_t ns);
  // size_known: the block counts as live from the start; else the size is a guess, and it does not.
  Status append_prologue(std::uint64_t slot, std::uint64_t size, bool size_known = false);
  // Makes the lane publish at `position`, or at the first later point where it can still be asked
  // to (the end of a chunk that has been written out). Returns the position that will be published.
  // REQUIRES: position <= position(lane).
  std::uint64_t publish(std::uint32_t lane, std::uint64_t position);

  struct Totals {  // what the writer cannot know
    wire::SyncOrder order = wire::SyncOrder::kCausal;
    std::uint64_t slots = 0;
    std::uint64_t peak_live_bytes = 0, peak_live_blocks = 0, end_live_bytes = 0,
                  end_live_blocks = 0;
    std::uint64_t peak_mapped_bytes = 0, end_mapped_bytes = 0;
    std::uint64_t recorded_ns = 0;
    std::string provenance_json;
    std::vector<wire::ThreadEntry> threads;
    std::vector<wire::CurvePoint> live_curve, rss_curve;
  };
  Status finish(const Totals& totals);  // tables, header; complete = 1

 private:
  struct State;
  explicit WorkloadWriter(std::unique_ptr<State>);
  std::unique_ptr<State> state_;
};

}  // namespace alloctape::formats
