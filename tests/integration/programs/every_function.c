/* Each function of the C API, a number of times that tells it from the others, with the results that
 * its manual promises. */
#include <errno.h>
#include <malloc.h>
#include <stdint.h>

#include "program.h"

/* C23; glibc has them since 2.43, and the tracer forwards them to free where it does not. */
extern void free_sized(void *p, size_t size) __attribute__((weak));
extern void free_aligned_sized(void *p, size_t alignment, size_t size) __attribute__((weak));

#define ALIGNED(p, alignment) ((p) && (uintptr_t)(p) % (alignment) == 0)

int main(void) {
  for (int i = 0; i < 11; ++i) {
    void *p = keep(malloc(10));
    CHECK(ALIGNED(p, 16) && malloc_usable_size(p) >= 10);
    free(p);
  }
  for (int i = 0; i < 12; ++i) {
    unsigned char *p = keep(calloc(10, 20));
    for (int j = 0; j < 200; ++j) CHECK(p[j] == 0);
    memset(p, 1, 200);
    free(p);
  }
  for (int i = 0; i < 13; ++i) free(keep(realloc(keep(malloc(5)), 500)));
  for (int i = 0; i < 14; ++i) free(keep(reallocarray(NULL, 5, 500)));
  for (int i = 0; i < 15; ++i) {
    void *p;
    CHECK(posix_memalign(&p, 128, 300) == 0 && ALIGNED(p, 128));
    free(p);
  }
  for (int i = 0; i < 16; ++i) {
    void *p = keep(aligned_alloc(256, 512));
    CHECK(ALIGNED(p, 256));
    free(p);
  }
  for (int i = 0; i < 17; ++i) {
    void *p = keep(memalign(8192, 10));
    CHECK(ALIGNED(p, 8192));
    free(p);
  }
  for (int i = 0; i < 18; ++i) {
    void *p = keep(valloc(100));
    CHECK(ALIGNED(p, 4096));
    free(p);
  }
  for (int i = 0; i < 19; ++i) {
    void *p = keep(pvalloc(100));
    CHECK(ALIGNED(p, 4096) && malloc_usable_size(p) >= 4096);
    free(p);
  }
  free(NULL);
  CHECK(malloc_usable_size(NULL) == 0);
  for (int i = 0; i < 20; ++i) free(keep(malloc(0)));
  if (free_sized)
    for (int i = 0; i < 21; ++i) free_sized(keep(malloc(123)), 123);
  if (free_aligned_sized)
    for (int i = 0; i < 22; ++i) free_aligned_sized(keep(aligned_alloc(64, 128)), 64, 128);
  if (free_sized) free_sized(NULL, 0);
  free(keep(malloc((size_t)3 << 30))); /* sizes beyond 32 bits */
  puts("every function");
  return 0;
}
