#include "simulator/replay_latency.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <memory>

namespace alloctape::simulator {
namespace {

using formats::LatencySummary;
using formats::RunResult;

// From ticks to ns, without the stamps' own cost, which is part of every value. What is left of a
// value cannot be negative.
class Clock {
 public:
  Clock(double overhead_ticks, double ns_per_tick) : overhead_(overhead_ticks), ns_(ns_per_tick) {}
  double net_ns(double ticks) const { return std::max(0.0, ticks - overhead_) * ns_; }

 private:
  double overhead_, ns_;
};

LatencySummary summary_of(const LatencyHistogram& h, std::uint64_t count, const Clock& clock) {
  LatencySummary l;
  l.count = count;
  l.mean_ns = clock.net_ns(static_cast<double>(h.sum_ticks) / static_cast<double>(count));
  l.p50_ns = clock.net_ns(h.quantile(0.5));
  l.p90_ns = clock.net_ns(h.quantile(0.9));
  l.p99_ns = clock.net_ns(h.quantile(0.99));
  l.p999_ns = clock.net_ns(h.quantile(0.999));
  l.p9999_ns = clock.net_ns(h.quantile(0.9999));
  l.max_ns = clock.net_ns(static_cast<double>(h.max_ticks));
  return l;
}

formats::SizeLatency by_size(const LatencyHistogram& h, std::uint32_t size_class,
                             std::uint64_t count, const Clock& clock) {
  formats::SizeLatency l;
  l.from_bytes = class_from(size_class);
  if (class_to(size_class) != 0) l.to_bytes = class_to(size_class);
  l.summary = summary_of(h, count, clock);
  for (std::uint32_t i = 0; i < LatencyHistogram::kBuckets; ++i) {
    if (h.buckets[i] == 0) continue;
    const double ns =
        std::round(clock.net_ns(LatencyHistogram::bucket_middle(i)) * 100) / 100;  // for the eye
    if (!l.bucket_ns.empty() && l.bucket_ns.back() == ns) {
      l.bucket_calls.back() += h.buckets[i];
    } else {
      l.bucket_ns.push_back(ns);
      l.bucket_calls.push_back(h.buckets[i]);
    }
  }
  return l;
}

// Reads through the descriptor: a look at a hole of the mapping would fill it with a page.
class HistogramReader {
 public:
  HistogramReader(SharedHeader* shared, int memory) : shared_(shared), memory_(memory) {}

  // Adds one histogram of every lane to `sum`.
  void merge(std::uint32_t index, std::uint32_t size_class, LatencyHistogram& sum) {
    for (std::uint32_t lane = 0; lane < shared_->lanes; ++lane) {
      const std::uint64_t at =
          shared_->histograms_at + lane * histograms_bytes(*shared_) +
          (std::uint64_t{index} * kSizeClasses + size_class) * sizeof(LatencyHistogram);
      const ssize_t n =
          pread(memory_, one_.get(), sizeof(LatencyHistogram), static_cast<off_t>(at));
      if (n == sizeof(LatencyHistogram)) sum.merge(*one_);
    }
  }

 private:
  SharedHeader* shared_;
  int memory_;
  std::unique_ptr<LatencyHistogram> one_ = std::make_unique<LatencyHistogram>();
};

void collect_slowest(SharedHeader* shared, const formats::WorkloadFile& workload,
                     const Clock& clock, double ns_per_tick, RunResult& run) {
  struct At {
    const SlowCall* call;
    std::uint32_t lane;
  };
  std::vector<At> all;
  for (std::uint32_t lane = 0; lane < shared->lanes; ++lane) {
    const SlowCalls& slowest = lanes_of(shared)[lane].slowest;
    for (std::uint32_t i = 0; i < std::min(slowest.count, kSlowestCalls); ++i)
      all.push_back({&slowest.calls[i], lane});
  }
  std::sort(all.begin(), all.end(),
            [](const At& a, const At& b) { return a.call->ticks > b.call->ticks; });
  if (all.size() > kSlowestCalls) all.resize(kSlowestCalls);
  auto known = [](std::uint32_t n) {
    return n == kUnknownCount ? std::nullopt : std::optional<std::uint64_t>(n);
  };
  for (const auto& [call, lane] : all) {
    formats::SlowCall c;
    c.ns = clock.net_ns(static_cast<double>(call->ticks));
    c.op = wire::traits(static_cast<wire::Op>(call->op)).name;
    c.op_index = call->op_index;
    c.lane = lane;
    for (const wire::ThreadEntry& thread : workload.threads())
      if (thread.lane == lane && call->position >= thread.first_word &&
          call->position < thread.end_word)
        c.thread = thread.thread;
    c.size_bytes = call->size;
    c.slot = call->slot;
    const double since_anchor =
        static_cast<double>(call->end_ticks - shared->anchor_ticks[0]) * ns_per_tick;
    c.at_ns = std::max(
        0.0, since_anchor - static_cast<double>(shared->run_start_ns - shared->anchor_ns[0]));
    c.page_faults = known(call->faults);
    c.switches = known(call->switches);
    run.slowest_calls.push_back(std::move(c));
  }
}

}  // namespace

void collect_latency(SharedHeader* shared, int memory, const formats::WorkloadFile& workload,
                     double ns_per_tick, RunResult& run) {
  const Clock clock(shared->timer_overhead_ticks, ns_per_tick);
  run.timer_overhead_ns = shared->timer_overhead_ticks * ns_per_tick;
  run.latency_error = 0.5 / (1 << LatencyHistogram::kSubBits);
  HistogramReader reader(shared, memory);
  const auto whole = std::make_unique<LatencyHistogram>();
  const auto one = std::make_unique<LatencyHistogram>();
  for (int op = 0; op < wire::kApiOpLimit; ++op) {
    const std::uint8_t index = shared->histogram_of[op];
    if (index == kNoHistogram) continue;
    const char* name = wire::traits(static_cast<wire::Op>(op)).name;
    *whole = {};
    std::vector<formats::SizeLatency> classes;
    for (std::uint32_t c = 0; c < kSizeClasses; ++c) {
      *one = {};
      reader.merge(index, c, *one);
      const std::uint64_t count = one->count();
      if (count == 0) continue;
      classes.push_back(by_size(*one, c, count, clock));
      whole->merge(*one);
    }
    if (classes.empty()) continue;
    run.latency[name] = summary_of(*whole, whole->count(), clock);
    run.latency_by_size[name] = std::move(classes);
  }
  collect_slowest(shared, workload, clock, ns_per_tick, run);
  if (shared->sample_every != 1) return;
  run.fault_check_ns = shared->fault_ticks / 2 * ns_per_tick;
  run.faulted_calls = run.call_faults = 0;
  for (std::uint32_t lane = 0; lane < shared->lanes; ++lane) {
    *run.faulted_calls += lanes_of(shared)[lane].faulted_calls;
    *run.call_faults += lanes_of(shared)[lane].call_faults;
  }
}

}  // namespace alloctape::simulator
