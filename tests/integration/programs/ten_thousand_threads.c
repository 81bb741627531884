/* Ten thousand short threads, 20 at a time, each a few calls; some blocks outlive their thread. */
#include <pthread.h>

#include "program.h"

enum { kThreads = 10000, kAtOnce = 20 };

static void *brief(void *seed) {
  churn(5, (unsigned)(size_t)seed);
  return keep(malloc(24));
}

int main(void) {
  pthread_t threads[kAtOnce];
  for (size_t i = 0; i < kThreads; i += kAtOnce) {
    for (size_t j = 0; j < kAtOnce; ++j)
      CHECK(pthread_create(&threads[j], NULL, brief, (void *)(i + j)) == 0);
    for (int j = 0; j < kAtOnce; ++j) {
      void *left;
      CHECK(pthread_join(threads[j], &left) == 0);
      free(left);
    }
  }
  puts("ten thousand threads");
  return 0;
}
