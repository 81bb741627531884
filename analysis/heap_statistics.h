// What `stat` knows about a trace or a workload, and how it is gathered.
//
// Memory: constant, and a little for each thread; never in proportion to the number of events.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "analysis/call_details.h"
#include "analysis/histogram.h"
#include "analysis/map_statistics.h"
#include "formats/heap_walk.h"
#include "formats/trace_file.h"
#include "formats/wire/opcodes.h"
#include "formats/workload_file.h"

namespace alloctape::analysis {

using OpCounts = std::array<std::uint64_t, wire::kApiOpLimit>;

struct ThreadShare {
  std::uint64_t calls = 0;
  std::uint64_t requested_bytes = 0;
  // Ordinal of the acquire this thread made last: what tells a temporary block.
  std::uint64_t last_acquire = ~std::uint64_t{0};
};

struct Statistics {
  enum class Source { kTrace, kWorkload } source = Source::kTrace;
  std::string path;

  OpCounts calls{}, failed{}, null{};  // by opcode; failed and NULL calls are part of `calls`
  std::uint64_t events = 0, api_events = 0, dropped_events = 0;
  std::uint64_t thread_starts = 0, thread_ends = 0, forks = 0, marks = 0;
  std::uint64_t threads = 0;
  std::uint64_t duration_ns = 0;

  // Successful calls that ask for memory: acquires and resizes.
  std::uint64_t requests = 0, requested_total = 0, requested_min = 0, requested_max = 0;
  std::uint64_t zero_size_requests = 0, aligned_requests = 0;
  Log2Histogram sizes;

  formats::LiveCounts live;
  MapFigures maps;
  std::uint64_t peak_ns = 0;  // when the peak of live bytes was reached, since the start

  // The rest is known for traces alone.
  formats::OrderCounts order;
  std::uint64_t cross_thread_frees = 0, cross_thread_resizes = 0, frees = 0;
  std::uint64_t unseen_resizes = 0;
  Log2Histogram lifetime_events;
  DecadeHistogram lifetime_ns;
  std::uint64_t temporary_blocks = 0;
  std::uint64_t resizes_in_place = 0, resizes_moved = 0, resizes_moved_bytes = 0;
  std::uint64_t mapped_calls = 0, mapped_bytes = 0, other_arena_calls = 0, grew_calls = 0;
  std::uint64_t bootstrap_calls = 0, late_calls = 0;
  bool sparse_stamps = false;
  std::uint64_t rss_samples = 0,
                peak_anon_rss = 0;  // of the recorded process, sampled from outside
  std::uint64_t corrupt_blocks = 0;
  std::string first_corruption;
  std::uint64_t prologue_unknown_blocks = 0;  // released, but without their size
  std::uint64_t pauses = 0, resumes = 0;
  bool ring = false;
  std::uint64_t overwritten_events = 0, overwritten_blocks = 0;
  struct Mark {
    std::uint64_t ns = 0;  // since the start of the trace
    std::uint32_t tid = 0;
    std::string text;  // fit to be shown
  };
  std::vector<Mark> mark_list;
  CallDetails details;
  double ns_per_tick = 1;
  std::unordered_map<std::uint32_t, ThreadShare> thread_shares;

  // Blocks from before the recording. Of a trace: those whose release or resize told their size.
  std::uint64_t prologue_blocks = 0, prologue_bytes = 0;

  // Workloads alone.
  std::uint64_t lanes = 0, slots = 0, sync_points = 0;
};

// Fills Statistics from a walk. The walk's totals must be added by finish().
class HeapStatistics : public formats::HeapVisitor {
 public:
  HeapStatistics(const formats::TraceFile& file, const formats::HeapWalk& walk);
  void finish(const formats::WalkTotals& totals);
  const Statistics& statistics() const { return s_; }

  void on_acquire(const formats::Event& event, formats::Block& block) override;
  void on_release(const formats::Event& event, formats::Block& block) override;
  void on_resize(const formats::Event& event, formats::Block& block,
                 std::uint64_t old_size) override;
  void on_query(const formats::Event& event, formats::Block& block) override;
  void on_null(const formats::Event& event) override;
  void on_failed(const formats::Event& event, formats::Block* block) override;
  void on_unseen(const formats::Event& event, formats::Block* block) override;
  void on_meta(const formats::Event& event) override;
  void on_map(const formats::Event& event) override { maps_.on_map(event); }
  void on_map_detach(const formats::Event& event) override { maps_.on_map_detach(event); }

 private:
  ThreadShare& count_call(const formats::Event& event);
  void count_request(const formats::Event& event, ThreadShare& thread);

  const formats::TraceFile& file_;
  const formats::HeapWalk& walk_;
  double ns_per_unit_ = 1;
  MapStatistics maps_;
  Statistics s_;
  // Most events come from the thread of the event before; unordered_map never moves its values.
  std::uint32_t cached_thread_ = 0;
  ThreadShare* cached_share_ = nullptr;
};

// `progress` may be empty; it is told event words done.
Statistics trace_statistics(const formats::TraceFile& file,
                            const std::function<void(std::uint64_t)>& progress);
// Throws cli::UserError when an op cannot be decoded.
Statistics workload_statistics(const formats::WorkloadFile& file,
                               const std::function<void(std::uint64_t)>& progress);

}  // namespace alloctape::analysis
