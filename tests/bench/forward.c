// The floor of every interposer: forwards the malloc family through RTLD_NEXT and does nothing
// else. With -DREAD_CLOCK also reads the time stamp counter once a call, where a tracer would:
// before what releases, after what acquires.
//
// For measuring only: what happens before the constructor ran is looked up on the spot, which does
// for a dynamic linker that does not allocate while it looks up a name that exists.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

#ifdef READ_CLOCK
#define STAMP() (void)__builtin_ia32_rdtsc()
#else
#define STAMP() (void)0
#endif
#define EXPORT __attribute__((visibility("default")))

static void* (*real_malloc)(size_t);
static void* (*real_calloc)(size_t, size_t);
static void* (*real_realloc)(void*, size_t);
static void* (*real_memalign)(size_t, size_t);
static void* (*real_aligned_alloc)(size_t, size_t);
static int (*real_posix_memalign)(void**, size_t, size_t);
static void (*real_free)(void*);

__attribute__((constructor, cold, noinline)) static void find(void) {
  real_malloc = dlsym(RTLD_NEXT, "malloc");
  real_calloc = dlsym(RTLD_NEXT, "calloc");
  real_realloc = dlsym(RTLD_NEXT, "realloc");
  real_memalign = dlsym(RTLD_NEXT, "memalign");
  real_aligned_alloc = dlsym(RTLD_NEXT, "aligned_alloc");
  real_posix_memalign = dlsym(RTLD_NEXT, "posix_memalign");
  real_free = dlsym(RTLD_NEXT, "free");
}
#define NEED(function) \
  if (__builtin_expect(!(function), 0)) find()

// Without the stamp each is a test and a jump.
EXPORT void* malloc(size_t size) {
  NEED(real_malloc);
  void* p = real_malloc(size);
  STAMP();
  return p;
}
EXPORT void* calloc(size_t count, size_t size) {
  NEED(real_calloc);
  void* p = real_calloc(count, size);
  STAMP();
  return p;
}
EXPORT void* realloc(void* old, size_t size) {
  NEED(real_realloc);
  STAMP();
  void* p = real_realloc(old, size);
  STAMP();
  return p;
}
EXPORT void* memalign(size_t alignment, size_t size) {
  NEED(real_memalign);
  void* p = real_memalign(alignment, size);
  STAMP();
  return p;
}
EXPORT void* aligned_alloc(size_t alignment, size_t size) {
  NEED(real_aligned_alloc);
  void* p = real_aligned_alloc(alignment, size);
  STAMP();
  return p;
}
EXPORT int posix_memalign(void** p, size_t alignment, size_t size) {
  NEED(real_posix_memalign);
  const int result = real_posix_memalign(p, alignment, size);
  STAMP();
  return result;
}
EXPORT void free(void* p) {
  NEED(real_free);
  STAMP();
  real_free(p);
}
