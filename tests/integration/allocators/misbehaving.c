// A bump allocator that serves every call from a ring of 64 MiB and takes nothing back. Blocks
// repeat and overlap once the ring has gone round: good enough for a replay that never looks into
// them, and the nearest thing to an allocator that does nothing.
//
// Built several times, each time bad in one way of its own:
//   MISBEHAVE_CRASH  a write to address 8 at the call that asks for TRIGGER_BYTES
//   MISBEHAVE_ABORT  abort() there
//   MISBEHAVE_NULL   NULL there
//   MISBEHAVE_HANG   free of the block that was asked for with TRIGGER_BYTES never returns
//   MISBEHAVE_EXIT   _exit(0) there, as if all were well
//   MISBEHAVE_OVERLAP   the block asked for with TRIGGER_BYTES begins within the one before it
//   MISBEHAVE_MISALIGN  blocks with an alignment above 16 have 16
//   MISBEHAVE_DIRTY     calloc leaves a byte that is not zero
//   MISBEHAVE_SMALL     the usable size of larger blocks is one less than was asked for
//   MISBEHAVE_CORRUPT   the call that asks for TRIGGER_BYTES writes into the block before it
//   MISBEHAVE_FORGET    realloc moves a block without what is in it
//   MISBEHAVE_COUNT  a write to address 8 at the call of malloc numbered ALLOCTAPE_TEST_CRASH_AT
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TRIGGER_BYTES 7777
#define RING_BYTES ((size_t)64 << 20)

static _Atomic(char*) ring;
static _Atomic size_t used;
static _Atomic(void*) marked;
// What lies before each block, for realloc and malloc_usable_size. Not with MISBEHAVE_NOTHING,
// which must not touch what it gives.
#ifdef MISBEHAVE_NOTHING
#define HEAD_BYTES ((size_t)0)
#else
#define HEAD_BYTES ((size_t)16)
#endif
#ifdef MISBEHAVE_COUNT
static _Atomic long calls;
static long crash_at = -1;

__attribute__((constructor)) static void read_setting(void) {
  const char* text = getenv("ALLOCTAPE_TEST_CRASH_AT");
  if (text) crash_at = atol(text);
  calls = 0;
}
#endif

// Not a constant address: compilers see through that.
static volatile uintptr_t nowhere = 8;
__attribute__((unused)) static void fall_over(void) { *(volatile char*)nowhere = 1; }

static char* the_ring(void) {
  char* start = atomic_load(&ring);
  if (start) return start;
  char* fresh = mmap(0, RING_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (fresh == MAP_FAILED) _exit(99);
  if (atomic_compare_exchange_strong(&ring, &start, fresh)) return fresh;
  munmap(fresh, RING_BYTES);
  return start;
}

static void* bump(size_t alignment, size_t size) {
  if (size == TRIGGER_BYTES) {
#if defined MISBEHAVE_CRASH
    fall_over();
#elif defined MISBEHAVE_ABORT
    abort();
#elif defined MISBEHAVE_NULL
    return NULL;
#elif defined MISBEHAVE_EXIT
    _exit(0);
#endif
  }
#ifdef MISBEHAVE_COUNT
  if (atomic_fetch_add(&calls, 1) + 1 == crash_at) fall_over();
#endif
  if (size > RING_BYTES / 2 || alignment > RING_BYTES / 4) {
    errno = ENOMEM;
    return NULL;
  }
  char* start = the_ring();
  for (;;) {
    size_t at = atomic_load(&used);
#ifdef MISBEHAVE_MISALIGN
    if (alignment > 16 && alignment < 4096) alignment = 16;
#endif
    size_t from = (at + HEAD_BYTES + alignment - 1) & ~(alignment - 1);
    if (from + size > RING_BYTES) from = (HEAD_BYTES + alignment - 1) & ~(alignment - 1);
    if (!atomic_compare_exchange_weak(&used, &at, from + ((size + 15) & ~(size_t)15))) continue;
    if (size == TRIGGER_BYTES) atomic_store(&marked, start + from);
#if defined MISBEHAVE_OVERLAP
    if (size == TRIGGER_BYTES) return start + from - 32;
#elif defined MISBEHAVE_CORRUPT
    if (size == TRIGGER_BYTES) start[from - HEAD_BYTES - 16] ^= 1;
#endif
    if (HEAD_BYTES) *(size_t*)(start + from - HEAD_BYTES) = size;
    return start + from;
  }
}

void* malloc(size_t size) { return bump(16, size); }
void free(void* p) {
#ifdef MISBEHAVE_HANG
  if (p && p == atomic_load(&marked))
    for (;;) pause();
#endif
  (void)p;
}
void* calloc(size_t count, size_t size) {
  if (size && count > SIZE_MAX / size) return NULL;
  void* p = bump(16, count * size);
  if (p) memset(p, 0, count * size);
#ifdef MISBEHAVE_DIRTY
  if (p && count * size > 100) ((char*)p)[count * size - 1] = 7;
#endif
  return p;
}
static size_t size_of(void* p) { return HEAD_BYTES ? *(size_t*)((char*)p - HEAD_BYTES) : 0; }
void* realloc(void* p, size_t size) {
  if (p && size == 0) return NULL;
  void* fresh = bump(16, size);
#ifndef MISBEHAVE_FORGET
  if (p && fresh) memcpy(fresh, p, size < size_of(p) ? size : size_of(p));
#endif
  return fresh;
}
void* memalign(size_t alignment, size_t size) {
  return bump(alignment < 16 ? 16 : alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void** p, size_t alignment, size_t size) {
  void* block = memalign(alignment, size);
  if (block) *p = block;
  return block ? 0 : ENOMEM;
}
void* valloc(size_t size) { return memalign(4096, size); }
size_t malloc_usable_size(void* p) {
  size_t size = p ? size_of(p) : 0;
#ifdef MISBEHAVE_SMALL
  if (size > 1000) --size;
#endif
  return size;
}
