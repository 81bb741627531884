// The C++ half of the API: every replaceable operator new and delete, under its mangled name, since
// this library knows no C++ runtime.
//
// libstdc++'s plain operators are malloc and free but for what happens when memory runs out. Where
// nobody has replaced any of them they take the fast path, straight to malloc and free.
//
// Else: libstdc++'s operators call one another and end in malloc or free, all of them ours again:
// Forwarding marks those inner calls, which belong to the one call the program made. An operator
// new that throws leaves our frame without running it on; route() notices at the thread's next
// event.
#include <errno.h>
#include <string.h>

#include "tracer/preload/bootstrap_arena.h"
#include "tracer/preload/elf_lookup.h"
#include "tracer/preload/fast_path.h"
#include "tracer/preload/real_functions.h"
#include "tracer/preload/recorder.h"

#include "tracer/preload/forbidden.h"

using namespace alloctape::tracer;  // NOLINT: the file defines the C names of the API
namespace wire = alloctape::wire;
using wire::Op;

#define FRAME __builtin_frame_address(0)

namespace {

[[noreturn]] ALLOCTAPE_COLD void no_operator() {
  complain(
      "the program uses a C++ operator new or delete, but no C++ runtime that defines it is loaded",
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
  Recording recording(true, nullptr, size, frame);
  if (recording.forwards_only()) return call();
  real_operator<void*>(op);
  Forwarding forwarding(recording.route_taken(), recording.stream(), op, true, nullptr, size,
                        alignment, frame);
  recording.start();
  void* p = call();
  recording.stop();
  forwarding.done();
  CallEvent e = acquire_event(op, p, size, 0, alignment);
  recording.acquired(e, p);
  return p;
}

// Whether the plain operators are libstdc++'s, all of them: each may call another.
enum class Plain : int { kUnknown, kYes, kNo };
Plain g_plain = Plain::kUnknown;

ALLOCTAPE_COLD bool learn_whether_plain() {
  bool plain = real_functions_ready();
  constexpr Op kPlain[] = {Op::kNew,         Op::kNewArray,    Op::kDelete,
                           Op::kDeleteArray, Op::kDeleteSized, Op::kDeleteArraySized};
  for (const Op op : kPlain) {
    void* f = find_real(op);
    plain =
        plain && f && lies_in(f, "libstdc++.so") && !defined_ahead_of_us(wire::traits(op).symbol);
  }
  if (plain) g_operator_reach = kKnownReach;
  __atomic_store_n(&g_plain, plain ? Plain::kYes : Plain::kNo, __ATOMIC_RELAXED);
  return plain;
}
ALLOCTAPE_INLINE bool operators_are_plain() {
  const Plain plain = __atomic_load_n(&g_plain, __ATOMIC_RELAXED);
  if (ALLOCTAPE_LIKELY(plain == Plain::kYes)) return true;
  return plain == Plain::kUnknown && learn_whether_plain();
}

template <Op op>
__attribute__((noinline)) void* slow_new(size_t size) {
  if (may_record_late(t_stream) && operators_are_plain()) {
    if (void* p = g_real.malloc_(size ? size : 1)) return record_acquired_late<op>(p, size);
  }
  return acquire(op, size, 0, FRAME, [&] { return real_operator<void* (*)(size_t)>(op)(size); });
}
template <Op op>
ALLOCTAPE_INLINE void* plain_new(size_t size) {
  if (!may_record(t_stream, control_now()) || !operators_are_plain()) return slow_new<op>(size);
  void* p = g_real.malloc_(size ? size : 1);
  if (ALLOCTAPE_UNLIKELY(!p)) return slow_new<op>(size);  // for its new_handler and its exception
  return record_acquired<op>(p, size);
}

template <Op op>
__attribute__((noinline)) void slow_delete(void* p) {
  Stream* s = t_stream;
  if (may_record_late(s) && operators_are_plain() && !in_bootstrap(p))
    return record_release_late<op>(s, p, 0);
  release_through(op, p, 0, 0, FRAME, [&] { real_operator<void (*)(void*)>(op)(p); });
}
template <Op op>
ALLOCTAPE_INLINE void plain_delete(void* p) {
  Stream* s = t_stream;
  const uint32_t control = control_now();
  if (!may_record(s, control) || !operators_are_plain()) return slow_delete<op>(p);
  record_release<op>(s, p, 0);
}

template <Op op>
__attribute__((noinline)) void slow_sized_delete(void* p, size_t size) {
  Stream* s = t_stream;
  if (may_record_late(s) && operators_are_plain() && !in_bootstrap(p))
    return record_release_late<op>(s, p, size);
  release_through(op, p, size, 0, FRAME,
                  [&] { real_operator<void (*)(void*, size_t)>(op)(p, size); });
}
template <Op op>
ALLOCTAPE_INLINE void plain_sized_delete(void* p, size_t size) {
  Stream* s = t_stream;
  const uint32_t control = control_now();
  if (!may_record(s, control) || !operators_are_plain()) return slow_sized_delete<op>(p, size);
  record_release<op>(s, p, size);
}

}  // namespace

// std::nothrow_t is an empty tag, passed by reference; std::align_val_t is a size_t.
#define NEW(symbol, op) \
  ALLOCTAPE_EXPORT void* symbol(size_t size) { return plain_new<op>(size); }
#define NEW_NOTHROW(symbol, op)                                                                   \
  ALLOCTAPE_EXPORT void* symbol(size_t size, const void* tag) {                                   \
    return acquire(op, size, 0, FRAME,                                                            \
                   [&] { return real_operator<void* (*)(size_t, const void*)>(op)(size, tag); }); \
  }
#define NEW_ALIGNED(symbol, op)                                                                    \
  ALLOCTAPE_EXPORT void* symbol(size_t size, size_t alignment) {                                   \
    return acquire(op, size, alignment, FRAME,                                                     \
                   [&] { return real_operator<void* (*)(size_t, size_t)>(op)(size, alignment); }); \
  }
#define NEW_ALIGNED_NOTHROW(symbol, op)                                                       \
  ALLOCTAPE_EXPORT void* symbol(size_t size, size_t alignment, const void* tag) {             \
    return acquire(op, size, alignment, FRAME, [&] {                                          \
      return real_operator<void* (*)(size_t, size_t, const void*)>(op)(size, alignment, tag); \
    });                                                                                       \
  }
#define DELETE(symbol, op) \
  ALLOCTAPE_EXPORT void symbol(void* p) { plain_delete<op>(p); }
#define DELETE_NOTHROW(symbol, op)                                                     \
  ALLOCTAPE_EXPORT void symbol(void* p, const void* tag) {                             \
    release_through(op, p, 0, 0, FRAME,                                                \
                    [&] { real_operator<void (*)(void*, const void*)>(op)(p, tag); }); \
  }
#define DELETE_SIZED(symbol, op) \
  ALLOCTAPE_EXPORT void symbol(void* p, size_t size) { plain_sized_delete<op>(p, size); }
#define DELETE_ALIGNED(symbol, op)                                                      \
  ALLOCTAPE_EXPORT void symbol(void* p, size_t alignment) {                             \
    release_through(op, p, 0, alignment, FRAME,                                         \
                    [&] { real_operator<void (*)(void*, size_t)>(op)(p, alignment); }); \
  }
#define DELETE_ALIGNED_NOTHROW(symbol, op)                                        \
  ALLOCTAPE_EXPORT void symbol(void* p, size_t alignment, const void* tag) {      \
    release_through(op, p, 0, alignment, FRAME, [&] {                             \
      real_operator<void (*)(void*, size_t, const void*)>(op)(p, alignment, tag); \
    });                                                                           \
  }
#define DELETE_SIZED_ALIGNED(symbol, op)                                      \
  ALLOCTAPE_EXPORT void symbol(void* p, size_t size, size_t alignment) {      \
    release_through(op, p, size, alignment, FRAME, [&] {                      \
      real_operator<void (*)(void*, size_t, size_t)>(op)(p, size, alignment); \
    });                                                                       \
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
