// From a call of the API to an event: the recording half of every interposed function.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "tracer/preload/real_functions.h"
#include "tracer/preload/stream.h"
#include "tracer/preload/law.h"

namespace alloctape::tracer {

ALLOCTAPE_INLINE uint64_t address(const void* p) { return reinterpret_cast<uint64_t>(p); }

// Path bits of a live glibc block, from the word before it, which malloc has just written or free is
// about to read.
ALLOCTAPE_INLINE unsigned chunk_path(const void* p) {
  if (!g_glibc_chunks) return 0;
  const uint64_t chunk = static_cast<const uint64_t*>(p)[-1];
  static_assert(wire::kPathMapped == 1 && wire::kPathOtherArena == 2);
  return (chunk >> 1) & 3;  // IS_MMAPPED = 2, NON_MAIN_ARENA = 4
}
ALLOCTAPE_INLINE const void* program_break() {
  return __atomic_load_n(g_program_break, __ATOMIC_RELAXED);
}

// What an acquire's answer tells: failed, mapped, another arena, the break moved.
ALLOCTAPE_INLINE unsigned acquire_path(const void* p, const void* break_before) {
  if (ALLOCTAPE_UNLIKELY(!p)) return wire::kPathFailed;
  return chunk_path(p) |
         (ALLOCTAPE_UNLIKELY(program_break() != break_before) ? unsigned{wire::kPathGrew} : 0u);
}

// The wide forms. `count` != 0: count and size are the factors of a product that overflowed.
WideEvent acquire_event(wire::Op op, const void* p, uint64_t size, uint64_t count,
                        uint64_t alignment, unsigned path);
WideEvent release_event(wire::Op op, const void* p, uint64_t size, uint64_t alignment);
// What put_compact refused: put_scaled, and failing that the wide form.
// REQUIRES for both: s->mode == kBusy.
ALLOCTAPE_COLD void put_odd_acquire(Stream* s, wire::Op op, const void* p, uint64_t size,
                                     uint64_t count, unsigned path, uint64_t stamp);
ALLOCTAPE_COLD void put_odd_release(Stream* s, wire::Op op, const void* p, uint64_t size,
                                     uint64_t stamp);
// Two-sided: `release` was taken before the call. REQUIRES: s->mode == kBusy, old != nullptr.
void put_resize(Stream* s, wire::Op op, const void* old, unsigned old_path, const void* p,
                uint64_t size, uint64_t count, unsigned path, uint64_t release, uint64_t stamp);

// Between these two the stream is ours, even from our own signal handlers.
ALLOCTAPE_INLINE void enter(Stream* s) {
  s->mode = Mode::kBusy;
  compiler_barrier();
}
ALLOCTAPE_INLINE void leave(Stream* s) {
  compiler_barrier();
  s->mode = s->rest;
}

// REQUIRES for both: s is this thread's stream and was kActive before the call; op has a compact kind
// (or p is NULL). A path that a word cannot carry makes it wide.
ALLOCTAPE_INLINE void record_acquire(Stream* s, wire::Op op, const void* p, uint64_t size,
                                     const void* break_before) {
  enter(s);
  const uint64_t stamp = stream_stamp(s);
  const unsigned path = acquire_path(p, break_before);
  if (!put_compact(s, wire::compact_kind(op), address(p), size, path & wire::kPathOtherArena,
                   path & ~unsigned{wire::kPathOtherArena}, stamp)) {
    put_odd_acquire(s, op, p, size, 0, path, stamp);
  }
  leave(s);
}

ALLOCTAPE_INLINE void record_release(Stream* s, wire::Op op, const void* p, uint64_t size) {
  enter(s);
  const uint64_t stamp = stream_stamp(s);
  const unsigned path = ALLOCTAPE_LIKELY(p != nullptr) ? chunk_path(p) : unsigned{wire::kPathFailed};
  if (!put_compact(s, wire::compact_kind(op), address(p), size, path & wire::kPathOtherArena,
                   path & ~unsigned{wire::kPathOtherArena}, stamp)) {
    put_odd_release(s, op, p, size, stamp);
  }
  leave(s);
}

// The slow way, for every call that did not find its stream kActive, and for what has no one-word
// form. `r` and `s` come from route().
void record_slowly(Route r, Stream* s, const WideEvent& e);

// A C++ operator's real function runs between these: inner calls are the same application call.
class Forwarding {
 public:
  ALLOCTAPE_INLINE Forwarding(Route r, Stream* s, wire::Op op, bool acquires, const void* pointer,
                              uint64_t size, uint64_t alignment, const void* frame)
      : s_(r == Route::kRecord ? s : nullptr), late_(r == Route::kLate) {
    if (ALLOCTAPE_LIKELY(s_ != nullptr)) {
      saved_ = s_->forwarded;
      mode_ = s_->mode;
      s_->forwarded = {frame, size, alignment, pointer, op, acquires};
      compiler_barrier();
      s_->mode = Mode::kForwarding;
    } else if (late_) {
      enter_late(frame);
    }
  }
  ALLOCTAPE_INLINE void done() {
    if (ALLOCTAPE_LIKELY(s_ != nullptr)) {
      compiler_barrier();
      s_->forwarded = saved_;
      s_->mode = mode_ == Mode::kForwarding ? mode_ : s_->rest;
    } else if (late_) {
      leave_late();
    }
  }

 private:
  void enter_late(const void* frame);
  void leave_late();
  Stream* s_;
  bool late_;
  Mode mode_{};
  const void* late_frame_ = nullptr;
  Forwarded saved_{};
};

}  // namespace alloctape::tracer
