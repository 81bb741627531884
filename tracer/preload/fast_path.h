// The fast path: a malloc or free of a thread that just records, in some forty instructions, of
// which none is a call but the real function's.
//
// The C++ operators take it too, where they are libstdc++'s and nobody has replaced them: they are
// then malloc and free under other names.
//
// Every exit but the straight one is a tail call of a cold function, so that nothing is saved on
// the stack for their sake.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "tracer/preload/bootstrap_arena.h"
#include "tracer/preload/real_functions.h"
#include "tracer/preload/stream.h"

namespace alloctape::tracer {

ALLOCTAPE_INLINE uint64_t address(const void* p) { return reinterpret_cast<uint64_t>(p); }

// Whether this thread may record at once: its stream is at rest and has seen the latest command.
// Threads without a stream, busy ones, fork children before their own first event: never.
ALLOCTAPE_INLINE bool may_record(const Stream* s, uint32_t control) {
  return ALLOCTAPE_LIKELY(control == s->go);
}

// Paused by a command that its stream has seen: there is nothing to do but to forward.
ALLOCTAPE_INLINE bool just_forwards(const Stream* s, uint32_t control) {
  return ALLOCTAPE_LIKELY(control == s->passes);
}

// Stamps. An event reads the clock only where the order of events needs it: rdtsc is the dearest
// instruction of them all, and nothing of a malloc hides it (docs/performance.md).
//
// One thread: order needs no stamps. Words at every 64th place of the buffer read the clock (the
// mask).
//
// Several: order across threads is needed between an event on an address and the one before it on
// the same address, if that was another thread's. So there is a table of who did the last event, by
// address. Where it says "this stream", program order decides, and the last stamp is repeated.
// Where it says anything else, the event writes itself in and reads the clock. Say A's event on an
// address is followed by B's. A's entry was made before A released the block to the allocator, or
// before A handed on what it had acquired; B reaches the address only by synchronising with A, and
// looks after its own acquire or before its own release: so B finds A's entry, or a later one, and
// reads the clock after A did. Two addresses may share an entry. If B made it in an event of its
// own on the other address, B may repeat the stamp of that event, which was taken after the entry
// was made; and A's is older, because A, having read the clock, looks whether its entry still
// stands, and if not begins anew (claim()). Stores are not reordered with stores on x86, nor loads
// with loads; A's look may be answered by its own store before others see it, but then B's entry is
// overwritten when they do. The switch from one thread to several: the second thread sets `owners`
// in every stream before its own first event. No event can miss that: whoever gets hold of anything
// that the second thread released has synchronised with it, and looks at `owners` after its own
// call.
//
// What is given up is the time of events in between: they show their thread's last stamp, at most
// 15 events old (63 with one thread), and at most a tick of `record` (10 ms). Without `record`,
// there are no ticks, and several threads read the clock at each event: the mask is 0 then.
inline constexpr uint32_t kSparseMask = 63 * 8;
// With several threads, every 16th place: what one thread did in a row is then taken for a row of
// no more than that, and the order between threads is as fine.
inline constexpr uint32_t kOwnedMask = 15 * 8;
inline constexpr unsigned kOwnerShift = 6, kOwnerBits = 16;  // 4 MiB without a shared entry
inline constexpr size_t kOwnerTableBytes = sizeof(uint16_t) << kOwnerBits;
// The number of all streams for which the entries have none. They enter a 0, which is nobody's:
// nothing is ever theirs, nor anybody's after them.
inline constexpr uint64_t kNobody = 1u << 16;

ALLOCTAPE_INLINE uint16_t* owner_entry(const Stream* s, const void* p) {
  return s->owners + (address(p) >> kOwnerShift & ((1u << kOwnerBits) - 1));
}
ALLOCTAPE_INLINE bool at_stamp_place(const Stream* s, const uint64_t* at) {
  return !(__atomic_load_n(&s->stamp_mask, __ATOMIC_RELAXED) & static_cast<uint32_t>(address(at)));
}
ALLOCTAPE_INLINE bool owns(const Stream* s, const void* p) {
  return __atomic_load_n(owner_entry(s, p), __ATOMIC_RELAXED) == s->owner;
}
ALLOCTAPE_INLINE bool has_owners(const Stream* s) {
  return __atomic_load_n(&s->owners, __ATOMIC_RELAXED) != nullptr;
}
ALLOCTAPE_INLINE uint64_t tsc_stamp() { return __builtin_ia32_rdtsc() >> kTscShift; }
// A stamp, with the address entered as this stream's.
template <typename Clock>
ALLOCTAPE_INLINE uint64_t claim(const Stream* s, const void* p, Clock clock) {
  if (!has_owners(s)) return clock();
  uint16_t* const entry = owner_entry(s, p);
  uint64_t stamp;
  do {
    __atomic_store_n(entry, static_cast<uint16_t>(s->owner), __ATOMIC_RELAXED);
    compiler_barrier();
    stamp = clock();
    compiler_barrier();
  } while (ALLOCTAPE_UNLIKELY(!owns(s, p)) && s->owner != kNobody);
  return stamp;
}
// The flags that glibc keeps in the word before a block, which malloc has just written or free is
// about to read: 2 is a mapping of its own, 4 another arena than the main one.
inline constexpr uint64_t kChunkMapped = 2, kChunkOtherArena = 4;
ALLOCTAPE_INLINE uint64_t chunk_flags(const void* p) {
  if (ALLOCTAPE_UNLIKELY(!g_glibc_chunks)) return 0;
  return static_cast<const uint64_t*>(p)[-1] & (kChunkMapped | kChunkOtherArena);
}

// A word's place for a pointer in the window in use: the offset within it, or more than an offset
// where the pointer lies elsewhere, is a mapping, or is not a multiple of 8. Flags and low bits of
// window_base meet in one exclusive or.
inline constexpr uint64_t kOffsetMask = (uint64_t{1} << wire::kWindowShift) - 8;
ALLOCTAPE_INLINE uint64_t in_window(const Stream* s, const void* p, uint64_t flags) {
  return address(p) ^ flags ^ s->window_base;
}
ALLOCTAPE_INLINE bool is_offset(uint64_t t) { return !(t & ~kOffsetMask); }

ALLOCTAPE_INLINE uint64_t pack(const Stream* s, wire::Kind kind, uint64_t delta, uint64_t size,
                               uint64_t offset) {
  static_assert(wire::kOffsetAt > wire::kOffsetShift);
  return static_cast<uint64_t>(kind) | delta << wire::kTimeAt | size << wire::kSizeAt |
         s->window_bits | offset << (wire::kOffsetAt - wire::kOffsetShift);
}

// What the fast path leaves to others; each records (or not), leaves the stream, and ends the call.
// An event's op, with the time that it has been given beyond last_stamp, in one argument.
constexpr uint64_t op_and_delta(wire::Op op, uint64_t delta) {
  return delta << 8 | static_cast<uint64_t>(op);
}
void* finish_acquire(Stream* s, void* p);  // the buffer is full
void finish_release(Stream* s, void* p);
void* odd_acquire(Stream* s, void* p, uint64_t op_and_delta, uint64_t size);
void odd_release(Stream* s, void* p, uint64_t op_and_delta, uint64_t size);

// The event's time: what passed since the last one, which is brought up to date.
ALLOCTAPE_INLINE uint64_t take_time(Stream* s, const uint64_t* at, const void* p) {
  if (ALLOCTAPE_LIKELY(!at_stamp_place(s, at) && (!has_owners(s) || owns(s, p)))) return 0;
  const uint64_t stamp = claim(s, p, tsc_stamp), delta = stamp - s->last_stamp;
  s->last_stamp = stamp;
  return delta;
}

// The end of an acquire. REQUIRES: may_record() held before the call that returned p.
template <wire::Op op>
ALLOCTAPE_INLINE void* record_acquired(void* p, uint64_t size) {
  constexpr wire::Kind kKind =
      op == wire::Op::kRealloc ? wire::Kind::kReallocTo : wire::compact_kind(op);
  static_assert(kKind != wire::Kind::kWide);
  Stream* s = stream_again();
  enter(s);
  uint64_t* const at = s->position;
  if (ALLOCTAPE_UNLIKELY(!p)) return odd_acquire(s, p, op_and_delta(op, 0), size);
  const uint64_t delta = take_time(s, at, p);
  const uint64_t t = in_window(s, p, chunk_flags(p));
  if (ALLOCTAPE_UNLIKELY(!is_offset(t) || size >= wire::kExactSizeLimit ||
                         delta >> wire::kTimeBits || program_break() != s->program_break))
    return odd_acquire(s, p, op_and_delta(op, delta), size);
  publish(at, pack(s, kKind, delta, size, t));
  s->position = at + 1;
  if (ALLOCTAPE_UNLIKELY(at + 1 >= s->end)) return finish_acquire(s, p);
  leave(s);
  return p;
}

// A release, with the real free() as its last step. REQUIRES: may_record() of s, which is this
// thread's.
template <wire::Op op>
ALLOCTAPE_INLINE void record_release(Stream* s, void* p, uint64_t size) {
  enter(s);
  uint64_t* const at = s->position;
  if (ALLOCTAPE_UNLIKELY(!p)) return odd_release(s, p, op_and_delta(op, 0), size);
  const uint64_t delta = take_time(s, at, p);
  uint64_t flags = 0;
  if (ALLOCTAPE_LIKELY(g_glibc_chunks)) {
    flags = chunk_flags(p);  // blocks of the bootstrap arena look like mappings
  } else if (in_bootstrap(p)) {
    return odd_release(s, p, op_and_delta(op, delta), size);
  }
  const uint64_t t = in_window(s, p, flags);
  if (ALLOCTAPE_UNLIKELY(!is_offset(t) || size >= wire::kExactSizeLimit ||
                         delta >> wire::kTimeBits))
    return odd_release(s, p, op_and_delta(op, delta), size);
  publish(at, pack(s, wire::compact_kind(op), delta, size, t));
  s->position = at + 1;
  if (ALLOCTAPE_UNLIKELY(at + 1 >= s->end)) return finish_release(s, p);
  leave(s);
  g_real.free_(p);
}

}  // namespace alloctape::tracer
