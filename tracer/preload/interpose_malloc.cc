// The C half of the API: malloc and its family. One function of ours for each, same contract.
//
// malloc, calloc, free and realloc have a fast path (fast_path.h); everything else, and everybody
// whose thread cannot record at once, goes the slow way, through Recording.
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "tracer/preload/bootstrap_arena.h"
#include "tracer/preload/fast_path.h"
#include "tracer/preload/real_functions.h"
#include "tracer/preload/recorder.h"
#include "tracer/preload/steering.h"

#include "tracer/preload/forbidden.h"

using namespace alloctape::tracer;  // NOLINT: the file defines the C names of the API
namespace wire = alloctape::wire;
using wire::Op;

// Of the slow function itself, which is as deep in the stack as the function of the API it serves.
#define FRAME __builtin_frame_address(0)
#define SLOW __attribute__((noinline))

namespace {

// Any acquire that is not on the fast path. `call` is the real function with its arguments.
template <typename Call>
ALLOCTAPE_INLINE void* acquire_slowly(Op op, uint64_t size, uint64_t count, uint64_t alignment,
                                      const void* frame, Call call) {
  if (!real_functions_ready()) {
    if (count) return nullptr;  // the product overflowed
    return bootstrap_allocate(size, alignment);
  }
  Recording recording(true, nullptr, size, frame);
  recording.start();
  void* p = call();
  recording.stop();
  if (recording.forwards_only()) return p;
  CallEvent e = acquire_event(op, p, size, count, alignment);
  recording.acquired(e, p);
  return p;
}

template <typename Call>
ALLOCTAPE_INLINE void release_slowly(Op op, void* p, uint64_t size, uint64_t alignment,
                                     const void* frame, Call call) {
  if (!real_functions_ready()) return;
  Recording recording(false, p, size, frame);
  if (recording.forwards_only()) {
    call();
    return;
  }
  CallEvent e = release_event(op, p, size, alignment);
  recording.releases(e);
  recording.start();
  call();
  recording.stop();
  recording.released(e);
}

SLOW void* malloc_slowly(size_t size) {
  if (may_record_late(t_stream))
    return record_acquired_late<Op::kMalloc>(g_real.malloc_(size), size);
  return acquire_slowly(Op::kMalloc, size, 0, 0, FRAME, [&] { return g_real.malloc_(size); });
}
SLOW void* calloc_slowly(size_t count, size_t size) {
  size_t bytes;
  // Where the product does not fit, the event carries both factors.
  const bool overflow = __builtin_mul_overflow(count, size, &bytes);
  if (may_record_late(t_stream) && !overflow)
    return record_acquired_late<Op::kCalloc>(g_real.calloc_(count, size), bytes);
  return acquire_slowly(Op::kCalloc, overflow ? size : bytes, overflow ? count : 0, 0, FRAME,
                        [&] { return g_real.calloc_(count, size); });
}
SLOW void free_slowly(void* p) {
  if (in_bootstrap(p)) return;
  Stream* s = t_stream;
  if (may_record_late(s)) return record_release_late<Op::kFree>(s, p, 0);
  release_slowly(Op::kFree, p, 0, 0, FRAME, [&] { g_real.free_(p); });
}

// A block that outlives the search for malloc moves to malloc: an acquire, as far as events go.
void* bootstrap_resize(void* p, size_t size) {
  void* q = real_functions_ready() ? malloc_slowly(size) : bootstrap_allocate(size);
  if (q) memcpy(q, p, size < bootstrap_size(p) ? size : bootstrap_size(p));
  return q;
}

// realloc and reallocarray. `bytes` is the product; with count != 0 it overflowed, and bytes is the
// element size. reallocarray may call realloc, which is ours again: hence Forwarding.
template <typename Call>
ALLOCTAPE_INLINE void* resize_slowly(Op op, void* old, size_t bytes, size_t count,
                                     const void* frame, Call call) {
  if (in_bootstrap(old)) return count ? nullptr : bootstrap_resize(old, bytes);
  if (!real_functions_ready()) return !old && !count ? bootstrap_allocate(bytes) : nullptr;
  Recording recording(true, old, bytes, frame);
  if (recording.forwards_only()) return call();
  CallEvent e;
  recording.note_old(e, old);
  const unsigned old_path = old ? chunk_path(old) : 0;
  const uint64_t release = recording.claim_old(old);
  Forwarding forwarding(recording.route_taken(), recording.stream(), op, true, nullptr, bytes, 0,
                        frame);
  recording.start();
  void* p = call();
  recording.stop();
  forwarding.done();
  const uint64_t old_usable = e.old_usable;
  e = old ? resize_event(op, old, old_path, p, bytes, count, release)
          : acquire_event(op, p, bytes, count, 0);
  e.old_usable = old_usable;
  recording.acquired(e, p);
  return p;
}

SLOW void* realloc_slowly(void* p, size_t size) {
  return resize_slowly(Op::kRealloc, p, size, 0, FRAME, [&] { return g_real.realloc_(p, size); });
}

}  // namespace

ALLOCTAPE_EXPORT void* malloc(size_t size) {
  const Stream* s = t_stream;
  const uint32_t control = control_now();
  if (!may_record(s, control))
    return just_forwards(s, control) ? g_real.malloc_(size) : malloc_slowly(size);
  return record_acquired<Op::kMalloc>(g_real.malloc_(size), size);
}

ALLOCTAPE_EXPORT void* calloc(size_t count, size_t size) {
  const Stream* s = t_stream;
  const uint32_t control = control_now();
  if (!may_record(s, control)) {
    return just_forwards(s, control) ? g_real.calloc_(count, size) : calloc_slowly(count, size);
  }
  size_t bytes;
  if (ALLOCTAPE_UNLIKELY(__builtin_mul_overflow(count, size, &bytes)))
    return calloc_slowly(count, size);
  return record_acquired<Op::kCalloc>(g_real.calloc_(count, size), bytes);
}

ALLOCTAPE_EXPORT void free(void* p) {
  Stream* s = t_stream;
  const uint32_t control = control_now();
  if (!may_record(s, control)) {
    return just_forwards(s, control) && !in_bootstrap(p) ? g_real.free_(p) : free_slowly(p);
  }
  record_release<Op::kFree>(s, p, 0);
}

ALLOCTAPE_EXPORT void* realloc(void* p, size_t size) {
  const Stream* s = t_stream;
  const uint32_t control = control_now();
  if (!may_record(s, control) || ALLOCTAPE_UNLIKELY(in_bootstrap(p))) {
    return just_forwards(s, control) && !in_bootstrap(p) ? g_real.realloc_(p, size)
                                                         : realloc_slowly(p, size);
  }
  if (!p) return record_acquired<Op::kRealloc>(g_real.realloc_(p, size), size);
  const uint64_t release = resize_stamp(s, p);
  const unsigned old_path = chunk_path(p);
  void* q = g_real.realloc_(p, size);
  record_resize(p, old_path, q, size, release);
  return q;
}

ALLOCTAPE_EXPORT void* reallocarray(void* p, size_t count, size_t size) {
  size_t bytes;
  const bool overflow = __builtin_mul_overflow(count, size, &bytes);
  return resize_slowly(Op::kReallocarray, p, overflow ? size : bytes, overflow ? count : 0, FRAME,
                       [&]() -> void* {
                         auto f = real<void* (*)(void*, size_t, size_t)>(Op::kReallocarray);
                         if (f) return f(p, count, size);
                         if (overflow) {
                           errno = ENOMEM;
                           return nullptr;
                         }
                         return g_real.realloc_(p, bytes);
                       });
}

// posix_memalign, aligned_alloc, memalign, valloc, pvalloc: rare enough to have the wide form only.
ALLOCTAPE_EXPORT int posix_memalign(void** out, size_t alignment, size_t size) {
  if (!real_functions_ready()) {
    void* p = bootstrap_allocate(size, alignment);
    if (!p) return ENOMEM;
    *out = p;
    return 0;
  }
  int result = ENOMEM;
  acquire_slowly(Op::kPosixMemalign, size, 0, alignment, FRAME, [&]() -> void* {
    auto f = real<int (*)(void**, size_t, size_t)>(Op::kPosixMemalign);
    result = f(out, alignment, size);
    return result == 0 ? *out : nullptr;
  });
  return result;
}

ALLOCTAPE_EXPORT void* aligned_alloc(size_t alignment, size_t size) {
  return acquire_slowly(Op::kAlignedAlloc, size, 0, alignment, FRAME, [&] {
    return real<void* (*)(size_t, size_t)>(Op::kAlignedAlloc)(alignment, size);
  });
}

ALLOCTAPE_EXPORT void* memalign(size_t alignment, size_t size) {
  return acquire_slowly(Op::kMemalign, size, 0, alignment, FRAME, [&] {
    return real<void* (*)(size_t, size_t)>(Op::kMemalign)(alignment, size);
  });
}

ALLOCTAPE_EXPORT void* valloc(size_t size) {
  return acquire_slowly(Op::kValloc, size, 0, 4096, FRAME,
                        [&] { return real<void* (*)(size_t)>(Op::kValloc)(size); });
}

ALLOCTAPE_EXPORT void* pvalloc(size_t size) {
  return acquire_slowly(Op::kPvalloc, size, 0, 4096, FRAME,
                        [&] { return real<void* (*)(size_t)>(Op::kPvalloc)(size); });
}

ALLOCTAPE_EXPORT size_t malloc_usable_size(void* p) {
  if (in_bootstrap(p)) return bootstrap_size(p);
  if (!real_functions_ready()) return 0;
  Recording recording(false, p, 0, FRAME);
  recording.start();
  const size_t n = g_real.usable_size_(p);
  recording.stop();
  if (recording.forwards_only()) return n;
  CallEvent e = release_event(Op::kMallocUsableSize, p, 0, 0);
  e.fields |= wire::kFieldValue;
  e.value = n;
  recording.queried(e);
  return n;
}

// C23; glibc 2.36 has neither. Where nobody provides them, free() does what they ask for.
ALLOCTAPE_EXPORT void free_sized(void* p, size_t size) {
  if (!real_functions_ready()) return;
  release_through(Op::kFreeSized, p, size, 0, FRAME, [&] {
    if (auto f = real<void (*)(void*, size_t)>(Op::kFreeSized))
      f(p, size);
    else
      g_real.free_(p);
  });
}

ALLOCTAPE_EXPORT void free_aligned_sized(void* p, size_t alignment, size_t size) {
  if (!real_functions_ready()) return;
  release_through(Op::kFreeAlignedSized, p, size, alignment, FRAME, [&] {
    if (auto f = real<void (*)(void*, size_t, size_t)>(Op::kFreeAlignedSized))
      f(p, alignment, size);
    else
      g_real.free_(p);
  });
}
