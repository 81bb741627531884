// The calls by which a program gets memory from the kernel itself, past malloc: mmap and its
// family. Only in the library that `record --mmap` preloads. What each field of an event means is
// told in docs/formats/trace.md, "Mappings".
//
// All of them are system calls of some hundred nanoseconds, so there is one way only: stamp before,
// call, record with both stamps. They are looked up in the constructor; until then (and where libc
// has none) the system calls are made here.
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/wire/map_event.h"
#include "tracer/preload/elf_lookup.h"
#include "tracer/preload/map_callers.h"
#include "tracer/preload/maps.h"
#include "tracer/preload/real_functions.h"
#include "tracer/preload/recorder.h"
#include "tracer/preload/syscalls.h"

#include "tracer/preload/forbidden.h"

using namespace alloctape::tracer;  // NOLINT: the file defines C names
namespace wire = alloctape::wire;
using wire::Op;

namespace alloctape::tracer {
// image.cc asks whether this is there.
void maps_are_recorded() {}
}  // namespace alloctape::tracer

namespace {

struct RealMaps {
  void* (*mmap_)(void*, size_t, int, int, int, off_t);
  int (*munmap_)(void*, size_t);
  void* (*mremap_)(void*, size_t, size_t, int, ...);
  int (*madvise_)(void*, size_t, int);
  int (*brk_)(void*);
  void* (*sbrk_)(intptr_t);
} g_maps;

template <typename F>
void find(F& function, const char* name) {
  bool stays;  // at start, everything does
  if (!__atomic_load_n(&function, __ATOMIC_RELAXED))
    __atomic_store_n(&function, reinterpret_cast<F>(find_behind_us(name, &stays)),
                     __ATOMIC_RELAXED);
}

// Early: so that nobody has to ask the dynamic linker in a signal handler or a fork child. Who maps
// memory before this runs is served by the system call itself.
__attribute__((constructor)) void find_maps() {
  find(g_maps.mmap_, "mmap");
  find(g_maps.munmap_, "munmap");
  find(g_maps.mremap_, "mremap");
  find(g_maps.madvise_, "madvise");
  find(g_maps.brk_, "brk");
  find(g_maps.sbrk_, "sbrk");
  if (real_functions_ready()) is_allocator_code(nullptr);
}

long system_call(long result) {
  if (result >= 0 || result < -4095) return result;
  errno = static_cast<int>(-result);
  return -1;
}

// One call of the program's own, with its event; the allocator's go through. `describe` fills in
// what the call was and what came of it. errno is the call's.
template <typename Call, typename Describe>
ALLOCTAPE_INLINE auto record_call(Op op, const void* caller, const void* frame, Call call,
                                  Describe describe) {
  const int errno_before = errno;
  if (!real_functions_ready() || is_allocator_code(caller)) {
    errno = errno_before;
    return call();
  }
  // Neither an acquire nor a release of the heap: no C++ operator in flight takes it for its own.
  Recording recording(false, nullptr, 0, frame);
  CallEvent e{.op = op};
  e.release_stamp = stamp_now();
  errno = errno_before;
  // What a signal handler does meanwhile belongs between the two stamps: it goes to the late
  // stream, since ours will hold this event as one of before its own.
  Stream* const s = recording.route_taken() == Route::kRecord ? recording.stream() : nullptr;
  if (s) enter(s);
  recording.start();
  const auto result = call();
  recording.stop();
  const int errno_after = errno;
  e.stamp = stamp_now();
  // kPathMapped: these pointers are not where blocks are, and would only spoil the windows.
  e.path = wire::kPathMapped;
  e.fields = wire::kFieldReleaseStamp | wire::kFieldPointer;
  describe(e, result);
  recording.queried(e);
  if (s) leave(s);
  errno = errno_after;
  return result;
}

void set_failed(CallEvent& e, bool failed) {
  if (failed) e.path |= wire::kPathFailed;
}
// The pointer that a call answers with.
void set_result(CallEvent& e, const void* p) {
  e.pointer = p == MAP_FAILED ? 0 : address(p);
  set_failed(e, p == MAP_FAILED);
}

uint64_t backing_of(int flags, int fd) {
  auto kind = wire::Backing::kOther;
  struct stat st;
  if (flags & MAP_ANONYMOUS) {
    kind = wire::Backing::kAnonymous;
  } else if (sys::fstat(fd, &st) == 0) {
    if (S_ISREG(st.st_mode)) kind = wire::Backing::kFile;
    if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) kind = wire::Backing::kDevice;
  }
  return static_cast<uint64_t>(kind);
}

ALLOCTAPE_INLINE void* recorded_mmap(void* hint, size_t size, int prot, int flags, int fd,
                                     off_t offset, const void* caller, const void* frame) {
  return record_call(
      Op::kMmap, caller, frame,
      [&] {
        const auto call = __atomic_load_n(&g_maps.mmap_, __ATOMIC_RELAXED);
        if (call) return call(hint, size, prot, flags, fd, offset);
        return reinterpret_cast<void*>(system_call(sys::call(
            SYS_mmap, sys::word(hint), static_cast<long>(size), prot, flags, fd, offset)));
      },
      [&](CallEvent& e, void* p) {
        e.fields |= wire::kFieldOldPointer | wire::kFieldSize | wire::kFieldValue;
        set_result(e, p);
        e.old_pointer = address(hint);
        e.size = size;
        e.value = wire::pack_prot_flags(static_cast<uint32_t>(prot), static_cast<uint32_t>(flags));
        e.alignment = backing_of(flags, fd);
        if (e.alignment) e.fields |= wire::kFieldAlignment;
        e.count = static_cast<uint64_t>(offset);
        if (e.count) e.fields |= wire::kFieldCount;
      });
}

#define CALLER __builtin_return_address(0)
#define FRAME __builtin_frame_address(0)

}  // namespace

ALLOCTAPE_EXPORT void* mmap(void* hint, size_t size, int prot, int flags, int fd,
                            off_t offset) noexcept {
  return recorded_mmap(hint, size, prot, flags, fd, offset, CALLER, FRAME);
}
ALLOCTAPE_EXPORT void* mmap64(void* hint, size_t size, int prot, int flags, int fd,
                              off64_t offset) noexcept {
  return recorded_mmap(hint, size, prot, flags, fd, offset, CALLER, FRAME);
}

// munmap and madvise: their release stamp is what counts, and only their answer tells whether they
// did anything. So they are recorded afterwards, with the stamp from before.
ALLOCTAPE_EXPORT int munmap(void* p, size_t size) noexcept {
  return record_call(
      Op::kMunmap, CALLER, FRAME,
      [&] {
        const auto call = __atomic_load_n(&g_maps.munmap_, __ATOMIC_RELAXED);
        return call ? call(p, size) : static_cast<int>(system_call(sys::munmap(p, size)));
      },
      [&](CallEvent& e, int result) {
        e.fields |= wire::kFieldSize;
        e.pointer = address(p);
        e.size = size;
        set_failed(e, result != 0);
      });
}

ALLOCTAPE_EXPORT void* mremap(void* old, size_t old_size, size_t size, int flags, ...) noexcept {
  void* wanted = nullptr;
  if (flags & MREMAP_FIXED) {
    va_list list;
    va_start(list, flags);
    wanted = va_arg(list, void*);
    va_end(list);
  }
  return record_call(
      Op::kMremap, CALLER, FRAME,
      [&] {
        const auto call = __atomic_load_n(&g_maps.mremap_, __ATOMIC_RELAXED);
        if (call) return call(old, old_size, size, flags, wanted);
        return reinterpret_cast<void*>(
            system_call(sys::call(SYS_mremap, sys::word(old), static_cast<long>(old_size),
                                  static_cast<long>(size), flags, sys::word(wanted))));
      },
      [&](CallEvent& e, void* p) {
        e.fields |=
            wire::kFieldOldPointer | wire::kFieldCount | wire::kFieldSize | wire::kFieldValue;
        set_result(e, p);
        e.old_pointer = address(old);
        e.count = old_size;
        e.size = size;
        e.value = static_cast<uint32_t>(flags);
      });
}

ALLOCTAPE_EXPORT int madvise(void* p, size_t size, int advice) noexcept {
  return record_call(
      Op::kMadvise, CALLER, FRAME,
      [&] {
        const auto call = __atomic_load_n(&g_maps.madvise_, __ATOMIC_RELAXED);
        return call ? call(p, size, advice)
                    : static_cast<int>(system_call(sys::madvise(p, size, advice)));
      },
      [&](CallEvent& e, int result) {
        e.fields |= wire::kFieldSize | wire::kFieldValue;
        e.pointer = address(p);
        e.size = size;
        e.value = static_cast<uint32_t>(advice);
        set_failed(e, result != 0);
      });
}

// libc keeps the break in a variable of its own, which sbrk and malloc rely on: never past it.
ALLOCTAPE_EXPORT int brk(void* end) noexcept {
  uint64_t before = 0;
  return record_call(
      Op::kBrk, CALLER, FRAME,
      [&] {
        before = static_cast<uint64_t>(sys::call(SYS_brk));
        find(g_maps.brk_, "brk");
        if (g_maps.brk_) return g_maps.brk_(end);
        errno = ENOMEM;
        return -1;
      },
      [&](CallEvent& e, int result) {
        e.fields |= wire::kFieldOldPointer;
        e.pointer = result == 0 ? address(end) : 0;
        e.old_pointer = before;
        set_failed(e, result != 0);
      });
}

ALLOCTAPE_EXPORT void* sbrk(intptr_t increment) noexcept {
  return record_call(
      Op::kSbrk, CALLER, FRAME,
      [&] {
        find(g_maps.sbrk_, "sbrk");
        if (g_maps.sbrk_) return g_maps.sbrk_(increment);
        errno = ENOMEM;
        return MAP_FAILED;  // the same -1
      },
      [&](CallEvent& e, void* p) {
        e.fields |= wire::kFieldSize;
        set_result(e, p);
        e.size = static_cast<uint64_t>(increment);
      });
}
