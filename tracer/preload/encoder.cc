// From events to words, in every form but the fast path's one. Layout: formats/wire/event_word.h.
#include "tracer/preload/fast_path.h"
#include "tracer/preload/stream.h"

#include "tracer/preload/forbidden.h"

namespace alloctape::tracer {

namespace {

// Words go to `position` one after another; the margin has room for an event with all its notes, so
// nothing is flushed in between.
void put_word(Stream* s, uint64_t word) {
  publish(s->position, word);
  ++s->position;
}

void put_note(Stream* s, wire::Note note, uint64_t value) {
  put_word(s, wire::note_word(note, value < wire::kNoteMax ? value : wire::kNoteMax));
  ++s->extra_words;
}

// What is left of `delta` for an event's own word; writes a time word where it must.
// REQUIRES: delta < 2^kTimeWordBits
uint64_t spend_time(Stream* s, uint64_t delta) {
  if (delta >> wire::kTimeBits == 0) return delta;
  put_word(s, wire::time_word(delta));
  ++s->extra_words;
  return 0;
}

uint64_t window_of(uint64_t pointer, bool other_arena) {
  return (pointer & ~((uint64_t{1} << wire::kWindowShift) - 1)) |
         (other_arena ? kChunkOtherArena : 0u);
}
void use_window(Stream* s, unsigned slot) {
  s->window_base = s->windows[slot];
  s->window_bits = uint64_t{slot} << wire::kWindowAt;
}

// Whether a compact word can hold the pointer; its window is then the one in use.
bool find_window(Stream* s, uint64_t pointer, unsigned path) {
  if (pointer & ((1u << wire::kOffsetShift) - 1)) return false;
  const unsigned slot = wire::window_slot(pointer);
  if (s->windows[slot] != window_of(pointer, path & wire::kPathOtherArena)) return false;
  use_window(s, slot);
  return true;
}

uint64_t offset_in(uint64_t pointer) { return pointer & ((uint64_t{1} << wire::kWindowShift) - 1); }

void put_wide(Stream* s, const CallEvent& e, uint64_t stamp) {
  // Written back to front, the first word last.
  uint64_t fields[wire::kFieldCountKnown];
  unsigned n = 0, mask = e.fields;
  uint64_t delta = stamp - s->last_stamp;
  if (delta >> wire::kWideTimeBits || (e.path & wire::kPathLate)) {
    mask |= wire::kFieldStamp;
    delta = 0;
  }
  const uint64_t values[wire::kFieldCountKnown] = {
      stamp,   e.release_stamp, e.pointer, e.old_pointer, e.size,
      e.count, e.alignment,     e.thread,  e.tid,         e.value};
  for (int i = 0; i < wire::kFieldCountKnown; ++i)
    if (mask >> i & 1) fields[n++] = values[i];
  uint64_t* at = s->position;
  for (unsigned i = n; i > 0; --i) at[i] = fields[i - 1];
  s->last_stamp = stamp;
  if ((e.fields & wire::kFieldPointer) && e.pointer &&
      !(e.path &
        (wire::kPathMapped | wire::kPathFailed | wire::kPathBootstrap | wire::kPathLate))) {
    const unsigned slot = wire::window_slot(e.pointer);
    s->windows[slot] = window_of(e.pointer, e.path & wire::kPathOtherArena);
    use_window(s, slot);
  }
  publish(at, wire::wide_word(e.op, n + 1, e.path, mask, delta));
  s->position += n + 1;
  s->extra_words += n;
}

// free(NULL) and the like.
bool put_null(Stream* s, const CallEvent& e, uint64_t stamp) {
  const wire::OpClass c = wire::op_class(e.op);
  const uint64_t delta = stamp - s->last_stamp;
  if (e.pointer || (c != wire::OpClass::kRelease && c != wire::OpClass::kQuery) ||
      delta >> wire::kTimeWordBits)
    return false;
  const uint64_t rest = spend_time(s, delta);
  s->last_stamp = stamp;
  put_word(s, wire::compact_word(wire::Kind::kNull, rest, static_cast<uint64_t>(e.op), 0, 0));
  return true;
}

bool put_compact(Stream* s, const CallEvent& e, wire::Kind kind, uint64_t size, uint64_t stamp) {
  const uint64_t delta = stamp - s->last_stamp;
  if ((e.path & ~unsigned{wire::kPathOtherArena}) || !e.pointer || delta >> wire::kTimeWordBits ||
      !wire::size_has_code(size) || !find_window(s, e.pointer, e.path))
    return false;
  const uint64_t rest = spend_time(s, delta);
  s->last_stamp = stamp;
  put_word(s, pack(s, kind, rest, wire::encode_size(size), offset_in(e.pointer)));
  return true;
}

// A realloc that moved its block: two words, published by the first.
bool put_move(Stream* s, const CallEvent& e, uint64_t stamp) {
  const uint64_t before = e.release_stamp - s->last_stamp, during = stamp - e.release_stamp;
  const unsigned path = e.path & ~unsigned{wire::kPathMoved};
  if (((path | e.old_path) & ~unsigned{wire::kPathOtherArena}) || !e.pointer ||
      e.release_stamp < s->last_stamp || before >> wire::kTimeWordBits ||
      during >> wire::kTimeBits || !wire::size_has_code(e.size) ||
      !find_window(s, e.old_pointer, e.old_path))
    return false;
  const uint64_t from = s->window_bits;
  if (!find_window(s, e.pointer, path)) return false;
  const uint64_t rest = spend_time(s, before);
  s->last_stamp = stamp;
  s->position[1] =
      pack(s, wire::Kind::kReallocTo, during, wire::encode_size(e.size), offset_in(e.pointer));
  publish(s->position,
          wire::compact_word(wire::Kind::kReallocFrom, rest, 0,
                             static_cast<unsigned>(from >> wire::kWindowAt), e.old_pointer));
  s->position += 2;
  ++s->extra_words;
  return true;
}

bool put_short(Stream* s, const CallEvent& e, uint64_t stamp) {
  if (e.fields & (wire::kFieldCount | wire::kFieldAlignment | wire::kFieldThread)) return false;
  if (e.op == wire::Op::kRealloc) {
    if (!(e.fields & wire::kFieldOldPointer))
      return put_compact(s, e, wire::Kind::kReallocTo, e.size, stamp);
    if (e.pointer != e.old_pointer) return put_move(s, e, stamp);
    return !(e.old_path & ~unsigned{wire::kPathOtherArena}) &&
           put_compact(s, e, wire::Kind::kReallocSame, e.size, stamp);
  }
  const wire::Kind kind = wire::compact_kind(e.op);
  if (put_null(s, e, stamp)) return true;
  return kind != wire::Kind::kWide &&
         put_compact(s, e, kind, e.op == wire::Op::kMallocUsableSize ? e.value : e.size, stamp);
}

}  // namespace

void put_event(Stream* s, const CallEvent& e, uint64_t stamp) {
  if (e.usable) put_note(s, wire::Note::kUsable, e.usable);
  if (e.old_usable) put_note(s, wire::Note::kOldUsable, e.old_usable);
  if (e.duration) put_note(s, wire::Note::kDuration, e.duration);
  if (!put_short(s, e, stamp)) put_wide(s, e, stamp);
  if (ALLOCTAPE_UNLIKELY(s->position >= s->end)) flush(s);
}

}  // namespace alloctape::tracer
