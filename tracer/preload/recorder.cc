#include "tracer/preload/recorder.h"

#include "tracer/preload/forbidden.h"

namespace alloctape::tracer {

// The frame of the C++ operator that a thread without a stream is forwarding.
__thread const void* t_late_frame __attribute__((tls_model("initial-exec")));

namespace {
void add_arguments(WideEvent& e, uint64_t size, uint64_t alignment) {
  const wire::OpTraits& t = wire::traits(e.op);
  e.fields |= wire::kFieldPointer;
  if (t.takes_size) {
    e.fields |= wire::kFieldSize;
    e.size = size;
  }
  if (t.takes_alignment) {
    e.fields |= wire::kFieldAlignment;
    e.alignment = alignment;
  }
}
}  // namespace

WideEvent acquire_event(wire::Op op, const void* p, uint64_t size, uint64_t count,
                        uint64_t alignment, unsigned path) {
  WideEvent e{.op = op};
  e.path = path;
  e.pointer = address(p);
  add_arguments(e, size, alignment);
  if (count) {
    e.fields |= wire::kFieldCount;
    e.count = count;
  }
  return e;
}

WideEvent release_event(wire::Op op, const void* p, uint64_t size, uint64_t alignment) {
  WideEvent e{.op = op};
  e.path = p ? chunk_path(p) : 0;
  e.pointer = address(p);
  add_arguments(e, size, alignment);
  return e;
}

void put_odd_acquire(Stream* s, wire::Op op, const void* p, uint64_t size, uint64_t count,
                      unsigned path, uint64_t stamp) {
  const wire::Kind kind = wire::compact_kind(op);
  if (!count && kind != wire::Kind::kWide &&
      put_scaled(s, kind, address(p), size, path & wire::kPathOtherArena,
                 path & ~unsigned{wire::kPathOtherArena}, stamp))
    return;
  put_wide(s, acquire_event(op, p, size, count, 0, path), stamp);
}

void put_odd_release(Stream* s, wire::Op op, const void* p, uint64_t size, uint64_t stamp) {
  const uint64_t delta = stamp - s->last_stamp;
  if (!p && delta >> wire::kTimeWordBits == 0) {
    const uint64_t rest = spend_time(s, delta);
    s->last_stamp = stamp;
    publish(s->position,
            wire::compact_word(wire::Kind::kNull, rest, static_cast<uint64_t>(op), 0, 0));
    advance(s, 1);
    return;
  }
  const wire::Kind kind = wire::compact_kind(op);
  const unsigned path = p ? chunk_path(p) : 0;
  if (p && kind != wire::Kind::kWide &&
      put_scaled(s, kind, address(p), size, path & wire::kPathOtherArena,
                 path & ~unsigned{wire::kPathOtherArena}, stamp))
    return;
  put_wide(s, release_event(op, p, size, 0), stamp);
}

void put_resize(Stream* s, wire::Op op, const void* old, unsigned old_path, const void* p,
                uint64_t size, uint64_t count, unsigned path, uint64_t release, uint64_t stamp) {
  constexpr unsigned kOdd = wire::kPathMapped | wire::kPathGrew;
  if (ALLOCTAPE_LIKELY(op == wire::Op::kRealloc && p && !((old_path | path) & kOdd))) {
    const bool arena = path & wire::kPathOtherArena;
    if (old == p) {
      if (put_compact(s, wire::Kind::kReallocSame, address(p), size, arena, 0, stamp) ||
          put_scaled(s, wire::Kind::kReallocSame, address(p), size, arena, 0, stamp))
        return;
    } else {
      const uint64_t before = release - s->last_stamp, during = stamp - release;
      const uint64_t from = address(old), to = address(p);
      const unsigned from_slot = wire::window_slot(from), to_slot = wire::window_slot(to);
      const uint64_t misfit =
          (before >> wire::kTimeWordBits) | (during >> wire::kTimeBits) |
          (s->window[from_slot] ^ wire::window_tag(from, old_path & wire::kPathOtherArena)) |
          (s->window[to_slot] ^ wire::window_tag(to, arena)) |
          ((from | to) & ((1u << wire::kOffsetShift) - 1));
      if (!misfit && wire::size_has_code(size)) {
        const uint64_t rest = spend_time(s, before);
        s->last_stamp = stamp;
        s->position[1] = wire::compact_word(wire::Kind::kReallocTo, during,
                                            wire::encode_size(size), to_slot, to);
        publish(s->position, wire::compact_word(wire::Kind::kReallocFrom, rest, 0, from_slot, from));
        advance(s, 2);
        return;
      }
    }
  }
  WideEvent e{.op = op};
  if (p) e.path = path | (p != old ? unsigned{wire::kPathMoved} : 0u);
  else if (size || count) e.path = wire::kPathFailed;  // realloc(p, 0) may free and return NULL
  e.fields = wire::kFieldReleaseStamp | wire::kFieldPointer | wire::kFieldOldPointer |
             wire::kFieldSize;
  e.release_stamp = release;
  e.pointer = address(p);
  e.old_pointer = address(old);
  e.size = size;
  if (count) {
    e.fields |= wire::kFieldCount;
    e.count = count;
  }
  put_wide(s, e, stamp);
}

void record_slowly(Route r, Stream* s, const WideEvent& e) {
  if (r == Route::kForwardOnly) return;
  if (r == Route::kLate) {
    record_late(e);
    return;
  }
  if (s->rest == Mode::kStopped) {
    // Ours alone to write; readers of the file only look.
    __atomic_store_n(&s->staging->dropped_events, s->staging->dropped_events + 1,
                     __ATOMIC_RELAXED);
    return;
  }
  const Mode before = s->mode;
  enter(s);
  put_wide(s, e, stream_stamp(s));
  compiler_barrier();
  s->mode = before == Mode::kForwarding ? before : s->rest;
}

void Forwarding::enter_late(const void* frame) {
  late_frame_ = t_late_frame;
  t_late_frame = frame;
}
void Forwarding::leave_late() { t_late_frame = late_frame_; }

}  // namespace alloctape::tracer
