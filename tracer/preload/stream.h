// A stream: where one thread at a time puts its events. The hot path of the whole project is here
// and in fast_path.h.
//
// A stream owns a staging extent (part of the trace file, mapped shared). An event is complete when
// its first word is stored: that word was zero before and is not zero after, so a reader of the
// file sees all of the event or nothing, whenever the process dies. Full buffers are written out as
// blocks.
//
// A thread takes a stream at its first event and leaves it, buffer and all, to the next thread that
// is born. Calls that find their thread's stream in use (a signal handler that interrupted the
// recorder) or gone (late TLS destructors) go to one shared `late` stream under a lock, with all
// signals blocked.
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
  kNone = 0,     // no stream yet, or wiped by fork: be born first
  kActive = 1,   // records
  kPaused = 2,   // by a command: record nothing, count nothing
  kStopped = 3,  // a limit was hit: count, record nothing
  kDead = 4,     // the thread's stream was handed on
};

// Values of Stream::go that are no control word of a recording image (their state bits are 0), so
// that a compare with it fails. 0 is what fork leaves; a parent's control word is never 0.
inline constexpr uint32_t kBusy = 4;  // inside the recorder
inline constexpr uint32_t kSlow = 8;  // at rest, but each call has something extra to be done

// Why a stream at rest is not on the fast path although it records.
enum Extra : uint32_t {
  kExtraUsable = 1 << 0,   // --usable
  kExtraLatency = 1 << 1,  // --latency
  kExtraLate = 1 << 2,     // blocks live of which the trace knows nothing: tell sizes when they go
  kExtraClock = 1 << 3,    // the stamp is not a plain rdtsc
};

// A C++ operator in flight: what libstdc++ calls below it is the same application call. A frame
// that is no longer below `frame` tells that the operator has been left by an exception or longjmp.
struct Forwarded {
  const void* frame;
  uint64_t size, alignment;
  const void* pointer;  // released; nullptr for an acquire
  const void* real;     // the operator's own code
  wire::Op op;
  bool acquires;
};
// How far from an operator's start its calls of other functions may be: their return addresses tell
// them from calls of the same size that a new_handler makes, or that come once the operator has
// been left. libstdc++'s operators are a few bytes each; of other libraries', nothing is known.
inline constexpr uint64_t kKnownReach = 4096, kUnknownReach = 1 << 20;
ALLOCTAPE_HIDDEN extern uint64_t g_operator_reach;

inline constexpr size_t kSeenBlocks = 2048;

struct alignas(64) Stream {
  // One cache line for the fast path.
  uint32_t go;                // equal to the image's control word: record right away
  uint32_t rest;              // what `go` is between events: the control word last seen, or kSlow
  uint64_t* position;         // where the next word goes
  uint64_t* end;              // at or beyond: flush
  uint64_t last_stamp;        // the base of the next time delta
  uint64_t window_base;       // the window in use, as in windows[]
  uint64_t window_bits;       // its index, where a compact word has it
  const void* program_break;  // as last seen by this stream
  uint32_t stamp_mask;        // stamps when position & mask is 0: see fast_path.h
  uint32_t passes;            // equal to the image's control word: paused, just forward
  // Less hot from here.
  uint16_t* owners;  // fast_path.h, "Stamps"; nullptr while it is not needed
  uint64_t owner;    // this stream's number there; never 0
  uint32_t late;     // equal to the image's control word: all that is extra is kExtraLate
  Mode mode;
  uint32_t seen;        // the control word that `mode` is in accord with
  uint32_t extras;      // Extra bits
  uint32_t forwarding;  // inside a C++ operator's real function
  uint32_t thread;
  Forwarded forwarded;
  wire::BlockHeader* staging;
  uint64_t* words;
  uint64_t staging_bytes;
  uint64_t extra_words;      // words of this buffer beyond one for each event
  const void** seen_blocks;  // kExtraLate: blocks that this stream acquired, by hash; or nullptr
  Stream* next;
  Stream* next_idle;
  uint64_t windows[wire::kWindows];  // the window's address, | 4 where its arena is another
};
static_assert(offsetof(Stream, owners) == 64);

inline constexpr uint64_t kNoWindowBase = ~uint64_t{0};

// Never null: threads without a stream point at a constant one that sends them the slow way.
ALLOCTAPE_HIDDEN extern __thread Stream* t_stream asm("alloctape_stream")
    __attribute__((tls_model("initial-exec")));
// The same, found afresh: the compiler would rather keep the place of t_stream in a register across
// a call, which costs a push and a pop more than finding it again.
ALLOCTAPE_INLINE Stream* stream_again() {
  Stream* s;
  asm volatile("mov alloctape_stream@gottpoff(%%rip), %0\n\tmov %%fs:(%0), %0" : "=r"(s));
  return s;
}

inline constexpr size_t kSmallStaging = 4096, kLargeStaging = 64 * 1024;
// The widest record with all its notes, and one word that stays zero so that a scan of a full
// buffer ends.
inline constexpr size_t kMarginWords = wire::kMaxWideWords + 4 + 1;

// This thread's stream, born if need be; nullptr: use the late stream, or nothing.
Stream* acquire_stream();
// What a call outside the fast path should do. kRecord: on *stream, which is at rest.
enum class Route { kForwardOnly, kRecord, kLate };
Route route(bool acquires, const void* pointer, uint64_t size, const void* frame, Stream** stream);

// An event with all that it may carry. Fields in `fields`, notes where not 0.
struct CallEvent {
  wire::Op op;
  unsigned path = 0, fields = 0;
  uint64_t pointer = 0, old_pointer = 0, size = 0, count = 0, alignment = 0, value = 0;
  uint64_t release_stamp = 0;
  uint32_t thread = 0, tid = 0;
  unsigned old_path = 0;  // resize: of the argument
  uint64_t stamp = 0;     // 0: now
  uint64_t usable = 0, old_usable = 0, duration = 0;
};
// Writes an event in the shortest form that it has. REQUIRES: the stream is busy. Leaves it so.
void put_event(Stream* s, const CallEvent& e, uint64_t stamp);
void record_late(const CallEvent& e);
void end_thread();       // this thread's last event; hands its stream on
void make_thread_key();  // once, early: so that the key is one of the first, which need no memory
void forget_stream();    // in a fork child, where the kernel cannot wipe memory
void record_fork();

// ---- the stream's buffer (staging.cc) ----

void adopt_staging(Stream* s, uint32_t index, wire::BlockHeader* extent, uint64_t bytes,
                   uint64_t sequence);
void flush(Stream* s);
void stop_image(Image* image, long error);
bool stopped(const Image* image);

// ---- between events ----

ALLOCTAPE_INLINE void compiler_barrier() { asm volatile("" ::: "memory"); }

// From here to leave() the stream is ours, even from our own signal handlers.
ALLOCTAPE_INLINE void enter(Stream* s) {
  s->go = kBusy;
  compiler_barrier();
}
ALLOCTAPE_INLINE void leave(Stream* s) {
  compiler_barrier();
  s->go = s->rest;
}
ALLOCTAPE_INLINE bool busy(const Stream* s) { return s->go != s->rest; }
// After a change of mode, extras, forwarding or seen. The caller leaves.
ALLOCTAPE_INLINE void settle(Stream* s) {
  s->rest = s->mode == Mode::kActive && !s->extras && !s->forwarding ? s->seen : kSlow;
  s->late = s->mode == Mode::kActive && s->extras == kExtraLate && !s->forwarding ? s->seen : kSlow;
  s->passes = s->mode == Mode::kPaused && !s->forwarding ? s->seen : kSlow;
}

// Stores the first word of an event: from here on a reader of the file sees it. Release pairs with
// the reader's acquire load of the word (formats/stream_decoder.cc) and orders it after the words
// behind it.
ALLOCTAPE_INLINE void publish(uint64_t* at, uint64_t word) {
  __atomic_store_n(at, word, __ATOMIC_RELEASE);
}

}  // namespace alloctape::tracer
