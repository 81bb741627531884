#include "analysis/heap_statistics.h"

#include <algorithm>

#include "analysis/input.h"
#include "analysis/lane_cursor.h"

namespace alloctape::analysis {
namespace {

using formats::Block;
using formats::Event;

std::size_t index_of(wire::Op op) { return static_cast<std::size_t>(op); }

void add_request(Statistics& s, std::uint64_t size, bool aligned) {
  s.requested_min = s.requests == 0 ? size : std::min(s.requested_min, size);
  s.requested_max = std::max(s.requested_max, size);
  ++s.requests;
  s.requested_total += size;
  s.zero_size_requests += size == 0;
  s.aligned_requests += aligned;
  s.sizes.add(size);
}

}  // namespace

HeapStatistics::HeapStatistics(const formats::TraceFile& file, const formats::HeapWalk& walk)
    : file_(file),
      walk_(walk),
      maps_(file.header().page_bytes, (file.header().features & wire::kFeatureMaps) != 0) {
  s_.source = Statistics::Source::kTrace;
  s_.path = file.path();
  s_.dropped_events = file.dropped_events();
  constexpr std::uint64_t kRounded = wire::kFeatureSparseStamps | wire::kFeatureOwnedStamps;
  s_.sparse_stamps = (file.header().features & kRounded) != 0;
  s_.rss_samples = file.rss().size();
  s_.ring = (file.header().features & wire::kFeatureRing) != 0;
  s_.overwritten_events = file.overwritten_events();
  s_.overwritten_blocks = file.overwritten_blocks();
  s_.ns_per_tick = 1e9 / file.ticks_per_second();
  for (const formats::TraceMark& mark : file.marks()) {
    s_.mark_list.push_back({file.to_ns(mark.stamp), mark.tid, printable(mark.text)});
  }
  for (const wire::RssSample& sample : file.rss()) {
    s_.peak_anon_rss = std::max(s_.peak_anon_rss, sample.anon_bytes);
  }
  // A lifetime is a difference of stamps: one multiplication, where to_ns() would need two
  // divisions.
  const std::uint64_t units = file.ns_to_units(1'000'000'000);
  if (units > 0) ns_per_unit_ = 1e9 / static_cast<double>(units);
}

ThreadShare& HeapStatistics::count_call(const Event& event) {
  const auto thread = static_cast<std::uint32_t>(event.thread);
  if (cached_share_ == nullptr || thread != cached_thread_) {
    cached_share_ = &s_.thread_shares[thread];
    cached_thread_ = thread;
  }
  ++cached_share_->calls;
  ++s_.calls[index_of(event.op)];
  s_.bootstrap_calls += (event.path & wire::kPathBootstrap) != 0;
  s_.late_calls += (event.path & wire::kPathLate) != 0;
  if (event.notes != 0) [[unlikely]]
    s_.details.add(event);
  return *cached_share_;
}

void HeapStatistics::count_request(const Event& event, ThreadShare& thread) {
  add_request(s_, event.size, event.alignment != 0);
  thread.requested_bytes += event.size;
  if (event.path & wire::kPathMapped) {
    ++s_.mapped_calls;
    s_.mapped_bytes += event.size;
  }
  s_.other_arena_calls += (event.path & wire::kPathOtherArena) != 0;
  s_.grew_calls += (event.path & wire::kPathGrew) != 0;
}

void HeapStatistics::on_acquire(const Event& event, Block& block) {
  ThreadShare& thread = count_call(event);
  count_request(event, thread);
  thread.last_acquire = block.birth_event;
}

void HeapStatistics::on_release(const Event& event, Block& block) {
  ThreadShare& thread = count_call(event);
  ++s_.frees;
  if (static_cast<std::uint32_t>(event.thread) != block.thread) {
    ++s_.cross_thread_frees;
  } else if (thread.last_acquire == block.birth_event) {
    // Nothing else was acquired by this thread between birth and death.
    ++s_.temporary_blocks;
  }
  s_.lifetime_events.add(walk_.event_ordinal() - block.birth_event);
  const std::uint64_t units = event.stamp > block.birth_stamp ? event.stamp - block.birth_stamp : 0;
  s_.lifetime_ns.add(static_cast<std::uint64_t>(static_cast<double>(units) * ns_per_unit_));
}

void HeapStatistics::on_resize(const Event& event, Block& block, std::uint64_t old_size) {
  ThreadShare& thread = count_call(event);
  count_request(event, thread);
  s_.cross_thread_resizes += static_cast<std::uint32_t>(event.thread) != block.thread;
  if (event.pointer != event.old_pointer) {
    ++s_.resizes_moved;
    s_.resizes_moved_bytes += std::min(old_size, event.size);
  } else {
    ++s_.resizes_in_place;
  }
}

void HeapStatistics::on_query(const Event& event, Block& /*block*/) { count_call(event); }

void HeapStatistics::on_null(const Event& event) {
  count_call(event);
  ++s_.null[index_of(event.op)];
}

void HeapStatistics::on_failed(const Event& event, Block* /*block*/) {
  count_call(event);
  ++s_.failed[index_of(event.op)];
}

void HeapStatistics::on_unseen(const Event& event, Block* block) {
  ThreadShare& thread = count_call(event);
  if (block == nullptr) return;
  ++s_.unseen_resizes;
  count_request(event, thread);
}

void HeapStatistics::on_meta(const Event& event) {
  switch (event.op) {
    case wire::Op::kThreadStart:
      ++s_.thread_starts;
      // A thread counts from its birth, even when it never calls the allocator.
      s_.thread_shares[static_cast<std::uint32_t>(event.thread)];
      break;
    case wire::Op::kThreadEnd:
      ++s_.thread_ends;
      break;
    case wire::Op::kFork:
      ++s_.forks;
      break;
    case wire::Op::kMark:
      ++s_.marks;
      break;
    case wire::Op::kPause:
      ++s_.pauses;
      break;
    case wire::Op::kResume:
      ++s_.resumes;
      break;
    default:
      break;
  }
}

void HeapStatistics::finish(const formats::WalkTotals& totals) {
  s_.events = totals.events;
  s_.api_events = totals.api_events;
  s_.order = totals.order;
  s_.live = totals.live;
  s_.threads = s_.thread_shares.size();
  // Not every mark is an event too.
  s_.marks = std::max<std::uint64_t>(s_.marks, s_.mark_list.size());
  s_.prologue_blocks = totals.prologue.blocks;
  s_.prologue_bytes = totals.prologue.bytes;
  s_.prologue_unknown_blocks = totals.order.unseen_releases - totals.prologue.blocks;
  s_.maps = maps_.figures();
  s_.corrupt_blocks = totals.corrupt_blocks;
  s_.first_corruption = totals.first_corruption;
  if (totals.events > 0) {
    s_.duration_ns = file_.to_ns(totals.last_stamp) - file_.to_ns(totals.first_stamp);
  }
  if (totals.live.peak_bytes > 0) {  // since the first event, as duration_ns is
    s_.peak_ns = file_.to_ns(totals.live.peak_stamp) - file_.to_ns(totals.first_stamp);
  }
}

Statistics trace_statistics(const formats::TraceFile& file,
                            const std::function<void(std::uint64_t)>& progress) {
  formats::WalkOptions options;
  options.progress = progress;
  formats::HeapWalk walk(file, options);
  HeapStatistics gather(file, walk);
  gather.finish(walk.run(gather));
  return gather.statistics();
}

Statistics workload_statistics(const formats::WorkloadFile& file,
                               const std::function<void(std::uint64_t)>& progress) {
  const wire::WorkloadHeader& header = file.header();
  Statistics s;
  s.source = Statistics::Source::kWorkload;
  s.path = file.path();
  s.maps = map_figures(file);
  s.api_events = header.ops - std::min(header.ops, s.maps.all_calls());
  s.events = header.ops;
  s.threads = header.threads;
  s.duration_ns = header.recorded_ns;
  s.lanes = header.lanes;
  s.slots = header.slots;
  s.sync_points = header.sync_points;
  s.prologue_blocks = header.prologue_blocks;
  s.live.peak_bytes = header.peak_live_bytes;
  s.live.peak_blocks = header.peak_live_blocks;
  s.live.bytes = header.end_live_bytes;
  s.live.blocks = header.end_live_blocks;
  for (std::size_t i = 0; i < s.calls.size(); ++i) s.calls[i] = header.ops_by_kind[i];

  std::uint64_t words_done = 0;
  for (std::uint32_t lane = 0; lane < file.lanes().size(); ++lane) {
    const bool prologue = lane + 1 == file.lanes().size();
    LaneCursor cursor(file, lane);
    LaneOp op;
    std::uint64_t ops = 0;
    while (cursor.next(op)) {
      if (progress && ++ops % 65536 == 0) progress(words_done + op.position);
      const formats::OpView& view = op.view;
      if (!wire::is_api_op(view.op)) continue;
      if (prologue) {
        s.prologue_bytes += view.size;
        continue;
      }
      if (view.flags & wire::kOpFailed) {
        ++s.failed[index_of(view.op)];
        continue;
      }
      const wire::OpClass op_class = wire::op_class(view.op);
      if (op_class == wire::OpClass::kRelease || op_class == wire::OpClass::kQuery) {
        s.null[index_of(view.op)] += view.slot == 0;
      } else if (!(view.flags & wire::kOpFreesBlock)) {
        add_request(s, view.requested_bytes(), view.alignment != 0);
      }
    }
    if (cursor.error()) fail_on(*cursor.error());
    words_done += file.lanes()[lane].words;
  }
  return s;
}

}  // namespace alloctape::analysis
