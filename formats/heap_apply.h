// One event against the heap: finds its block, keeps the counts, tells the visitor. Where an event
// contradicts the heap, the caller decides: without `force` nothing happens and the event may be
// tried again later; with it the event is taken as it is. Internal to formats/.
#pragma once

#include <algorithm>
#include <cstdint>

#include "formats/event.h"
#include "formats/heap_walk.h"
#include "formats/live_table.h"

namespace alloctape::formats {

// What an event does to the heap. The order of the checks is that of HeapVisitor's comment.
enum class Action : std::uint8_t {
  kMeta,
  // Memory from the kernel: the heap does not change.
  kMap,         // at stamp
  kMapRelease,  // munmap, madvise: at release_stamp
  kMapMove,     // mremap that moved: on_map_detach at release_stamp, on_map at stamp
  kNull,
  kFailed,         // nothing acquired or released; a failed resize names its block
  kAcquire,        // malloc and its kin, realloc(NULL, n)
  kRelease,        // free and its kin
  kResizeRelease,  // realloc(p, 0) that returned NULL
  kQuery,
  kResizeSame,  // in place
  kResizeMove,  // detach at release_stamp, attach at stamp
};

inline Action map_action_of(const Event& e) {
  if (e.failed()) return Action::kMap;
  if (e.op == wire::Op::kMunmap || e.op == wire::Op::kMadvise) return Action::kMapRelease;
  if (e.op != wire::Op::kMremap || e.pointer == e.old_pointer) return Action::kMap;
  return Action::kMapMove;
}

inline Action action_of(const Event& e) {
  const wire::OpClass op_class = wire::op_class(e.op);
  if (op_class == wire::OpClass::kMeta || op_class == wire::OpClass::kInvalid) return Action::kMeta;
  if (op_class == wire::OpClass::kMap) return map_action_of(e);
  if (e.failed()) [[unlikely]]
    return Action::kFailed;
  switch (op_class) {
    case wire::OpClass::kAcquire:
      return e.pointer == 0 ? Action::kFailed : Action::kAcquire;
    case wire::OpClass::kRelease:
      return e.pointer == 0 ? Action::kNull : Action::kRelease;
    case wire::OpClass::kQuery:
      return e.pointer == 0 ? Action::kNull : Action::kQuery;
    default:
      if (e.old_pointer == 0) return e.pointer == 0 ? Action::kFailed : Action::kAcquire;
      if (e.pointer == 0) return Action::kResizeRelease;
      return e.pointer == e.old_pointer ? Action::kResizeSame : Action::kResizeMove;
  }
}

// A resize between its two halves.
struct InFlight {
  LiveTable::Number number = LiveTable::kNone;  // kNone: a block this trace never saw
};

class HeapApply {
 public:
  explicit HeapApply(HeapVisitor& visitor) : visitor_(visitor) {}

  LiveTable& table() { return table_; }
  const LiveTable& table() const { return table_; }
  const LiveCounts& live() const { return live_; }
  std::uint64_t ordinal() const { return ordinal_; }
  const WalkTotals& totals() const { return totals_; }
  OrderCounts& order() { return totals_.order; }

  // Every action but kResizeMove. False: not now (never when forced).
  bool apply(const Event& e, Action action, bool force) {
    switch (action) {
      case Action::kAcquire:
        return acquire(e, force);
      case Action::kRelease:
        return release(e, e.pointer, force);
      case Action::kResizeRelease:
        return release(e, e.old_pointer, force);
      case Action::kQuery:
        return query(e, force);
      case Action::kResizeSame:
        return resize_same(e, force);
      case Action::kFailed:
        return failed(e, force);
      case Action::kNull:
        visitor_.on_null(e);
        break;
      case Action::kMap:
      case Action::kMapRelease:
      case Action::kMapMove:
        visitor_.on_map(e);
        ++totals_.map_events;
        break;
      default:
        visitor_.on_meta(e);
        ++meta_events_;
        break;
    }
    delivered(e);
    return true;
  }

  // The two halves of kResizeMove.
  bool detach(const Event& e, bool force, InFlight& in_flight) {
    in_flight.number = table_.detach(e.old_pointer);
    return in_flight.number != LiveTable::kNone || force || is_late(e);
  }
  bool attach(const Event& e, bool force, InFlight& in_flight) {
    if (const LiveTable::Number there = table_.find(e.pointer); there != LiveTable::kNone) {
      if (!force && !may_be_gone(there)) return false;
      lose(e, there);
    }
    if (in_flight.number == LiveTable::kNone) {
      unseen_resize(e);
    } else {
      table_.attach(in_flight.number, e.pointer);
      resized(e, in_flight.number);
      in_flight.number = LiveTable::kNone;
    }
    delivered(e);
    return true;
  }

  void map_detach(const Event& e) { visitor_.on_map_detach(e); }

  // Gaps, see heap_walk.h. A gap that is open may have swallowed any release.
  void open_gap() { ++open_gaps_; }
  void close_gap() { --open_gaps_; }
  void end_gap(std::uint64_t stamp) { gap_end_ = std::max(gap_end_, stamp); }

  WalkTotals finish() {
    live_.peak_bytes += totals_.prologue.bytes;
    live_.peak_blocks += totals_.prologue.blocks;
    // At the start, before anything else happened.
    if (live_.peak_stamp == 0) live_.peak_stamp = totals_.first_stamp;
    totals_.events = ordinal_;
    totals_.api_events = ordinal_ - meta_events_ - totals_.map_events;
    totals_.live = live_;
    return totals_;
  }

 private:
  // Contradictions that the recording itself explains are taken as they come: waiting for a partner
  // that does not exist would keep the rest of the stream back, and others would meet its addresses
  // as they were before.
  static bool is_late(const Event& e) { return (e.notes & kNoteOldUsable) != 0; }
  bool may_be_gone(LiveTable::Number number) const {
    return open_gaps_ != 0 || table_.block(number).birth_stamp < gap_end_;
  }

  bool acquire(const Event& e, bool force) {
    bool inserted = false;
    LiveTable::Number number = table_.find_or_insert(e.pointer, inserted);
    if (!inserted) [[unlikely]] {
      if (!force && !may_be_gone(number)) return false;
      lose(e, number);
      number = table_.find_or_insert(e.pointer, inserted);
    }
    Block& block = table_.block(number);
    born(e, block);
    visitor_.on_acquire(e, block);
    delivered(e);
    return true;
  }

  bool release(const Event& e, std::uint64_t address, bool force) {
    const LiveTable::Number number = table_.detach(address);
    if (number == LiveTable::kNone) [[unlikely]] {
      if (!force && !is_late(e)) return false;
      ++totals_.order.unseen_releases;
      release_prologue(e);
      visitor_.on_unseen(e, nullptr);
    } else {
      Block& block = table_.block(number);
      live_.bytes -= block.size;
      --live_.blocks;
      visitor_.on_release(e, block);
      table_.free_block(number);
    }
    delivered(e);
    return true;
  }

  bool query(const Event& e, bool force) {
    const LiveTable::Number number = table_.find(e.pointer);
    if (number == LiveTable::kNone) [[unlikely]] {
      if (!force) return false;
      ++totals_.order.unseen_queries;
      visitor_.on_unseen(e, nullptr);
    } else {
      visitor_.on_query(e, table_.block(number));
    }
    delivered(e);
    return true;
  }

  bool resize_same(const Event& e, bool force) {
    const LiveTable::Number number = table_.find(e.pointer);
    if (number == LiveTable::kNone) [[unlikely]] {
      if (!force && !is_late(e)) return false;
      unseen_resize(e);
    } else {
      resized(e, number);
    }
    delivered(e);
    return true;
  }

  bool failed(const Event& e, bool force) {
    Block* block = nullptr;
    // Only a resize has a block to leave alone; a hostile trace may give others an old pointer.
    if (e.old_pointer != 0 && wire::op_class(e.op) == wire::OpClass::kResize) {
      const LiveTable::Number number = table_.find(e.old_pointer);
      if (number != LiveTable::kNone) block = &table_.block(number);
      if (block == nullptr && !force) return false;
    }
    visitor_.on_failed(e, block);
    delivered(e);
    return true;
  }

  void resized(const Event& e, LiveTable::Number number) {
    Block& block = table_.block(number);
    const std::uint64_t old_size = block.size;
    live_.bytes = live_.bytes - old_size + e.size;
    block.size = e.size;
    note_peak(e);
    visitor_.on_resize(e, block, old_size);
  }

  // REQUIRES: nothing is live at e.pointer.
  void unseen_resize(const Event& e) {
    ++totals_.order.unseen_releases;
    release_prologue(e);
    bool inserted = false;
    Block& block = table_.block(table_.find_or_insert(e.pointer, inserted));
    born(e, block);
    visitor_.on_unseen(e, &block);
  }

  // A block never seen before leaves, or is about to change its size.
  void release_prologue(const Event& e) {
    const std::optional<std::uint64_t> size = unseen_block_size(e);
    if (!size) return;
    ++totals_.prologue.blocks;
    totals_.prologue.bytes += *size;
  }

  void lose(const Event& e, LiveTable::Number number) {
    Block& block = table_.block(number);
    live_.bytes -= block.size;
    --live_.blocks;
    if (may_be_gone(number)) {
      ++totals_.order.lost_in_gap;
      visitor_.on_lost_in_gap(e, block);
    } else {
      ++totals_.order.unrepairable;
      visitor_.on_lost(e, block);
    }
    table_.detach(block.address);
    table_.free_block(number);
  }

  void born(const Event& e, Block& block) {
    block.size = e.size;
    block.birth_stamp = e.stamp;
    block.birth_event = ordinal_;
    block.thread = static_cast<std::uint32_t>(e.thread);
    block.op = e.op;
    live_.bytes += e.size;
    ++live_.blocks;
    note_peak(e);
  }

  // The highest level of what was seen less what left the prologue, from 0 on: the differences may
  // be negative, so they are compared as signed numbers.
  void note_peak(const Event& e) {
    const auto blocks = static_cast<std::int64_t>(live_.blocks - totals_.prologue.blocks);
    const auto bytes = static_cast<std::int64_t>(live_.bytes - totals_.prologue.bytes);
    if (blocks > static_cast<std::int64_t>(live_.peak_blocks)) {
      live_.peak_blocks = static_cast<std::uint64_t>(blocks);
    }
    if (bytes > static_cast<std::int64_t>(live_.peak_bytes)) {
      live_.peak_bytes = static_cast<std::uint64_t>(bytes);
      live_.peak_event = ordinal_;
      live_.peak_stamp = e.stamp;
    }
  }

  void delivered(const Event& e) {
    if (ordinal_++ == 0) totals_.first_stamp = e.stamp;
    totals_.first_stamp = std::min(totals_.first_stamp, e.stamp);
    totals_.last_stamp = std::max(totals_.last_stamp, e.stamp);
  }

  HeapVisitor& visitor_;
  LiveTable table_;
  LiveCounts live_;
  std::uint64_t ordinal_ = 0;
  std::uint64_t meta_events_ = 0;
  std::uint64_t open_gaps_ = 0, gap_end_ = 0;
  WalkTotals totals_;
};

}  // namespace alloctape::formats
