#include "tracer/preload/recorder.h"

#include "tracer/preload/steering.h"

#include "tracer/preload/forbidden.h"

namespace alloctape::tracer {

// The frame of the C++ operator that a thread without a stream is forwarding.
__thread const void* t_late_frame __attribute__((tls_model("initial-exec")));

namespace {

void add_arguments(CallEvent& e, uint64_t size, uint64_t alignment) {
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

// The first acquire of a thread that finds the program break higher than its last one did has
// "grew" in its path.
unsigned acquire_path(Stream* s, const void* p) {
  if (ALLOCTAPE_UNLIKELY(!p)) return wire::kPathFailed;
  unsigned path = chunk_path(p);
  if (s) {
    const void* now = program_break();
    if (now > s->program_break) path |= wire::kPathGrew;
    s->program_break = now;
  }
  return path;
}

}  // namespace

CallEvent acquire_event(wire::Op op, const void* p, uint64_t size, uint64_t count,
                        uint64_t alignment) {
  CallEvent e{.op = op};
  e.path = p ? chunk_path(p) : unsigned{wire::kPathFailed};
  e.pointer = address(p);
  add_arguments(e, size, alignment);
  if (count) {
    e.fields |= wire::kFieldCount;
    e.count = count;
  }
  return e;
}

CallEvent release_event(wire::Op op, const void* p, uint64_t size, uint64_t alignment) {
  CallEvent e{.op = op};
  e.path = p ? chunk_path(p) : 0;
  e.pointer = address(p);
  add_arguments(e, size, alignment);
  return e;
}

CallEvent resize_event(wire::Op op, const void* old, unsigned old_path, const void* p,
                       uint64_t size, uint64_t count, uint64_t release) {
  CallEvent e = acquire_event(op, p, size, count, 0);
  e.fields |= wire::kFieldOldPointer | wire::kFieldReleaseStamp;
  e.old_pointer = address(old);
  e.old_path = old_path;
  e.release_stamp = release;
  if (p && p != old) e.path |= wire::kPathMoved;
  if (!p && !size && !count) e.path = 0;  // released, not failed
  return e;
}

// ---- the fast path's odd cases ----

namespace {
// Undoes what the fast path did with the time; the event's own stamp. With several threads that is
// a fresh one: large blocks come by here, and their place among other threads' matters to the peak.
uint64_t take_back(Stream* s, const void* p, uint64_t delta) {
  const uint64_t stamp = has_owners(s) && !delta ? claim(s, p, tsc_stamp) : s->last_stamp;
  s->last_stamp -= delta;
  return stamp;
}
}  // namespace

ALLOCTAPE_COLD void* finish_acquire(Stream* s, void* p) {
  flush(s);
  leave(s);
  return p;
}
ALLOCTAPE_COLD void finish_release(Stream* s, void* p) {
  flush(s);
  leave(s);
  g_real.free_(p);
}
ALLOCTAPE_COLD void* odd_acquire(Stream* s, void* p, uint64_t op_delta, uint64_t size) {
  if (ALLOCTAPE_UNLIKELY(
          !s->position)) {  // forked in a signal handler while the call was under way
    s->go = s->rest = 0;
    return p;
  }
  const uint64_t stamp = take_back(s, p, op_delta >> 8);
  CallEvent e = acquire_event(static_cast<wire::Op>(op_delta & 0xff), p, size, 0, 0);
  e.path |= acquire_path(s, p);
  put_event(s, e, stamp);
  leave(s);
  return p;
}
ALLOCTAPE_COLD void odd_release(Stream* s, void* p, uint64_t op_delta, uint64_t size) {
  const uint64_t stamp = take_back(s, p, op_delta >> 8);
  const bool bootstrap = in_bootstrap(p);
  if (!bootstrap)
    put_event(s, release_event(static_cast<wire::Op>(op_delta & 0xff), p, size, 0), stamp);
  leave(s);
  if (!bootstrap) g_real.free_(p);
}

void record_resize(const void* old, unsigned old_path, const void* p, uint64_t size,
                   uint64_t release) {
  Stream* s = t_stream;
  if (ALLOCTAPE_UNLIKELY(!s->position)) return;
  enter(s);
  const bool repeat = !at_stamp_place(s, s->position) && (!has_owners(s) || owns(s, p ? p : old));
  uint64_t stamp = repeat ? s->last_stamp : claim(s, p ? p : old, tsc_stamp);
  if (stamp < release) stamp = release;
  CallEvent e = resize_event(wire::Op::kRealloc, old, old_path, p, size, 0, release);
  if (p) e.path |= acquire_path(s, p);
  put_event(s, e, stamp);
  leave(s);
}

// ---- the slow way ----

Recording::Recording(bool acquires, const void* pointer, uint64_t size, const void* frame) {
  route_ = route(acquires, pointer, size, frame, &s_);
}

void Recording::note_old(CallEvent& e, const void* old) const {
  if (!(extras() & kExtraLate) || !old) return;
  if (forget_seen(s_, old)) return;
  e.old_usable = g_real.usable_size_(const_cast<void*>(old));
}

void Recording::put(const CallEvent& e) {
  if (route_ == Route::kForwardOnly) return;
  if (route_ == Route::kLate) {
    record_late(e);
    return;
  }
  if (s_->mode == Mode::kStopped) {
    // Ours alone to write; readers of the file only look.
    __atomic_store_n(&s_->staging->dropped_events, s_->staging->dropped_events + 1,
                     __ATOMIC_RELAXED);
    return;
  }
  if (s_->mode != Mode::kActive) return;  // a signal handler took notice of a command meanwhile
  enter(s_);
  uint64_t stamp =
      e.stamp ? e.stamp : claim(s_, reinterpret_cast<const void*>(e.pointer), stamp_now);
  // A signal handler may have recorded since e.stamp was taken: time never runs back in a stream.
  if (stamp < s_->last_stamp) stamp = s_->last_stamp;
  put_event(s_, e, stamp);
  leave(s_);
}

void Recording::acquired(CallEvent& e, const void* p) {
  if (route_ == Route::kRecord) {
    if (p) e.path |= acquire_path(s_, p);
    if (p && (s_->extras & kExtraUsable)) e.usable = g_real.usable_size_(const_cast<void*>(p));
    if (p && (s_->extras & kExtraLate) && s_->seen_blocks) *seen_slot(s_, p) = p;
    e.duration = duration_;
  }
  put(e);
}

void Recording::releases(CallEvent& e) {
  note_old(e, reinterpret_cast<const void*>(e.pointer));
  if (extras() & kExtraLatency)
    e.stamp = claim(s_, reinterpret_cast<const void*>(e.pointer), stamp_now);
  else
    put(e);
}

void Recording::released(CallEvent& e) {
  if (!(extras() & kExtraLatency)) return;
  e.duration = duration_;
  put(e);
}

void Recording::queried(CallEvent& e) {
  e.duration = duration_;
  put(e);
}

void Forwarding::enter_late(const void* frame) {
  late_frame_ = t_late_frame;
  t_late_frame = frame;
}
void Forwarding::leave_late() { t_late_frame = late_frame_; }

}  // namespace alloctape::tracer
