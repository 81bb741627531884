#include "simulator/replay_collect.h"

#include <algorithm>
#include <cmath>

#include "simulator/replay_failure.h"
#include "simulator/replay_latency.h"
#include "simulator/replay_memory.h"
#include "simulator/replay_verify.h"

namespace alloctape::simulator {
namespace {

using formats::RunResult;
using formats::RunStatus;

constexpr double kFaithful = 0.01;

std::string touch_text(const SharedHeader& shared) {
  if (shared.verify) return "full";
  switch (shared.touch) {
    case Touch::kNone:
      return "none";
    case Touch::kPage:
      return "page";
    case Touch::kFull:
      return "full";
    case Touch::kPercent:
      return std::to_string(shared.touch_percent) + "%";
  }
  return "none";
}

void collect_counts(SharedHeader* shared, RunResult& run) {
  std::uint64_t ops[wire::kMapOpLimit] = {};
  for (std::uint32_t lane = 0; lane <= shared->lanes; ++lane) {
    const LaneShared& l = lanes_of(shared)[lane];
    for (int op = 0; op < wire::kMapOpLimit; ++op) ops[op] += l.ops_by_kind[op];
    run.threads += l.threads_started;
    run.sync_waits += l.sync_waits;
    run.sync_blocked += l.sync_blocked;
    run.sync_wait_ns += l.sync_wait_ns;
    run.fidelity.failed_ops += l.failed_ops;
    run.mappings.failed_ops += l.failed_maps;
    run.mappings.skipped_ops += l.skipped_maps;
    run.fidelity.skipped_ops += l.skipped_ops;
    run.fidelity.order_violations += l.order_violations;
    run.fidelity.unexpected_successes += l.unexpected_successes;
  }
  for (int op = 0; op < wire::kMapOpLimit; ++op) {
    if (ops[op] == 0) continue;
    run.ops[wire::traits(static_cast<wire::Op>(op)).name] = ops[op];
    run.total_ops += ops[op];
  }
  for (int op = 1; op < wire::kApiOpLimit; ++op)
    if (shared->fallbacks >> op & 1)
      run.fallbacks.emplace_back(wire::traits(static_cast<wire::Op>(op)).name);
}

void collect_curves(SharedHeader* shared, const std::vector<OutsideSample>& outside,
                    RunResult& run) {
  const std::uint32_t count =
      std::min(shared->samples.load(std::memory_order_relaxed), shared->sample_capacity);
  std::vector<MemorySample> samples(samples_of(shared), samples_of(shared) + count);
  std::erase_if(samples, [](const MemorySample& s) { return s.ns == 0; });  // cut off by a crash
  std::sort(samples.begin(), samples.end(),
            [](const MemorySample& a, const MemorySample& b) { return a.ns < b.ns; });
  const bool books = std::any_of(samples.begin(), samples.end(),
                                 [](const MemorySample& s) { return s.usable_bytes != 0; });
  const std::uint64_t start = shared->run_start_ns;
  std::uint64_t peak = 0, peak_vm = 0, ops = 0;
  for (const MemorySample& s : samples) {
    ops =
        std::max(ops, s.ops);  // two lanes may take their samples in one order and stamp in another
    run.by_progress.ns.push_back(s.ns > start ? s.ns - start : 0);
    run.by_progress.ops.push_back(ops);
    run.by_progress.anon_bytes.push_back(s.anon_bytes);
    run.by_progress.vm_bytes.push_back(s.vm_bytes);
    run.by_progress.live_bytes.push_back(s.live_bytes);
    if (books) run.by_progress.usable_bytes.push_back(s.usable_bytes);
    peak = std::max(peak, s.anon_bytes);
    peak_vm = std::max(peak_vm, s.vm_bytes);
  }
  // The driver goes on looking until the process is gone: what lies outside the run is not the
  // run's.
  const std::uint64_t end = shared->run_end_ns != 0 ? shared->run_end_ns : ~std::uint64_t{0};
  for (const OutsideSample& s : outside) {
    if (start == 0 || s.ns < start || s.ns > end) continue;
    run.by_time.ns.push_back(s.ns - start);
    run.by_time.anon_bytes.push_back(s.anon_bytes);
    run.by_time.vm_bytes.push_back(s.vm_bytes);
    peak = std::max(peak, s.anon_bytes);
    peak_vm = std::max(peak_vm, s.vm_bytes);
  }
  peak = std::max(peak, shared->end_anon_bytes);  // 0 until the run is over
  const std::uint32_t points =
      std::min(shared->points.load(std::memory_order_acquire), kMemoryPoints);
  for (std::uint32_t i = 0; i < points; ++i) peak = std::max(peak, shared->point[i].anon_bytes);
  if (peak == 0) return;
  run.peak_rss_bytes = peak;
  run.peak_vm_bytes = peak_vm;
  run.peak_rss_above_baseline_bytes =
      peak > shared->baseline_anon_bytes ? peak - shared->baseline_anon_bytes : 0;
}

void collect_totals(SharedHeader* shared, const wire::WorkloadHeader& header, RunResult& run) {
  run.wall_ns = shared->run_end_ns - shared->run_start_ns;
  run.user_ns = shared->user_ns;
  run.system_ns = shared->system_ns;
  run.minor_faults = shared->minor_faults;
  run.major_faults = shared->major_faults;
  run.voluntary_switches = shared->voluntary_switches;
  run.involuntary_switches = shared->involuntary_switches;
  run.end_rss_bytes = shared->end_anon_bytes;
  run.end_huge_bytes = shared->end_huge_bytes;
  run.end_vm_bytes = shared->end_vm_bytes;
  run.harness_op_ns = shared->harness_op_ns;
  run.sample_ns = shared->sample_ns;
  const auto bytes = [](const std::atomic<std::int64_t>& from) {
    const std::int64_t n = from.load(std::memory_order_relaxed);
    return n > 0 ? static_cast<std::uint64_t>(n) : 0;
  };
  run.mappings.peak_bytes = bytes(shared->mapped_peak);
  run.mappings.end_bytes = bytes(shared->mapped_bytes);
  const std::int64_t live = shared->live_bytes.load(std::memory_order_relaxed);
  run.end_live_bytes = live > 0 ? static_cast<std::uint64_t>(live) : 0;

  RunResult::Fidelity& f = run.fidelity;
  if (header.peak_live_bytes != 0)
    f.live_peak_ratio =
        static_cast<double>(*run.peak_live_bytes) / static_cast<double>(header.peak_live_bytes);
  const bool same_peak =
      f.live_peak_ratio ? std::abs(*f.live_peak_ratio - 1) <= kFaithful : *run.peak_live_bytes == 0;
  f.faithful = same_peak && f.order_violations == 0 && f.skipped_ops == 0;
  const double cpu_ns = static_cast<double>(shared->user_ns + shared->system_ns);
  const double harness_ns = shared->harness_op_ns * static_cast<double>(run.total_ops) +
                            shared->sample_ns * static_cast<double>(shared->samples.load()) +
                            static_cast<double>(shared->point_took_ns.load());
  if (cpu_ns > 0) f.harness_share = std::min(1.0, harness_ns / cpu_ns);
}

}  // namespace

std::uint64_t words_done(SharedHeader* shared) {
  std::uint64_t words = 0;
  for (std::uint32_t lane = 0; lane <= shared->lanes; ++lane)
    words += lanes_of(shared)[lane].current.load(std::memory_order_relaxed);
  return words;
}

void collect(SharedHeader* shared, int memory, const formats::WorkloadFile& workload,
             const ProcessEnd& end, const std::vector<OutsideSample>& outside, RunResult& run) {
  // Acquire: pairs with the replayer's release of its last phase.
  const Phase phase = shared->phase.load(std::memory_order_acquire);
  run.lanes = shared->lanes;
  run.timing = shared->timing == Timing::kNone ? "none"
               : shared->sample_every == 1     ? "all"
                                               : "sample";
  run.timing_every = shared->sample_every;
  run.touch = touch_text(*shared);
  run.touch_calloc = shared->touch_zeroed != 0;
  run.touch_reads = shared->touch_reads != 0;
  shared->malloc_library[sizeof shared->malloc_library - 1] = 0;
  run.malloc_library = shared->malloc_library;
  run.fidelity.recorded_peak_live_bytes = workload.header().peak_live_bytes;
  collect_counts(shared, run);
  const std::int64_t peak = shared->live_peak.load(std::memory_order_relaxed);
  const bool whole = phase == Phase::kAfter || phase == Phase::kComplete;
  if (phase == Phase::kRunning || whole) {
    run.baseline_rss_bytes = shared->baseline_anon_bytes;
    run.baseline_vm_bytes = shared->baseline_vm_bytes;
    run.prologue_rss_bytes = shared->start_anon_bytes;
    run.peak_live_bytes = peak > 0 ? static_cast<std::uint64_t>(peak) : 0;
    run.live_peak_error_bytes = shared->lanes == 1 ? 0 : shared->live_flush_bytes * shared->lanes;
    collect_curves(shared, outside, run);
    collect_memory(shared, run);
  }

  const double ns = static_cast<double>(shared->anchor_ns[1] - shared->anchor_ns[0]);
  const double ticks = static_cast<double>(shared->anchor_ticks[1] - shared->anchor_ticks[0]);
  if (whole && ticks > 0) {
    collect_totals(shared, workload.header(), run);
    run.ticks_per_second = ticks / ns * 1e9;
    run.wall_ticks = static_cast<std::uint64_t>(static_cast<double>(*run.wall_ns) * ticks / ns);
    if (shared->timing != Timing::kNone) {
      collect_latency(shared, memory, workload, ns / ticks, run);
    }
  }

  if (phase == Phase::kComplete) {
    run.status = RunStatus::kOk;
    if (end.timed_out)
      run.notes.emplace_back("the run was complete, but the process did not exit: killed");
    else if (end.signal || end.exit_code.value_or(0) != 0)
      run.notes.push_back("the run was complete, but the process came to a bad end at exit: " +
                          (end.signal ? "signal " + std::to_string(*end.signal)
                                      : "status " + std::to_string(*end.exit_code)));
  } else if (phase == Phase::kFailed) {
    run.status = RunStatus::kFailed;
    shared->message[sizeof shared->message - 1] = 0;
    formats::RunFailure failure;
    failure.message = shared->message;
    failure.phase = "set-up";
    failure.exit_code = end.exit_code;
    run.failure = failure;
  } else {
    run.status = end.timed_out ? RunStatus::kHung : RunStatus::kCrashed;
    run.failure = describe_failure(shared, workload, end);
  }
  collect_verification(shared, workload, run);
}

}  // namespace alloctape::simulator
