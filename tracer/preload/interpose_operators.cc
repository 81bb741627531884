// The C++ half of the API: every replaceable operator new and delete, under its mangled name, since
// this library knows no C++ runtime.
//
// libstdc++'s operators call one another and end in malloc or free, all of them ours again: Forwarding
// marks those inner calls, which belong to the one call the program made. An operator new that throws
// leaves our frame without running it on; route() notices at the thread's next event.
#include <errno.h>
#include <string.h>

#include "tracer/preload/bootstrap_arena.h"
#include "tracer/preload/real_functions.h"
#include "tracer/preload/recorder.h"
#include "tracer/preload/forbidden.h"

using namespace alloctape::tracer;  // NOLINT: the file defines the C names of the API
namespace wire = alloctape::wire;
using wire::Op;

#define FRAME __builtin_frame_address(0)

namespace {

[[noreturn]] ALLOCTAPE_COLD void no_operator() {
  complain("the program uses a C++ operator new or delete, but no C++ runtime that defines it is loaded",
           0);
  __builtin_trap();
}

template <typename F>
ALLOCTAPE_INLINE F real_operator(Op op) {
  F f = real<F>(op);
  if (ALLOCTAPE_UNLIKELY(!f)) no_operator();
  return f;
}

template <typename Call>
ALLOCTAPE_INLINE void* acquire(Op op, size_t size, size_t alignment, const void* frame, Call call) {
  Stream* s = t_stream;
  const bool fast = ALLOCTAPE_LIKELY(s->mode == Mode::kActive);
  const Route r = fast ? Route::kRecord : route(true, nullptr, size, frame, &s);
  if (r == Route::kForwardOnly) return call();
  const void* before = program_break();
  Forwarding forwarding(r, s, op, true, nullptr, size, alignment, frame);
  void* p = call();
  forwarding.done();
  if (fast && ALLOCTAPE_LIKELY(s->mode == Mode::kActive && alignment == 0 &&
                               wire::compact_kind(op) != wire::Kind::kWide)) {
    record_acquire(s, op, p, size, before);
    return p;
  }
  record_slowly(r, s, acquire_event(op, p, size, 0, alignment, acquire_path(p, before)));
  return p;
}

template <typename Call>
ALLOCTAPE_INLINE void release(Op op, void* p, size_t size, size_t alignment, const void* frame,
                              Call call) {
  if (in_bootstrap(p)) return;
  Stream* s = t_stream;
  const bool fast = ALLOCTAPE_LIKELY(s->mode == Mode::kActive);
  const Route r = fast ? Route::kRecord : route(false, p, size, frame, &s);
  if (r == Route::kForwardOnly) {
    call();
    return;
  }
  if (fast && ALLOCTAPE_LIKELY(alignment == 0 && wire::compact_kind(op) != wire::Kind::kWide)) {
    record_release(s, op, p, size);
  } else {
    record_slowly(r, s, release_event(op, p, size, alignment));
  }
  Forwarding forwarding(r, s, op, false, p, size, alignment, frame);
  call();
  forwarding.done();
}

}  // namespace

// std::nothrow_t is an empty tag, passed by reference; std::align_val_t is a size_t.
#define NEW(symbol, op)                                                                       \
  ALLOCTAPE_EXPORT void* symbol(size_t size) {                                                \
    return acquire(op, size, 0, FRAME,                                                        \
                   [&] { return real_operator<void* (*)(size_t)>(op)(size); });               \
  }
#define NEW_NOTHROW(symbol, op)                                                               \
  ALLOCTAPE_EXPORT void* symbol(size_t size, const void* tag) {                               \
    return acquire(op, size, 0, FRAME, [&] {                                                  \
      return real_operator<void* (*)(size_t, const void*)>(op)(size, tag);                    \
    });                                                                                       \
  }
#define NEW_ALIGNED(symbol, op)                                                               \
  ALLOCTAPE_EXPORT void* symbol(size_t size, size_t alignment) {                              \
    return acquire(op, size, alignment, FRAME, [&] {                                          \
      return real_operator<void* (*)(size_t, size_t)>(op)(size, alignment);                   \
    });                                                                                       \
  }
#define NEW_ALIGNED_NOTHROW(symbol, op)                                                       \
  ALLOCTAPE_EXPORT void* symbol(size_t size, size_t alignment, const void* tag) {             \
    return acquire(op, size, alignment, FRAME, [&] {                                          \
      return real_operator<void* (*)(size_t, size_t, const void*)>(op)(size, alignment, tag); \
    });                                                                                       \
  }
#define DELETE(symbol, op)                                                                    \
  ALLOCTAPE_EXPORT void symbol(void* p) {                                                     \
    release(op, p, 0, 0, FRAME, [&] { real_operator<void (*)(void*)>(op)(p); });              \
  }
#define DELETE_NOTHROW(symbol, op)                                                            \
  ALLOCTAPE_EXPORT void symbol(void* p, const void* tag) {                                    \
    release(op, p, 0, 0, FRAME,                                                               \
            [&] { real_operator<void (*)(void*, const void*)>(op)(p, tag); });                \
  }
#define DELETE_SIZED(symbol, op)                                                              \
  ALLOCTAPE_EXPORT void symbol(void* p, size_t size) {                                        \
    release(op, p, size, 0, FRAME,                                                            \
            [&] { real_operator<void (*)(void*, size_t)>(op)(p, size); });                    \
  }
#define DELETE_ALIGNED(symbol, op)                                                            \
  ALLOCTAPE_EXPORT void symbol(void* p, size_t alignment) {                                   \
    release(op, p, 0, alignment, FRAME,                                                       \
            [&] { real_operator<void (*)(void*, size_t)>(op)(p, alignment); });               \
  }
#define DELETE_ALIGNED_NOTHROW(symbol, op)                                                    \
  ALLOCTAPE_EXPORT void symbol(void* p, size_t alignment, const void* tag) {                  \
    release(op, p, 0, alignment, FRAME, [&] {                                                 \
      real_operator<void (*)(void*, size_t, const void*)>(op)(p, alignment, tag);             \
    });                                                                                       \
  }
#define DELETE_SIZED_ALIGNED(symbol, op)                                                      \
  ALLOCTAPE_EXPORT void symbol(void* p, size_t size, size_t alignment) {                      \
    release(op, p, size, alignment, FRAME,                                                    \
            [&] { real_operator<void (*)(void*, size_t, size_t)>(op)(p, size, alignment); }); \
  }

NEW(_Znwm, Op::kNew)
NEW(_Znam, Op::kNewArray)
NEW_NOTHROW(_ZnwmRKSt9nothrow_t, Op::kNewNothrow)
NEW_NOTHROW(_ZnamRKSt9nothrow_t, Op::kNewArrayNothrow)
NEW_ALIGNED(_ZnwmSt11align_val_t, Op::kNewAligned)
NEW_ALIGNED(_ZnamSt11align_val_t, Op::kNewArrayAligned)
NEW_ALIGNED_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t, Op::kNewAlignedNothrow)
NEW_ALIGNED_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t, Op::kNewArrayAlignedNothrow)
DELETE(_ZdlPv, Op::kDelete)
DELETE(_ZdaPv, Op::kDeleteArray)
DELETE_NOTHROW(_ZdlPvRKSt9nothrow_t, Op::kDeleteNothrow)
DELETE_NOTHROW(_ZdaPvRKSt9nothrow_t, Op::kDeleteArrayNothrow)
DELETE_SIZED(_ZdlPvm, Op::kDeleteSized)
DELETE_SIZED(_ZdaPvm, Op::kDeleteArraySized)
DELETE_ALIGNED(_ZdlPvSt11align_val_t, Op::kDeleteAligned)
DELETE_ALIGNED(_ZdaPvSt11align_val_t, Op::kDeleteArrayAligned)
DELETE_ALIGNED_NOTHROW(_ZdlPvSt11align_val_tRKSt9nothrow_t, Op::kDeleteAlignedNothrow)
DELETE_ALIGNED_NOTHROW(_ZdaPvSt11align_val_tRKSt9nothrow_t, Op::kDeleteArrayAlignedNothrow)
DELETE_SIZED_ALIGNED(_ZdlPvmSt11align_val_t, Op::kDeleteSizedAligned)
DELETE_SIZED_ALIGNED(_ZdaPvmSt11align_val_t, Op::kDeleteArraySizedAligned)
