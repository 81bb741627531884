/* realloc in every way it is meant to be used, and some in which it is not. */
#include <errno.h>
#include <malloc.h>

#include "program.h"

static volatile size_t g_half = (size_t)1 << 33, g_huge = (size_t)-1 / 2; /* the compiler warns */

int main(void) {
  char *p = realloc(NULL, 100);
  CHECK(p);
  p[0] = 'a';
  p = realloc(p, 100);                /* same size */
  p = realloc(p, 101);                /* in place */
  CHECK((p = realloc(p, 5000)) && p[0] == 'a');
  char *wall = keep(malloc(16));      /* nothing behind it may grow */
  CHECK((p = realloc(p, 50000)) && p[0] == 'a');
  CHECK((p = realloc(p, 10)) && p[0] == 'a');
  CHECK((p = realloc(p, 1 << 20)) && p[0] == 'a');   /* a mapping */
  CHECK((p = realloc(p, 64 << 20)) && p[0] == 'a');  /* mremap */
  CHECK((p = realloc(p, 2 << 20)) && p[0] == 'a');
  errno = 0;
  CHECK(realloc(p, g_huge) == NULL && errno == ENOMEM && p[0] == 'a');
  CHECK((p = reallocarray(p, 30, 40)) && p[0] == 'a');
  errno = 0;
  CHECK(reallocarray(p, g_half, g_half) == NULL && errno == ENOMEM);
  CHECK(malloc_usable_size(p) >= 1200);
  CHECK(realloc(p, 0) == NULL);       /* glibc: frees */
  p = realloc(NULL, 0);               /* a block of no bytes */
  CHECK(p);
  CHECK(realloc(p, 0) == NULL);
  p = reallocarray(NULL, 10, 10);
  CHECK(p && reallocarray(p, 10, 0) == NULL);
  free(wall);
  for (int i = 1; i < 2000; ++i) p = realloc(i == 1 ? NULL : p, (size_t)i * 37);
  free(p);
  puts("resized in every way");
  return 0;
}
