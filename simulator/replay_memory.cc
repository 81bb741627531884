#include "simulator/replay_memory.h"

#include <string.h>

#include <algorithm>

namespace alloctape::simulator {
namespace {

using formats::MemoryParts;
using formats::RunResult;

const char* name_of(Moment moment) {
  switch (moment) {
    case Moment::kGrowing:
      return "growing";
    case Moment::kEnd:
      return "end";
    case Moment::kFreed:
      return "freed";
    case Moment::kSettled:
      return "settled";
  }
  return "";
}

MemoryParts parts_of(const MemoryPoint& p, std::uint64_t harness) {
  MemoryParts parts;
  parts.anon_bytes = p.anon_bytes;
  parts.requested_bytes = p.live_bytes;
  std::int64_t rest = static_cast<std::int64_t>(p.anon_bytes) -
                      static_cast<std::int64_t>(p.live_bytes + p.lazy_free_bytes + harness);
  // Usable bytes count blocks from before the recording, requested ones may not.
  if (p.has_usable && p.usable_bytes >= p.live_bytes) {
    parts.slop_bytes = p.usable_bytes - p.live_bytes;
    rest -= static_cast<std::int64_t>(*parts.slop_bytes);
  }
  parts.lazy_free_bytes = p.lazy_free_bytes;
  parts.mapped_bytes = p.mapped_bytes;
  rest -= static_cast<std::int64_t>(p.mapped_bytes);
  parts.harness_bytes = harness;
  parts.rest_bytes = rest;
  return parts;
}

std::optional<formats::AllocatorView> view_of(const AllocatorView& view) {
  if (view.count == 0) return std::nullopt;
  formats::AllocatorView v;
  v.source.assign(view.source, strnlen(view.source, sizeof view.source));
  for (std::uint32_t i = 0; i < std::min(view.count, kViewFigures); ++i) {
    const NamedFigure& f = view.figures[i];
    v.figures[std::string(f.name, strnlen(f.name, sizeof f.name))] = f.value;
  }
  return v;
}

}  // namespace

void collect_memory(SharedHeader* shared, RunResult& run) {
  const std::uint64_t harness = run.baseline_rss_bytes.value_or(0);
  const std::uint32_t count =
      std::min(shared->points.load(std::memory_order_acquire), kMemoryPoints);
  std::uint64_t highest = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const MemoryPoint& p = shared->point[i];
    formats::MemoryPoint point;
    point.moment = name_of(p.moment);
    point.ns = p.ns > shared->run_start_ns ? p.ns - shared->run_start_ns : 0;
    point.live_bytes = p.live_bytes;
    if (p.has_usable) point.usable_bytes = p.usable_bytes;
    point.anon_bytes = p.anon_bytes;
    point.lazy_free_bytes = p.lazy_free_bytes;
    point.huge_bytes = p.huge_bytes;
    point.vm_bytes = p.vm_bytes;
    run.memory_points.push_back(std::move(point));
    if (p.moment == Moment::kGrowing && p.live_bytes >= highest) {
      highest = p.live_bytes;
      run.parts_at_peak = parts_of(p, harness);
    }
    if (p.moment == Moment::kEnd) run.parts_at_end = parts_of(p, harness);
    if (p.moment == Moment::kFreed) {
      run.freed_rss_bytes = p.anon_bytes;
    }
    if (p.moment == Moment::kSettled) {
      run.settled_rss_bytes = p.anon_bytes;
      run.settle_ns = shared->settle_ns;
    }
  }
  if (shared->purge_calls + shared->purge_bytes + shared->purge_ns != 0) {
    run.purge_by.assign(shared->purge_name, strnlen(shared->purge_name, sizeof shared->purge_name));
    run.purges = shared->purges.load(std::memory_order_relaxed);
    run.purge_ns = shared->purge_took_ns.load(std::memory_order_relaxed);
  }
  run.view_at_peak = view_of(shared->view_at_peak);
  run.view_at_end = view_of(shared->view_at_end);
}

void apply_calibration(std::uint64_t harness_bytes, RunResult& run) {
  run.harness_rss_bytes = harness_bytes;
  for (auto* parts : {&run.parts_at_peak, &run.parts_at_end}) {
    if (!*parts) continue;
    (*parts)->rest_bytes += static_cast<std::int64_t>((*parts)->harness_bytes) -
                            static_cast<std::int64_t>(harness_bytes);
    (*parts)->harness_bytes = harness_bytes;
  }
}

}  // namespace alloctape::simulator
