#include "simulator/replay_failure.h"

#include <fmt/format.h>
#include <signal.h>
#include <string.h>

#include <algorithm>

#include "formats/workload_cursor.h"

namespace alloctape::simulator {
namespace {

struct OpAt {
  wire::Op op = wire::Op::kNone;
  std::uint64_t index = 0;  // API calls of the lane before it
  std::optional<std::uint64_t> slot, size;
};

// The op at a position of a lane. A pass over the lane's words: this happens once in a failed run.
OpAt op_at(const formats::WorkloadFile& workload, std::uint32_t lane, std::uint64_t position) {
  const wire::LaneEntry& entry = workload.lanes()[lane];
  OpAt found;
  for (std::uint64_t k = 0; k < entry.chunks; ++k) {
    const wire::ChunkEntry& chunk = workload.chunks()[entry.first_chunk + k];
    const auto words = workload.words(chunk);
    for (std::uint64_t i = 0; i < words.size();) {
      if (chunk.first_word + i >= position) {
        const formats::OpView op = formats::decode(&words[i], words.data() + words.size());
        found.op = op.op;
        if (wire::is_call_op(op.op)) {
          found.slot = op.slot;
          if (wire::traits(op.op).takes_size) found.size = op.count ? op.size * op.count : op.size;
        }
        return found;
      }
      if (wire::is_call_op(wire::op_of(words[i]))) ++found.index;
      const unsigned length = wire::op_words(words[i]);
      i += length ? length : 1;
    }
  }
  return found;
}

// Whether a lane in this state can be what everybody else waits for.
bool stands_in_a_call(SharedHeader* shared, const formats::WorkloadFile& workload,
                      std::uint32_t lane) {
  LaneShared& l = lanes_of(shared)[lane];
  if (l.running.load(std::memory_order_relaxed) == 0) return false;
  const wire::Op op = op_at(workload, lane, l.current.load(std::memory_order_relaxed)).op;
  return op != wire::Op::kWait;
}

std::string signal_text(int number) {
  const char* name = sigabbrev_np(number);
  return name != nullptr ? fmt::format("SIG{}", name) : fmt::format("signal {}", number);
}

const char* phase_text(Phase phase) {
  switch (phase) {
    case Phase::kStarting:
      return "start";
    case Phase::kSetUp:
      return "set-up";
    case Phase::kPrologue:
      return "prologue";
    case Phase::kAfter:
      return "after";
    default:
      return "run";
  }
}

}  // namespace

std::uint32_t guilty_lane(SharedHeader* shared, const formats::WorkloadFile& workload) {
  const std::uint32_t crashed = shared->crash_lane.load(std::memory_order_relaxed);
  if (crashed <= shared->lanes) return crashed;
  std::uint32_t found = kNoLane;
  for (std::uint32_t lane = 0; lane < shared->lanes; ++lane) {
    if (!stands_in_a_call(shared, workload, lane)) continue;
    // The main thread waits at the end of its lane for the others: anybody else comes first.
    if (found == kNoLane || found == 0) found = lane;
  }
  return found;
}

std::optional<std::uint64_t> thread_at(const formats::WorkloadFile& workload, std::uint32_t lane,
                                       std::uint64_t position) {
  for (const wire::ThreadEntry& thread : workload.threads())
    if (thread.lane == lane && position >= thread.first_word && position < thread.end_word)
      return thread.thread;
  return std::nullopt;
}

formats::RunFailure describe_failure(SharedHeader* shared, const formats::WorkloadFile& workload,
                                     const ProcessEnd& end) {
  formats::RunFailure failure;
  const Phase phase = shared->phase.load(std::memory_order_acquire);
  failure.phase = phase_text(phase);
  failure.exit_code = end.exit_code;
  if (!end.timed_out) failure.signal = end.signal;  // otherwise it is our own SIGKILL
  if (failure.signal) failure.signal_name = signal_text(*end.signal);
  if (end.signal && shared->crash_signal == static_cast<std::uint32_t>(*end.signal) &&
      (shared->crash_signal == SIGSEGV || shared->crash_signal == SIGBUS))
    failure.address = shared->crash_address;

  const std::uint32_t frames =
      std::min(shared->frame_count.load(std::memory_order_acquire), kFrames);
  for (std::uint32_t i = 0; i < frames; ++i) {
    shared->frames[i][sizeof shared->frames[i] - 1] = 0;
    failure.backtrace.emplace_back(shared->frames[i]);
  }

  std::string where;
  if (phase == Phase::kRunning || phase == Phase::kPrologue) {
    const std::uint32_t lane =
        phase == Phase::kPrologue ? shared->lanes : guilty_lane(shared, workload);
    if (lane == shared->lanes) {
      const std::uint64_t position = lanes_of(shared)[lane].current.load(std::memory_order_relaxed);
      const OpAt at = op_at(workload, lane, position);
      failure.op = wire::traits(at.op).name;
      failure.op_index = at.index;
      where = fmt::format("in {} for block {} of the prologue", failure.op, at.index);
    } else if (lane != kNoLane) {
      const std::uint64_t position = lanes_of(shared)[lane].current.load(std::memory_order_relaxed);
      const OpAt at = op_at(workload, lane, position);
      failure.lane = lane;
      failure.thread = thread_at(workload, lane, position);
      failure.op_index = at.index;
      failure.slot = at.slot;
      failure.size_bytes = at.size;
      const char* name = wire::traits(at.op).name;
      failure.op = name != nullptr ? name : "";
      where = fmt::format("in {}, op {} of lane {}", failure.op, at.index, lane);
      if (at.op == wire::Op::kExit)
        where = fmt::format("at a thread's end, after op {} of lane {}", at.index, lane);
      if (failure.size_bytes) where += fmt::format(", {} bytes", *failure.size_bytes);
      if (failure.slot && *failure.slot != 0) where += fmt::format(", slot {}", *failure.slot);
      if (failure.thread) where += fmt::format(" (thread {})", *failure.thread);
    }
  } else if (phase == Phase::kAfter) {
    where = "while everything was freed, after the last op";
  } else {
    where = fmt::format("during {}", phase == Phase::kStarting ? "program start" : "set-up");
  }

  if (end.timed_out)
    failure.message = fmt::format("no call finished within the timeout: {}", where);
  else if (end.signal)
    failure.message = fmt::format("{} {}", failure.signal_name, where);
  else
    failure.message =
        fmt::format("the replayer exited with status {} {}", end.exit_code.value_or(-1), where);
  if (failure.address) failure.message += fmt::format(", at address {:#x}", *failure.address);
  return failure;
}

}  // namespace alloctape::simulator
