// A stream: where one thread at a time puts its events. The hot path of the whole project is here.
//
// A stream owns a staging extent (part of the trace file, mapped shared). An event is complete when
// its first word is stored: that word was zero before and is not zero after, so a reader of the file
// sees all of the event or nothing, whenever the process dies. Full buffers are written out as blocks.
//
// A thread takes a stream at its first event and leaves it, buffer and all, to the next thread that is
// born. Calls that find their thread's stream in use (a signal handler that interrupted the recorder)
// or gone (late TLS destructors) go to one shared `late` stream under a lock, with all signals blocked.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "formats/wire/event_word.h"
#include "formats/wire/trace_layout.h"
#include "tracer/preload/clock.h"
#include "tracer/preload/image.h"
#include "tracer/preload/law.h"

namespace alloctape::tracer {

enum class Mode : uint32_t {
  kNone = 0,        // no stream yet, or wiped by fork: be born first
  kActive = 1,      // the only mode in which the fast path records
  kBusy = 2,        // inside the recorder
  kForwarding = 3,  // inside a C++ operator's real function, whose inner calls are no events
  kStopped = 4,     // a limit was hit: count, record nothing
  kDead = 5,        // the thread's stream was handed on
};

// A C++ operator in flight: what libstdc++ calls below it is the same application call. A frame that
// is no longer below `frame` tells that the operator has been left by an exception or longjmp.
struct Forwarded {
  const void* frame;
  uint64_t size, alignment;
  const void* pointer;  // released; nullptr for an acquire
  wire::Op op;
  bool acquires;
};

struct alignas(64) Stream {
  Mode mode;
  uint32_t countdown;   // sparse stamps: events until the next one
  uint64_t* position;   // where the next word goes
  uint64_t* end;        // at or beyond: flush
  uint64_t last_stamp;  // the base of the next time delta
  uint32_t thread;
  uint32_t dense;
  uint64_t window[wire::kWindows];
  // Cold from here.
  wire::BlockHeader* staging;
  uint64_t* words;
  uint64_t staging_bytes;
  Mode rest;            // mode between events: kActive or kStopped
  Forwarded forwarded;
  Stream* next;
  Stream* next_idle;
};

// Never null: threads without a stream point at a constant one whose mode sends them the slow way.
extern __thread Stream* t_stream __attribute__((tls_model("initial-exec")));

inline constexpr uint32_t kSparseStampEvery = 16;
inline constexpr size_t kSmallStaging = 4096, kLargeStaging = 64 * 1024;

// ---- the slow side (stream.cc) ----

// This thread's stream, born if need be; nullptr: use the late stream, or nothing.
Stream* acquire_stream();
// What a call outside the fast path should do. kRecord: on *stream, whose mode is its resting mode.
enum class Route { kForwardOnly, kRecord, kLate };
Route route(bool acquires, const void* pointer, uint64_t size, const void* frame, Stream** stream);

struct WideEvent {
  wire::Op op;
  unsigned path = 0, fields = 0;
  uint64_t pointer = 0, old_pointer = 0, size = 0, count = 0, alignment = 0, value = 0;
  uint64_t release_stamp = 0;
  uint32_t thread = 0, tid = 0;
};
// REQUIRES: s->mode == kBusy. Leaves it so.
void put_wide(Stream* s, const WideEvent& e, uint64_t stamp);
// The same event in the words for larger sizes and longer times, if it has such; false: none was
// written. REQUIRES: s->mode == kBusy.
bool put_scaled(Stream* s, wire::Kind kind, uint64_t pointer, uint64_t size, bool other_arena,
                uint64_t odd, uint64_t stamp);
// What is left of `delta` for an event's own word, which must follow; writes a time word where it must.
// REQUIRES: delta < 2^kTimeWordBits
uint64_t spend_time(Stream* s, uint64_t delta);
void record_late(const WideEvent& e);
void flush(Stream* s);
void end_thread();      // this thread's last event; hands its stream on
void make_thread_key();  // once, early: so that the key is one of the first, which need no memory
void forget_stream();    // in a fork child, where the kernel cannot wipe memory
void record_fork();

// ---- the fast side ----

ALLOCTAPE_INLINE void compiler_barrier() { asm volatile("" ::: "memory"); }

// While the process has one thread, order needs no stamps: every kSparseStampEvery-th event reads the
// clock. A second thread sets `dense` in every stream before its first event; a thread that gets hold
// of anything the other one released has synchronised with it through the allocator, and so reads
// `dense` as set: acquires look after their call, and on x86 loads are not reordered.
ALLOCTAPE_INLINE uint64_t stream_stamp(Stream* s) {
  if (ALLOCTAPE_LIKELY(__atomic_load_n(&s->dense, __ATOMIC_RELAXED))) return stamp_now();
  if (ALLOCTAPE_UNLIKELY(s->countdown-- == 0)) {
    s->countdown = kSparseStampEvery - 1;
    return stamp_now();
  }
  return s->last_stamp;
}

// Stores the first word of an event: from here on a reader of the file sees it. Release pairs with
// the reader's acquire load of the word (formats/stream_decoder.cc) and orders it after the words
// behind it.
ALLOCTAPE_INLINE void publish(uint64_t* at, uint64_t word) {
  __atomic_store_n(at, word, __ATOMIC_RELEASE);
}

ALLOCTAPE_INLINE void advance(Stream* s, unsigned words) {
  s->position += words;
  if (ALLOCTAPE_UNLIKELY(s->position >= s->end)) flush(s);
}

// Tries the one-word form in its plainest shape. REQUIRES: s->mode == kBusy. `odd` != 0 forces the
// wide form.
ALLOCTAPE_INLINE bool put_compact(Stream* s, wire::Kind kind, uint64_t pointer, uint64_t size,
                                  bool other_arena, uint64_t odd, uint64_t stamp) {
  const uint64_t delta = stamp - s->last_stamp;
  const unsigned slot = wire::window_slot(pointer);
  static_assert(wire::kExactSizeLimit == 1u << 15);
  const uint64_t misfit = (delta >> wire::kTimeBits) | (size >> 15) |
                          (s->window[slot] ^ wire::window_tag(pointer, other_arena)) |
                          (pointer & ((1u << wire::kOffsetShift) - 1)) | odd;
  if (ALLOCTAPE_UNLIKELY(misfit)) return false;
  s->last_stamp = stamp;
  publish(s->position, wire::compact_word(kind, delta, size, slot, pointer));
  advance(s, 1);
  return true;
}

}  // namespace alloctape::tracer
