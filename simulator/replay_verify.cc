#include "simulator/replay_verify.h"

#include <fmt/format.h>

#include <algorithm>

#include "simulator/replay_failure.h"

namespace alloctape::simulator {
namespace {

const char* kind_of(Fault fault) {
  switch (fault) {
    case Fault::kOverlap:
      return "overlap";
    case Fault::kAlignment:
      return "alignment";
    case Fault::kNotZero:
      return "not_zero";
    case Fault::kUsableSize:
      return "usable_size";
    case Fault::kContents:
      return "contents";
    case Fault::kMovedContents:
      return "moved_contents";
    case Fault::kNone:
      break;
  }
  return "none";
}

std::string what_is_wrong(const FoundFault& f) {
  switch (f.fault) {
    case Fault::kOverlap:
      return fmt::format(
          "the new block of {} bytes at {:#x} overlaps the live one of {} bytes at {:#x} (slot {})",
          f.size, f.address, f.other_size, f.other_address, f.other_slot);
    case Fault::kAlignment:
      return fmt::format("the block of {} bytes at {:#x} is not aligned to {}", f.size, f.address,
                         f.wanted);
    case Fault::kNotZero:
      return fmt::format("byte {} of the zeroed block of {} bytes is {:#04x}", f.at, f.size,
                         f.found);
    case Fault::kUsableSize:
      return fmt::format("the block of {} bytes has a usable size of {}", f.size, f.found);
    case Fault::kContents:
      return fmt::format(
          "byte {} of the live block of {} bytes was overwritten: {:#04x}, not {:#04x}", f.at,
          f.size, f.found, f.wanted);
    case Fault::kMovedContents:
      return fmt::format("byte {} of the resized block of {} bytes was lost: {:#04x}, not {:#04x}",
                         f.at, f.size, f.found, f.wanted);
    case Fault::kNone:
      break;
  }
  return "unknown";
}

formats::VerifyFault describe(const FoundFault& f, SharedHeader* shared,
                              const formats::WorkloadFile& workload) {
  formats::VerifyFault v;
  v.kind = kind_of(f.fault);
  v.slot = f.slot;
  v.size_bytes = f.size;
  v.address = f.address;
  std::string where;
  if (f.op == 0) {
    where = "at the end of the run";
  } else {
    v.op = wire::traits(static_cast<wire::Op>(f.op)).name;
    v.op_index = f.op_index;
    if (f.lane == shared->lanes) {
      where = fmt::format("{} for block {} of the prologue", v.op, f.op_index);
    } else {
      v.lane = f.lane;
      v.thread = thread_at(workload, f.lane, f.position);
      where = fmt::format("{}, op {} of lane {}", v.op, f.op_index, f.lane);
      if (v.thread) where += fmt::format(" (thread {})", *v.thread);
    }
  }
  v.message = fmt::format("{}, slot {}: {}", where, f.slot, what_is_wrong(f));
  return v;
}

}  // namespace

void collect_verification(SharedHeader* shared, const formats::WorkloadFile& workload,
                          formats::RunResult& run) {
  if (!shared->verify) return;
  formats::Verification& v = run.verification.emplace();
  v.faults = shared->faults.count.load(std::memory_order_relaxed);
  v.blocks = shared->faults.blocks.load(std::memory_order_relaxed);
  v.bytes = shared->faults.bytes.load(std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < std::min<std::uint64_t>(v.faults, kKeptFaults); ++i)
    v.first.push_back(describe(shared->faults.kept[i], shared, workload));
  if (v.first.empty()) return;
  const formats::VerifyFault& first = v.first.front();
  if (run.status != formats::RunStatus::kOk) {
    // A crash after that is no wonder, but the verdict belongs to it.
    if (run.failure) run.failure->message += "; before that: " + first.message;
    return;
  }
  run.status = formats::RunStatus::kCorrupted;
  formats::RunFailure failure;
  failure.message = first.message;
  if (v.faults > 1) failure.message += fmt::format(" (and {} more)", v.faults - 1);
  failure.phase = first.lane ? "run" : first.op.empty() ? "end" : "prologue";
  failure.op = first.op;
  failure.op_index = first.op_index;
  failure.lane = first.lane;
  failure.thread = first.thread;
  failure.slot = first.slot;
  failure.size_bytes = first.size_bytes;
  failure.address = first.address;
  run.failure = std::move(failure);
}

}  // namespace alloctape::simulator
