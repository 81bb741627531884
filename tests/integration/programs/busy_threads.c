/* THREADS threads that make CALLS calls each and agree on a sum: for limits hit in mid-run.
 * usage: busy_threads THREADS CALLS. Prints the calls it made after main began, all threads. */
#include <pthread.h>

#include "program.h"

static long g_calls;

static void *body(void *seed_pointer) {
  unsigned seed = (unsigned)(size_t)seed_pointer;
  unsigned long sum = 0;
  for (long i = 0; i < g_calls / 2; ++i) {
    seed = seed * 1664525u + 1013904223u;
    unsigned *p = keep(malloc(4 + (seed >> 22)));
    CHECK(p);
    *p = seed;
    sum += *p;
    free(p);
  }
  return (void *)sum;
}

int main(int argc, char **argv) {
  CHECK(argc == 3);
  const int threads = atoi(argv[1]);
  g_calls = atol(argv[2]);
  CHECK(threads > 0 && threads <= 64);
  pthread_t thread[64];
  unsigned long sum = 0;
  for (int i = 0; i < threads; ++i)
    CHECK(pthread_create(&thread[i], NULL, body, (void *)(size_t)(i + 1)) == 0);
  for (int i = 0; i < threads; ++i) {
    void *part;
    CHECK(pthread_join(thread[i], &part) == 0);
    sum += (unsigned long)part;
  }
  printf("sum %lu\n", sum);
  return 0;
}
