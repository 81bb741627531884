// The visitor of the walk that writes the scripts: each event becomes an op in its thread's lane,
// behind the sync points it needs.
#pragma once

#include <cstdint>
#include <vector>

#include "converter/bounded_order.h"
#include "converter/converter.h"
#include "converter/curve.h"
#include "converter/lanes.h"
#include "converter/map_script.h"
#include "converter/sequencer.h"
#include "converter/slot_allocator.h"
#include "converter/unseen_blocks.h"
#include "formats/heap_walk.h"
#include "formats/workload_writer.h"

namespace alloctape::converter {

// Block::user.a is the block's slot, user.b the place of the last op on it (packed).
class ScriptBuilder final : public formats::HeapVisitor {
 public:
  ScriptBuilder(const formats::TraceFile& trace, formats::WorkloadWriter& writer,
                const ConvertOptions& options);

  void on_acquire(const formats::Event&, formats::Block&) override;
  void on_release(const formats::Event&, formats::Block&) override;
  void on_resize(const formats::Event&, formats::Block&, std::uint64_t old_size) override;
  void on_query(const formats::Event&, formats::Block&) override;
  void on_null(const formats::Event&) override;
  void on_failed(const formats::Event&, formats::Block*) override;
  void on_unseen(const formats::Event&, formats::Block*) override;
  void on_lost(const formats::Event&, formats::Block&) override;
  void on_lost_in_gap(const formats::Event&, formats::Block&) override;
  void on_meta(const formats::Event&) override;
  void on_map(const formats::Event& event) override { maps_.on_map(event); }
  void on_map_detach(const formats::Event& event) override { maps_.on_map_detach(event); }

  // After the walk: exits, the rest of the prologue. Fills in what the builder knows.
  formats::WorkloadWriter::Totals finish(const formats::WalkTotals& walk, ConvertSummary& summary);

 private:
  std::uint32_t lane_of(const formats::Event& event);
  // Everything that comes before the op itself; returns the lane.
  std::uint32_t begin(const formats::Event& event);
  // Everything that comes after it.
  void end(std::uint32_t lane, const formats::Event& event, std::uint64_t acquired_bytes);
  void touch(std::uint32_t lane, formats::Block& block, std::uint64_t position);

  void release_unseen(const formats::Event&, std::uint32_t lane);
  void query_unseen(const formats::Event&, std::uint32_t lane);
  void resize_unseen(const formats::Event&, std::uint32_t lane, formats::Block&);
  UnseenBlock& unseen_block(std::uint64_t address);
  void add_to_prologue(std::uint64_t slot, std::uint64_t size);
  void add_to_known_prologue(std::uint64_t slot, std::uint64_t size);
  void grow_live(std::uint64_t bytes, std::uint64_t blocks);
  void shrink_live(std::uint64_t bytes, std::uint64_t blocks);
  std::uint64_t ns_since_first(std::uint64_t stamp) const;
  void place_rss_samples(const formats::Event& event);

  const formats::TraceFile& trace_;
  const wire::SyncOrder order_;
  Sequencer sequencer_;
  SlotAllocator slots_;
  Lanes lanes_;
  BoundedOrder bounded_;
  MapScript maps_;
  UnseenBlocks unseen_;
  Place latest_;  // where the latest op ended (serial order)
  bool started_ = false;
  std::uint64_t first_ns_ = 0;
  std::uint64_t mark_interval_;  // in clock units
  std::uint64_t ops_ = 0;
  // Seen acquired, less what left the prologue: without the prologue, whose size is known at the end
  // only (formats/heap_walk.h). The peaks start at 0, which is where the recording does.
  std::int64_t live_bytes_ = 0, live_blocks_ = 0, peak_bytes_ = 0, peak_blocks_ = 0;
  ConvertSummary counts_;
  Curve live_curve_;
  std::vector<wire::CurvePoint> rss_curve_;
  std::uint64_t next_rss_stamp_ = 0;  // of the sample that goes into the curve next
};

}  // namespace alloctape::converter
