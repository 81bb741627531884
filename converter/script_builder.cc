#include "converter/script_builder.h"

#include <algorithm>
#include <utility>

namespace alloctape::converter {
namespace {

using formats::Block;
using formats::Event;
using formats::Op;
using wire::OpClass;

constexpr std::uint64_t kMarkIntervalNs = 100'000;
constexpr std::uint64_t kUnknownSize = 16;  // of a block from before the recording
constexpr std::uint64_t kLargestUnseen = std::uint64_t{1} << 46;  // more is no block, but nonsense
constexpr std::uint64_t kNever = ~std::uint64_t{0};

Op op_of(const Event& event, std::uint64_t slot, std::uint8_t flags = 0) {
  const wire::OpTraits& traits = wire::traits(event.op);
  Op op{.op = event.op, .flags = flags, .slot = slot};
  // What a resize that released its block asked for is 0, whatever a broken trace may say.
  if (traits.takes_size && !(flags & wire::kOpFreesBlock)) op.size = event.size;
  if (traits.takes_alignment) op.alignment = event.alignment;
  return op;
}

bool is_resize(const Event& event) { return wire::op_class(event.op) == OpClass::kResize; }

wire::Op release_of(wire::Op acquire) {
  switch (acquire) {
    case wire::Op::kNew:
    case wire::Op::kNewNothrow:
      return wire::Op::kDelete;
    case wire::Op::kNewArray:
    case wire::Op::kNewArrayNothrow:
      return wire::Op::kDeleteArray;
    default:
      return wire::Op::kFree;
  }
}

// A size that makes malloc's block good enough for the release it is going to meet: allocators find
// the size class of a sized or aligned delete from its arguments.
std::uint64_t size_for_release(const Event& event, std::uint64_t known) {
  const wire::OpTraits& traits = wire::traits(event.op);
  std::uint64_t size = known != 0 ? known : kUnknownSize;
  if (traits.takes_size) size = event.size;
  if (size > kLargestUnseen || event.alignment > kLargestUnseen) return kUnknownSize;
  if (traits.takes_alignment && event.alignment > 1) {
    const std::uint64_t rest = size % event.alignment;
    if (size == 0 || rest != 0) size += event.alignment - rest;
  }
  return size;
}

}  // namespace

ScriptBuilder::ScriptBuilder(const formats::TraceFile& trace, formats::WorkloadWriter& writer,
                             const ConvertOptions& options)
    : trace_(trace),
      order_(options.order),
      sequencer_(writer),
      slots_(sequencer_, options.slots),
      lanes_(sequencer_),
      bounded_(sequencer_, std::max<std::uint64_t>(1, options.window_events)),
      maps_(trace.header().page_bytes, options.maps, sequencer_, slots_,
            {[this](const Event& event) { return begin(event); },
             [this](std::uint32_t lane, const Event& event) { end(lane, event, 0); }}),
      mark_interval_(std::max<std::uint64_t>(1, trace.ns_to_units(kMarkIntervalNs))) {
  if (trace.rss().empty()) next_rss_stamp_ = kNever;
}

// ---- what is the same for every op

std::uint64_t ScriptBuilder::ns_since_first(std::uint64_t stamp) const {
  const std::uint64_t ns = trace_.to_ns(stamp);
  return ns > first_ns_ ? ns - first_ns_ : 0;
}

std::uint32_t ScriptBuilder::lane_of(const Event& event) {
  if (!started_) [[unlikely]] {
    started_ = true;
    first_ns_ = trace_.to_ns(event.stamp);
  }
  return lanes_.lane_of(static_cast<std::uint32_t>(event.thread), event.stamp);
}

std::uint32_t ScriptBuilder::begin(const Event& event) {
  const std::uint32_t lane = lane_of(event);
  if (lanes_.mark_due(lane, event.stamp, mark_interval_)) [[unlikely]] {
    sequencer_.append_time(lane, ns_since_first(event.stamp));
  }
  if (order_ == wire::SyncOrder::kBounded) {
    const wire::OpClass c = wire::op_class(event.op);
    const bool acquires = c == wire::OpClass::kAcquire || c == wire::OpClass::kResize;
    bounded_.before(lane, acquires && !event.failed() ? event.size : 0,
                    static_cast<std::uint64_t>(std::max<std::int64_t>(0, live_bytes_)),
                    static_cast<std::uint64_t>(peak_bytes_));
  }
  if (order_ == wire::SyncOrder::kSerial) sequencer_.require(lane, latest_);
  return lane;
}

void ScriptBuilder::end(std::uint32_t lane, const Event& event, std::uint64_t acquired_bytes) {
  ++ops_;
  lanes_.count_op(lane, static_cast<std::uint32_t>(event.thread));
  if (order_ == wire::SyncOrder::kBounded) {
    bounded_.after(acquired_bytes,
                   static_cast<std::uint64_t>(std::max<std::int64_t>(0, live_bytes_)),
                   static_cast<std::uint64_t>(peak_bytes_));
  }
  if (order_ == wire::SyncOrder::kSerial) latest_ = sequencer_.here(lane);
  if (live_curve_.due()) [[unlikely]] {
    live_curve_.add({ns_since_first(event.stamp), ops_, static_cast<std::uint64_t>(live_bytes_)});
  }
  if (event.stamp >= next_rss_stamp_) [[unlikely]]
    place_rss_samples(event);
}

// Samples carry times only: they get the count of ops that had been done.
void ScriptBuilder::place_rss_samples(const Event& event) {
  const auto& samples = trace_.rss();
  const std::uint32_t shift = trace_.header().clock_shift;
  while (rss_curve_.size() < samples.size()) {
    const wire::RssSample& sample = samples[rss_curve_.size()];
    next_rss_stamp_ = sample.ticks >> shift;
    if (next_rss_stamp_ > event.stamp) return;
    const std::uint64_t at = trace_.ticks_to_ns(sample.ticks);
    rss_curve_.push_back({at > first_ns_ ? at - first_ns_ : 0, ops_, sample.anon_bytes});
  }
  next_rss_stamp_ = kNever;
}

void ScriptBuilder::touch(std::uint32_t lane, Block& block, std::uint64_t position) {
  block.user.b = Place{lane, position}.packed();
}

void ScriptBuilder::grow_live(std::uint64_t bytes, std::uint64_t blocks) {
  live_bytes_ += static_cast<std::int64_t>(bytes);
  live_blocks_ += static_cast<std::int64_t>(blocks);
  peak_bytes_ = std::max(peak_bytes_, live_bytes_);
  peak_blocks_ = std::max(peak_blocks_, live_blocks_);
}

void ScriptBuilder::shrink_live(std::uint64_t bytes, std::uint64_t blocks) {
  live_bytes_ -= static_cast<std::int64_t>(bytes);
  live_blocks_ -= static_cast<std::int64_t>(blocks);
}

// ---- events of blocks whose birth was recorded

void ScriptBuilder::on_acquire(const Event& event, Block& block) {
  const std::uint32_t lane = begin(event);
  block.user.a = slots_.acquire(lane);
  std::uint8_t flags = 0;
  if (is_resize(event)) [[unlikely]] {
    flags = wire::kOpFromNull;
    ++counts_.reallocs_from_null;
  }
  touch(lane, block, sequencer_.append(lane, op_of(event, block.user.a, flags)));
  grow_live(block.size, 1);
  end(lane, event, block.size);
}

void ScriptBuilder::on_release(const Event& event, Block& block) {
  const std::uint32_t lane = begin(event);
  sequencer_.require(lane, Place::unpack(block.user.b));
  std::uint8_t flags = 0;
  if (is_resize(event)) [[unlikely]] {
    flags = wire::kOpFreesBlock;
    ++counts_.reallocs_to_zero;
  }
  sequencer_.append(lane, op_of(event, block.user.a, flags));
  slots_.release(lane, block.user.a);
  shrink_live(block.size, 1);
  end(lane, event, 0);
}

void ScriptBuilder::on_resize(const Event& event, Block& block, std::uint64_t old_size) {
  const std::uint32_t lane = begin(event);
  sequencer_.require(lane, Place::unpack(block.user.b));
  if (event.size == 0) ++counts_.reallocs_to_zero;
  touch(lane, block, sequencer_.append(lane, op_of(event, block.user.a)));
  shrink_live(old_size, 0);
  grow_live(block.size, 0);
  end(lane, event, block.size > old_size ? block.size - old_size : 0);
}

void ScriptBuilder::on_query(const Event& event, Block& block) {
  const std::uint32_t lane = begin(event);
  sequencer_.require(lane, Place::unpack(block.user.b));
  touch(lane, block, sequencer_.append(lane, op_of(event, block.user.a)));
  end(lane, event, 0);
}

void ScriptBuilder::on_lost(const Event&, Block&) {
  // Its slot stays taken: nothing may be put where a replay still holds a block.
  ++counts_.lost_blocks;
}

// The program freed it while nobody looked, at the latest now: somebody must, or a replay's heap
// would grow with every pause. By plain means: what else the release was told is not known.
void ScriptBuilder::on_lost_in_gap(const Event& event, Block& block) {
  const std::uint32_t lane = begin(event);
  sequencer_.require(lane, Place::unpack(block.user.b));
  Event release;
  release.op = release_of(block.op);
  sequencer_.append(lane, op_of(release, block.user.a));
  slots_.release(lane, block.user.a);
  shrink_live(block.size, 1);
  ++counts_.freed_in_gaps;
  end(lane, event, 0);
}

// ---- calls without a block

void ScriptBuilder::on_null(const Event& event) {
  const std::uint32_t lane = begin(event);
  ++(wire::op_class(event.op) == OpClass::kQuery ? counts_.null_queries : counts_.null_releases);
  sequencer_.append(lane, op_of(event, 0));
  end(lane, event, 0);
}

void ScriptBuilder::on_failed(const Event& event, Block* block) {
  const std::uint32_t lane = begin(event);
  ++counts_.failed_calls;
  const OpClass op_class = wire::op_class(event.op);
  // A release or a query cannot fail; should a trace say so, NULL is what harms nobody.
  const bool can_fail = op_class == OpClass::kAcquire || op_class == OpClass::kResize;
  Op op = op_of(event, 0, can_fail ? wire::kOpFailed : 0);
  // The product overflowed: the factors are what counts.
  if (event.count != 0 && wire::traits(event.op).takes_count) {
    op.count = event.count;
    op.size = event.value;
  }
  if (block != nullptr) {
    sequencer_.require(lane, Place::unpack(block->user.b));
    op.slot = block->user.a;
    touch(lane, *block, sequencer_.append(lane, op));
  } else if (is_resize(event) && event.old_pointer != 0) {
    UnseenBlock& unseen = unseen_block(event.old_pointer);
    sequencer_.require(lane, unseen.touched);
    op.slot = unseen.slot;
    unseen.touched = {lane, sequencer_.append(lane, op)};
  } else {
    sequencer_.append(lane, op);
  }
  end(lane, event, 0);
}

// ---- blocks from before the recording

void ScriptBuilder::add_to_prologue(std::uint64_t slot, std::uint64_t size) {
  sequencer_.append_prologue(slot, size, false);
  ++counts_.prologue_blocks;
  ++counts_.prologue_unknown_blocks;
}

void ScriptBuilder::add_to_known_prologue(std::uint64_t slot, std::uint64_t size) {
  sequencer_.append_prologue(slot, size, true);
  ++counts_.prologue_blocks;
  counts_.prologue_bytes += size;
  shrink_live(size, 1);  // as if it had been live all the time; finish() adds the whole prologue
}

// The block at an address that lives on unseen. It joins the prologue when its size is known best:
// when it is released, or at the end.
UnseenBlock& ScriptBuilder::unseen_block(std::uint64_t address) {
  if (UnseenBlock* block = unseen_.find(address)) return *block;
  return unseen_.add(address, {.slot = slots_.acquire_fresh(), .size = 0, .touched = {}});
}

void ScriptBuilder::release_unseen(const Event& event, std::uint32_t lane) {
  const bool resize = is_resize(event);
  UnseenBlock block = unseen_block(resize ? event.old_pointer : event.pointer);
  unseen_.take(resize ? event.old_pointer : event.pointer);
  if (const auto size = formats::unseen_block_size(event)) {
    add_to_known_prologue(block.slot, *size);
  } else {
    add_to_prologue(block.slot, resize ? std::max(block.size, kUnknownSize)
                                       : size_for_release(event, block.size));
  }
  sequencer_.require(lane, block.touched);
  if (resize) ++counts_.reallocs_to_zero;
  sequencer_.append(lane, op_of(event, block.slot, resize ? wire::kOpFreesBlock : 0));
  slots_.release(lane, block.slot);
}

void ScriptBuilder::query_unseen(const Event& event, std::uint32_t lane) {
  UnseenBlock& block = unseen_block(event.pointer);
  block.size = event.value;
  sequencer_.require(lane, block.touched);
  block.touched = {lane, sequencer_.append(lane, op_of(event, block.slot))};
}

void ScriptBuilder::resize_unseen(const Event& event, std::uint32_t lane, Block& block) {
  const UnseenBlock unseen = unseen_block(event.old_pointer);
  unseen_.take(event.old_pointer);
  if (const auto size = formats::unseen_block_size(event)) {
    add_to_known_prologue(unseen.slot, *size);
  } else {
    add_to_prologue(unseen.slot, std::max(unseen.size, kUnknownSize));
  }
  sequencer_.require(lane, unseen.touched);
  block.user.a = unseen.slot;
  touch(lane, block, sequencer_.append(lane, op_of(event, unseen.slot)));
  grow_live(block.size, 1);
}

void ScriptBuilder::on_unseen(const Event& event, Block* block) {
  const std::uint32_t lane = begin(event);
  if (block != nullptr) {
    resize_unseen(event, lane, *block);
  } else if (wire::op_class(event.op) == OpClass::kQuery) {
    query_unseen(event, lane);
  } else {
    release_unseen(event, lane);
  }
  end(lane, event, block != nullptr ? block->size : 0);
}

// ---- what is no call

void ScriptBuilder::on_meta(const Event& event) {
  switch (event.op) {
    case wire::Op::kThreadStart:
      lane_of(event);
      break;
    case wire::Op::kThreadEnd:
      begin(event);  // an exit keeps its distance like an op
      lanes_.end_thread(static_cast<std::uint32_t>(event.thread), event.stamp);
      break;
    case wire::Op::kFork:
      ++counts_.forks;
      break;
    case wire::Op::kMark:
      ++counts_.marks;
      break;
    default:
      break;
  }
}

formats::WorkloadWriter::Totals ScriptBuilder::finish(const formats::WalkTotals& walk,
                                                      ConvertSummary& summary) {
  unseen_.for_each([this](const UnseenBlock& block) {
    add_to_prologue(block.slot, block.size != 0 ? block.size : kUnknownSize);
  });
  formats::WorkloadWriter::Totals totals;
  totals.threads = lanes_.finish(walk.last_stamp);
  for (wire::ThreadEntry& thread : totals.threads) {
    thread.start_ns = ns_since_first(thread.start_ns);
    thread.end_ns = std::max(thread.start_ns, ns_since_first(thread.end_ns));
  }
  totals.order = order_;
  totals.slots = slots_.slots();
  const std::uint64_t known_blocks = counts_.prologue_blocks - counts_.prologue_unknown_blocks;
  totals.peak_live_bytes = static_cast<std::uint64_t>(peak_bytes_) + counts_.prologue_bytes;
  totals.peak_live_blocks = static_cast<std::uint64_t>(peak_blocks_) + known_blocks;
  totals.end_live_bytes = static_cast<std::uint64_t>(live_bytes_) + counts_.prologue_bytes;
  totals.end_live_blocks = static_cast<std::uint64_t>(live_blocks_) + known_blocks;
  totals.peak_mapped_bytes = maps_.summary().peak_mapped_bytes;
  totals.end_mapped_bytes = maps_.summary().end_mapped_bytes;
  totals.recorded_ns = started_ ? ns_since_first(walk.last_stamp) : 0;
  if (ops_ != 0)
    live_curve_.add({totals.recorded_ns, ops_, static_cast<std::uint64_t>(live_bytes_)});
  totals.live_curve = live_curve_.points();
  for (wire::CurvePoint& point : totals.live_curve) point.bytes += counts_.prologue_bytes;
  for (std::size_t i = rss_curve_.size(); i < trace_.rss().size(); ++i) {
    const std::uint64_t at = trace_.ticks_to_ns(trace_.rss()[i].ticks);
    rss_curve_.push_back({at > first_ns_ ? at - first_ns_ : 0, ops_, trace_.rss()[i].anon_bytes});
  }
  totals.rss_curve = std::move(rss_curve_);

  summary = counts_;
  summary.events = walk.events;
  summary.ops = ops_;
  summary.threads = totals.threads.size();
  summary.unended_threads = lanes_.unended_threads();
  summary.late_ops = lanes_.late_ops();
  summary.lanes = sequencer_.lanes();
  summary.slots = totals.slots;
  summary.sync_points = sequencer_.sync_points();
  summary.peak_live_bytes = totals.peak_live_bytes;
  summary.peak_live_blocks = totals.peak_live_blocks;
  summary.end_live_bytes = totals.end_live_bytes;
  summary.end_live_blocks = totals.end_live_blocks;
  summary.recorded_ns = totals.recorded_ns;
  summary.order = walk.order;
  summary.maps = maps_.summary();
  summary.corrupt_blocks = walk.corrupt_blocks;
  summary.first_corruption = walk.first_corruption;
  return totals;
}

}  // namespace alloctape::converter
