#include "formats/heap_walk.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "formats/heap_apply.h"
#include "formats/live_table.h"

namespace alloctape::formats {

namespace {

// Events are decoded this many at a time, so that the table entries they will need are on their way
// from memory before they are needed. With very many streams fewer, so that memory stays small.
constexpr unsigned kBatch = 32, kLeastBatch = 4, kEventsDecodedAhead = 4096;
constexpr std::uint64_t kProgressWords = std::uint64_t{1} << 20;

// Where an event stands in the merge: by time; at equal times what releases an address goes first;
// then the lower stream.
struct Key {
  std::uint64_t stamp = 0;
  std::uint64_t tie = 0;
  friend bool operator<(const Key& a, const Key& b) {
    return a.stamp != b.stamp ? a.stamp < b.stamp : a.tie < b.tie;
  }
};
constexpr Key kNever{~std::uint64_t{0}, ~std::uint64_t{0}};

// What an event that is held back waits for.
enum class Wants : std::uint8_t { kRelease, kAcquire };

struct Cursor {
  Cursor(const TraceFile& file, std::uint32_t index, unsigned batch_events, const BlockRange& range)
      : decoder(file, StreamIndex{index}, range), stream(index), batch(batch_events) {}

  const Event& head() const { return batch[next]; }

  StreamDecoder decoder;
  std::uint32_t stream;
  unsigned next = 0, count = 0;
  std::uint64_t words = 0;  // decoded so far
  // The head event.
  Action action = Action::kMeta;
  bool in_gap = false;    // its thread was paused, and has not gone on
  bool detached = false;  // a kResizeMove or kMapMove whose first half is done
  bool force = false;     // held until its window was over: taken as it is
  InFlight in_flight;
  Key key;
  std::uint64_t last_stamp = 0;  // keys never fall, whatever the stamps do
  // Holding back. The partner's key is kept to tell an inversion from a partner that was itself
  // late.
  bool was_held = false, partner_was_later = false;
  Wants wants = Wants::kRelease;
  std::uint64_t wanted = 0;  // address
  std::uint64_t deadline = 0;
  std::vector<Event> batch;
};

}  // namespace

struct HeapWalk::State {
  State(const TraceFile& trace, WalkOptions walk_options)
      : file(trace), options(std::move(walk_options)) {}

  WalkTotals run(HeapVisitor& visitor);

  // The events of a cursor.
  bool refill(Cursor& c);
  bool load_head(Cursor& c);
  bool finish_head(Cursor& c);
  void set_key(Cursor& c);
  void note_gap(Cursor& c, const Event& e);
  void find_missing_blocks();
  // Holding back.
  enum class Step { kGoOn, kBlocked, kEnded };
  Step step(Cursor& c, bool alone);
  void hold(std::uint32_t cursor);
  void expire(std::size_t held_index);
  void note_partner(Wants served, std::uint64_t address, const Key& key);
  std::size_t next_to_expire() const;
  // Merging.
  void run_one(Cursor& c);
  void run_many();
  struct Entry {
    Key key;
    std::uint32_t cursor;
  };
  void push(std::uint32_t cursor);
  void pop_top();
  void sift_down();

  TraceFile file;
  WalkOptions options;
  std::unique_ptr<HeapApply> apply;
  std::vector<Cursor> cursors;
  std::vector<Entry> heap;           // binary, smallest key first
  std::vector<std::uint32_t> held;   // cursors that wait for a partner
  std::vector<std::uint32_t> woken;  // cursors whose partner showed during this step
  std::uint64_t window = 0;          // in clock units
  std::uint64_t words = 0, words_reported = 0;
  std::uint64_t corrupt_blocks = 0;
  std::string first_corruption;
};

// ---- the events of a cursor

bool HeapWalk::State::refill(Cursor& c) {
  const auto batch = static_cast<unsigned>(c.batch.size());
  c.next = c.count = 0;
  for (;;) {
    while (c.count < batch && c.decoder.next(c.batch[c.count])) {
      ++c.count;
    }
    if (c.count == batch || c.decoder.error() == nullptr) break;
    if (corrupt_blocks++ == 0) first_corruption = c.decoder.error()->to_string();
    if (!c.decoder.skip_block()) break;
  }
  if (const LiveTable& table = apply->table(); table.large()) {
    for (unsigned i = 0; i < c.count; ++i) table.prefetch_entry(c.batch[i].pointer);
    for (unsigned i = 0; i < c.count; ++i) table.prefetch_block(c.batch[i].pointer);
  }
  const std::uint64_t now = c.decoder.words_done();
  words += now - c.words;
  c.words = now;
  if (words - words_reported >= kProgressWords) {
    words_reported = words;
    if (options.progress) options.progress(words);
  }
  return c.count != 0;
}

// Makes the next event the head; false at the end of the stream.
bool HeapWalk::State::load_head(Cursor& c) {
  if (c.next == c.count && !refill(c)) return false;
  c.action = action_of(c.head());
  c.detached = c.force = c.was_held = c.partner_was_later = false;
  set_key(c);
  return true;
}

bool HeapWalk::State::finish_head(Cursor& c) {
  if (c.was_held && c.partner_was_later) ++apply->order().repaired;
  ++c.next;
  return load_head(c);
}

void HeapWalk::State::set_key(Cursor& c) {
  const Event& e = c.head();
  const bool moves = c.action == Action::kResizeMove || c.action == Action::kMapMove;
  const bool releases = c.action == Action::kRelease || c.action == Action::kResizeRelease ||
                        c.action == Action::kMapRelease || (moves && !c.detached);
  // Resizes and mmap's family carry two stamps; for all others they are equal.
  c.last_stamp = std::max(c.last_stamp, releases ? e.release_stamp : e.stamp);
  c.key = {c.last_stamp, (releases ? 0 : std::uint64_t{1} << 32) | c.stream};
}

// ---- gaps

// A stream that was paused and handed on starts its next thread without a resume.
void HeapWalk::State::note_gap(Cursor& c, const Event& e) {
  if (e.op == wire::Op::kPause) {
    if (!c.in_gap) apply->open_gap();
    c.in_gap = true;
  } else if (e.op == wire::Op::kResume || (e.op == wire::Op::kThreadStart && c.in_gap)) {
    if (c.in_gap) apply->close_gap();
    c.in_gap = false;
    apply->end_gap(e.stamp);
  }
}

// What a ring has overwritten, or a file has lost.
void HeapWalk::State::find_missing_blocks() {
  const bool ring = file.header().features & wire::kFeatureRing;
  for (const auto& stream : file.streams()) {
    std::uint64_t due = ring || stream.empty() ? 0 : stream.front().sequence;
    for (const BlockRef& block : stream) {
      if (!options.range.may_be_in(block)) {
        due = ~std::uint64_t{0};  // to those behind, it is missing
        continue;
      }
      if (block.sequence != due) apply->end_gap(block.first_stamp);
      due = block.sequence + block.blocks;
    }
  }
}

// ---- one event

// Applies the head, or half of it. `alone`: no other stream is left that could bring a partner.
HeapWalk::State::Step HeapWalk::State::step(Cursor& c, bool alone) {
  const Event& e = c.head();
  const bool force = alone || c.force;
  if (c.action == Action::kResizeMove) {
    if (!c.detached) {
      if (!apply->detach(e, force, c.in_flight)) {
        c.wants = Wants::kAcquire;
        c.wanted = e.old_pointer;
        return Step::kBlocked;
      }
      note_partner(Wants::kRelease, e.old_pointer, c.key);
      if (c.was_held && c.partner_was_later) ++apply->order().repaired;
      c.detached = true;
      c.force = c.was_held = c.partner_was_later = false;
      set_key(c);
      return Step::kGoOn;
    }
    if (!apply->attach(e, force, c.in_flight)) {
      c.wants = Wants::kRelease;
      c.wanted = e.pointer;
      return Step::kBlocked;
    }
    note_partner(Wants::kAcquire, e.pointer, c.key);
    return finish_head(c) ? Step::kGoOn : Step::kEnded;
  }

  if (c.action == Action::kMapMove && !c.detached) {
    apply->map_detach(e);
    c.detached = true;
    set_key(c);
    return Step::kGoOn;
  }
  if (c.action == Action::kMeta) note_gap(c, e);
  if (!apply->apply(e, c.action, force)) {
    c.wants = c.action == Action::kAcquire ? Wants::kRelease : Wants::kAcquire;
    c.wanted = c.action == Action::kResizeRelease || c.action == Action::kFailed ? e.old_pointer
                                                                                 : e.pointer;
    return Step::kBlocked;
  }
  if (!held.empty()) {
    if (c.action == Action::kAcquire) note_partner(Wants::kAcquire, e.pointer, c.key);
    if (c.action == Action::kRelease) note_partner(Wants::kRelease, e.pointer, c.key);
    if (c.action == Action::kResizeRelease) note_partner(Wants::kRelease, e.old_pointer, c.key);
  }
  return finish_head(c) ? Step::kGoOn : Step::kEnded;
}

// ---- holding back

void HeapWalk::State::hold(std::uint32_t index) {
  Cursor& c = cursors[index];
  if (!c.was_held) {
    c.was_held = true;
    c.deadline = c.key.stamp + std::min(window, ~std::uint64_t{0} - c.key.stamp);
  }
  held.push_back(index);
}

// Wakes whoever waited for this. Should several have, the first takes it and the rest are held
// again.
void HeapWalk::State::note_partner(Wants served, std::uint64_t address, const Key& key) {
  for (std::size_t i = 0; i < held.size();) {
    Cursor& c = cursors[held[i]];
    if (c.wants != served || c.wanted != address) {
      ++i;
      continue;
    }
    if (c.key < key) c.partner_was_later = true;
    woken.push_back(held[i]);
    held[i] = held.back();
    held.pop_back();
  }
}

std::size_t HeapWalk::State::next_to_expire() const {
  std::size_t first = 0;
  for (std::size_t i = 1; i < held.size(); ++i) {
    if (cursors[held[i]].deadline < cursors[held[first]].deadline) first = i;
  }
  return first;
}

void HeapWalk::State::expire(std::size_t held_index) {
  const std::uint32_t index = held[held_index];
  held[held_index] = held.back();
  held.pop_back();
  cursors[index].force = true;
  push(index);
}

// ---- merging

void HeapWalk::State::push(std::uint32_t cursor) {
  heap.push_back({cursors[cursor].key, cursor});
  for (std::size_t i = heap.size() - 1; i != 0;) {
    const std::size_t parent = (i - 1) / 2;
    if (!(heap[i].key < heap[parent].key)) break;
    std::swap(heap[i], heap[parent]);
    i = parent;
  }
}

void HeapWalk::State::pop_top() {
  heap.front() = heap.back();
  heap.pop_back();
  if (!heap.empty()) sift_down();
}

void HeapWalk::State::sift_down() {
  const Entry moved = heap.front();
  std::size_t i = 0;
  for (;;) {
    std::size_t child = 2 * i + 1;
    if (child >= heap.size()) break;
    if (child + 1 < heap.size() && heap[child + 1].key < heap[child].key) ++child;
    if (!(heap[child].key < moved.key)) break;
    heap[i] = heap[child];
    i = child;
  }
  heap[i] = moved;
}

// The last stream, or the only one: order is as it stands.
void HeapWalk::State::run_one(Cursor& c) {
  while (step(c, true) == Step::kGoOn) {
  }
}

void HeapWalk::State::run_many() {
  for (;;) {
    if (heap.empty()) {
      if (held.empty()) return;
      expire(next_to_expire());  // all wait for each other, or for nobody
    }
    if (heap.size() == 1 && held.empty()) {
      run_one(cursors[heap.front().cursor]);
      return;
    }
    std::uint64_t deadline = std::numeric_limits<std::uint64_t>::max();
    if (!held.empty()) {
      const std::size_t first = next_to_expire();
      deadline = cursors[held[first]].deadline;
      if (deadline < heap.front().key.stamp) {
        expire(first);
        continue;
      }
    }
    // While the stream at the top stays ahead of the runner-up, the heap is left alone.
    Key runner_up = kNever;
    if (heap.size() > 1) runner_up = heap[1].key;
    if (heap.size() > 2 && heap[2].key < runner_up) runner_up = heap[2].key;
    const std::uint32_t index = heap.front().cursor;
    Cursor& c = cursors[index];
    Step result;
    do {
      result = step(c, false);
    } while (result == Step::kGoOn && woken.empty() && c.key < runner_up &&
             c.key.stamp <= deadline);
    if (result == Step::kGoOn) {
      heap.front().key = c.key;
      sift_down();
    } else {
      pop_top();
      if (result == Step::kBlocked) hold(index);
    }
    for (const std::uint32_t other : woken) push(other);
    woken.clear();
  }
}

WalkTotals HeapWalk::State::run(HeapVisitor& visitor) {
  apply = std::make_unique<HeapApply>(visitor);
  window = file.ns_to_units(options.repair_window_ns);
  words = words_reported = corrupt_blocks = 0;
  first_corruption.clear();
  heap.clear();
  held.clear();
  woken.clear();
  cursors.clear();
  find_missing_blocks();
  const auto streams = static_cast<std::uint32_t>(file.streams().size());
  cursors.reserve(streams);
  const unsigned batch =
      std::clamp(kEventsDecodedAhead / std::max(streams, 1u), kLeastBatch, kBatch);
  for (std::uint32_t i = 0; i < streams; ++i) {
    cursors.emplace_back(file, i, batch, options.range);
    if (load_head(cursors[i])) push(i);
  }
  run_many();
  WalkTotals totals = apply->finish();
  totals.corrupt_blocks = corrupt_blocks;
  totals.first_corruption = first_corruption;
  if (options.progress) options.progress(words);
  return totals;
}

std::optional<std::uint64_t> unseen_block_size(const Event& e) {
  if (!(e.notes & kNoteOldUsable)) return std::nullopt;
  const wire::OpTraits& traits = wire::traits(e.op);
  if (traits.op_class != wire::OpClass::kRelease) return e.old_usable;
  std::uint64_t size = e.old_usable;
  if (traits.takes_size) size = std::min(size, e.size);
  // More is no alignment, but nonsense.
  constexpr std::uint64_t kLargestAlignment = std::uint64_t{1} << 40;
  if (traits.takes_alignment && e.alignment > 1 && e.alignment <= kLargestAlignment) {
    const std::uint64_t rest = size % e.alignment;
    if (size == 0 || rest != 0) size += e.alignment - rest;
  }
  return size;
}

HeapWalk::HeapWalk(const TraceFile& file, WalkOptions options)
    : state_(std::make_unique<State>(file, std::move(options))) {}
HeapWalk::~HeapWalk() = default;

WalkTotals HeapWalk::run(HeapVisitor& visitor) { return state_->run(visitor); }

const LiveCounts& HeapWalk::live() const {
  static const LiveCounts kNothing;
  return state_->apply ? state_->apply->live() : kNothing;
}

std::uint64_t HeapWalk::event_ordinal() const {
  return state_->apply ? state_->apply->ordinal() : 0;
}

void HeapWalk::for_each_live(const std::function<void(const Block&)>& fn) const {
  if (!state_->apply) return;
  const LiveTable& table = state_->apply->table();
  table.for_each(fn);
  for (const Cursor& c : state_->cursors) {
    if (c.in_flight.number != LiveTable::kNone) fn(table.block(c.in_flight.number));
  }
}

}  // namespace alloctape::formats
