// An allocator that does nothing, to measure what is not the allocator's: `alloctape replay -a
// noop`.
//
// Addresses go round in a region that nobody else uses, so blocks repeat once it has gone round,
// and must not be written to (--touch none). What starts before the replay (the C++ library's
// emergency pool, the dynamic linker's strings) writes to its blocks, and has a part of the region
// of its own.
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define REGION_BYTES ((size_t)1 << 36)
#define FIRST_BYTES ((size_t)4 << 20)

static char* region;
static _Atomic size_t next;

static char* the_region(void) {
  if (region) return region;
  // One thread: this is the dynamic linker's first malloc.
  char* fresh = mmap(0, REGION_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (fresh == MAP_FAILED) _exit(99);
  return region = fresh;
}

// A load and a store, not an atomic addition: two threads may get the same block, which does as
// little harm as any other.
static inline void* bump(size_t size) {
  if (__builtin_expect(size > REGION_BYTES / 4, 0)) {
    errno = ENOMEM;
    return NULL;
  }
  size_t at = __atomic_load_n(&next, __ATOMIC_RELAXED);
  size_t after = at + ((size + 15) & ~(size_t)15);
  if (__builtin_expect(after > REGION_BYTES - REGION_BYTES / 4, 0))
    at = FIRST_BYTES, after = at + size;
  __atomic_store_n(&next, after, __ATOMIC_RELAXED);
  char* base = region;
  if (__builtin_expect(!base, 0)) base = the_region();
  return base + at;
}
static void* aligned(size_t alignment, size_t size) {
  char* p = bump(size + alignment);
  return p ? (void*)(((uintptr_t)p + alignment - 1) & ~(uintptr_t)(alignment - 1)) : NULL;
}

EXPORT void* malloc(size_t size) { return bump(size); }
EXPORT void free(void* p) { (void)p; }
EXPORT void* calloc(size_t count, size_t size) {
  if (size && count > SIZE_MAX / size) {
    errno = ENOMEM;
    return NULL;
  }
  return bump(count * size);
}
EXPORT void* realloc(void* p, size_t size) {
  if (p && !size) return NULL;
  return bump(size);
}
EXPORT void* memalign(size_t alignment, size_t size) { return aligned(alignment, size); }
EXPORT void* aligned_alloc(size_t alignment, size_t size) { return aligned(alignment, size); }
EXPORT int posix_memalign(void** p, size_t alignment, size_t size) {
  void* block = aligned(alignment, size);
  if (block) *p = block;
  return block ? 0 : ENOMEM;
}
EXPORT void* valloc(size_t size) { return aligned(4096, size); }
EXPORT void* pvalloc(size_t size) { return aligned(4096, (size + 4095) & ~(size_t)4095); }
EXPORT size_t malloc_usable_size(void* p) {
  (void)p;
  return 0;
}
// operator new and delete: mangled by hand, this is C.
EXPORT void* _Znwm(size_t size) { return bump(size); }
EXPORT void* _Znam(size_t size) { return bump(size); }
EXPORT void _ZdlPv(void* p) { (void)p; }
EXPORT void _ZdaPv(void* p) { (void)p; }
EXPORT void _ZdlPvm(void* p, size_t size) { (void)p, (void)size; }
EXPORT void _ZdaPvm(void* p, size_t size) { (void)p, (void)size; }
