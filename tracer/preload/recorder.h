// From a call of the API to an event, for every call that is not on the fast path: those without a
// one-word form, those of threads that cannot record at once, and those of which more is to be told
// than the call itself (usable sizes, durations, blocks from before the recording).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "tracer/preload/fast_path.h"
#include "tracer/preload/law.h"
#include "tracer/preload/real_functions.h"
#include "tracer/preload/stream.h"

namespace alloctape::tracer {

// Blocks that this stream acquired itself, by hash; only where there is memory for them.
ALLOCTAPE_INLINE const void** seen_slot(const Stream* s, const void* p) {
  return &s->seen_blocks[(address(p) >> 4 ^ address(p) >> 15) % kSeenBlocks];
}

// A stream that only has to tell the sizes of blocks it does not know takes the fast path's code
// too: for what it acquires, and for what it finds among its own. REQUIRES for the other two: this.
ALLOCTAPE_INLINE bool may_record_late(const Stream* s) {
  return ALLOCTAPE_LIKELY(s->late == control_now() && !busy(s));
}
template <wire::Op op>
ALLOCTAPE_INLINE void* record_acquired_late(void* p, uint64_t size) {
  const Stream* s = stream_again();
  if (ALLOCTAPE_LIKELY(p && s->seen_blocks)) *seen_slot(s, p) = p;
  return record_acquired<op>(p, size);
}
// Whether the trace knows the block that is about to go.
ALLOCTAPE_INLINE bool forget_seen(const Stream* s, const void* p) {
  if (ALLOCTAPE_UNLIKELY(!s->seen_blocks)) return !p;
  const void** slot = seen_slot(s, p);
  if (ALLOCTAPE_UNLIKELY(*slot != p)) return !p;
  *slot = nullptr;
  return true;
}

// What a block that is about to go holds: glibc's own word for it where it is glibc's.
ALLOCTAPE_INLINE uint64_t usable_size_of(const void* p) {
  if (ALLOCTAPE_UNLIKELY(!g_glibc_chunks)) return g_real.usable_size_(const_cast<void*>(p));
  const uint64_t chunk = static_cast<const uint64_t*>(p)[-1];
  return (chunk & ~uint64_t{7}) - (chunk & kChunkMapped ? 16 : 8);
}
// The release of a late stream. The stream stays busy from the note to the event that it is about.
template <wire::Op op>
ALLOCTAPE_INLINE void record_release_late(Stream* s, void* p, uint64_t size) {
  if (ALLOCTAPE_UNLIKELY(!forget_seen(s, p))) {
    const uint64_t usable = usable_size_of(p);
    enter(s);
    publish(s->position, wire::note_word(wire::Note::kOldUsable,
                                         usable < wire::kNoteMax ? usable : wire::kNoteMax));
    ++s->position;
    ++s->extra_words;
  }
  record_release<op>(s, p, size);
}

// Path bits of a live block.
ALLOCTAPE_INLINE unsigned chunk_path(const void* p) {
  static_assert(wire::kPathMapped == kChunkMapped >> 1 &&
                wire::kPathOtherArena == kChunkOtherArena >> 1);
  return static_cast<unsigned>(chunk_flags(p) >> 1);
}

// `count` != 0: count and size are the factors of a product that overflowed. Fills in the path.
CallEvent acquire_event(wire::Op op, const void* p, uint64_t size, uint64_t count,
                        uint64_t alignment);
CallEvent release_event(wire::Op op, const void* p, uint64_t size, uint64_t alignment);
// `old` != nullptr; p is what came of it. `release` was taken before the call, as was old_path.
CallEvent resize_event(wire::Op op, const void* old, unsigned old_path, const void* p,
                       uint64_t size, uint64_t count, uint64_t release);

// A realloc of a thread that may record: the stamp before the call, and the event after it.
ALLOCTAPE_INLINE uint64_t resize_stamp(const Stream* s, const void* old) {
  if (__atomic_load_n(&s->stamp_mask, __ATOMIC_RELAXED) && (!has_owners(s) || owns(s, old)))
    return s->last_stamp;
  return claim(s, old, tsc_stamp);
}
void record_resize(const void* old, unsigned old_path, const void* p, uint64_t size,
                   uint64_t release);

// What becomes of one call, from its beginning to its end. Where the event is to be told before the
// call (a release), record() comes first; the duration makes exceptions, see released().
class Recording {
 public:
  // `pointer`, `size`, `frame`: as for route().
  Recording(bool acquires, const void* pointer, uint64_t size, const void* frame);
  bool forwards_only() const { return route_ == Route::kForwardOnly; }
  Route route_taken() const { return route_; }
  Stream* stream() const { return s_; }
  bool told_late() const { return extras() & kExtraLate; }

  // Before a call that releases `old`: what it held, if the trace does not know.
  void note_old(CallEvent& e, const void* old) const;
  // The time before it, which enters `old` as this thread's.
  uint64_t claim_old(const void* old) const {
    return route_ == Route::kRecord ? claim(s_, old, stamp_now) : stamp_now();
  }
  // Around the real function.
  ALLOCTAPE_INLINE void start() {
    if (extras() & kExtraLatency) start_ = raw_ticks();
  }
  ALLOCTAPE_INLINE void stop() {
    if (extras() & kExtraLatency) duration_ = raw_ticks() - start_;
  }
  // The event of an acquire or resize that has returned.
  void acquired(CallEvent& e, const void* p);
  // The event of a release, before its call; with durations it is held back until done().
  void releases(CallEvent& e);
  void released(CallEvent& e);
  // An event that neither acquires nor releases.
  void queried(CallEvent& e);

 private:
  uint32_t extras() const { return route_ == Route::kRecord ? s_->extras : 0; }
  void put(const CallEvent& e);
  Route route_;
  Stream* s_;
  uint64_t start_ = 0, duration_ = 0;
};

// A C++ operator's real function runs between these: inner calls are the same application call.
class Forwarding {
 public:
  // REQUIRES: the real function has been looked for.
  ALLOCTAPE_INLINE Forwarding(Route r, Stream* s, wire::Op op, bool acquires, const void* pointer,
                              uint64_t size, uint64_t alignment, const void* frame)
      : s_(r == Route::kRecord ? s : nullptr), late_(r == Route::kLate) {
    if (ALLOCTAPE_LIKELY(s_ != nullptr)) {
      saved_ = s_->forwarded;
      was_ = s_->forwarding;
      enter(s_);
      const void* code = g_real.by_op[static_cast<int>(op)];
      s_->forwarded = {frame, size, alignment, pointer, code, op, acquires};
      s_->forwarding = 1;
      s_->rest = kSlow;
      leave(s_);
    } else if (late_) {
      enter_late(frame);
    }
  }
  ALLOCTAPE_INLINE void done() {
    if (ALLOCTAPE_LIKELY(s_ != nullptr)) {
      enter(s_);
      s_->forwarded = saved_;
      s_->forwarding = was_;
      settle(s_);
      leave(s_);
    } else if (late_) {
      leave_late();
    }
  }

 private:
  void enter_late(const void* frame);
  void leave_late();
  Stream* s_;
  bool late_;
  uint32_t was_ = 0;
  const void* late_frame_ = nullptr;
  Forwarded saved_{};
};

// A release by a function that may call other functions of the API to get there: a C++ operator, or
// one that an allocator builds upon its free().
template <typename Call>
ALLOCTAPE_INLINE void release_through(wire::Op op, void* p, size_t size, size_t alignment,
                                      const void* frame, Call call) {
  if (in_bootstrap(p)) return;
  Recording recording(false, p, size, frame);
  if (recording.forwards_only()) {
    call();
    return;
  }
  CallEvent e = release_event(op, p, size, alignment);
  recording.releases(e);
  Forwarding forwarding(recording.route_taken(), recording.stream(), op, false, p, size, alignment,
                        frame);
  recording.start();
  call();
  recording.stop();
  forwarding.done();
  recording.released(e);
}

}  // namespace alloctape::tracer
