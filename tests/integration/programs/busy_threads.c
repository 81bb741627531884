/* THREADS threads that make CALLS calls each and agree on a sum: for limits hit in mid-run. With
 * `close`, the first thread closes every descriptor but the standard three all the while.
 * usage: busy_threads THREADS CALLS [close] */
#include <pthread.h>
#include <unistd.h>

#include "program.h"

static long g_calls;
static int g_busy;

static void* body(void* seed_pointer) {
  unsigned seed = (unsigned)(size_t)seed_pointer;
  unsigned long sum = 0;
  for (long i = 0; i < g_calls / 2; ++i) {
    seed = seed * 1664525u + 1013904223u;
    unsigned* p = keep(malloc(4 + (seed >> 22)));
    CHECK(p);
    *p = seed;
    sum += *p;
    free(p);
  }
  __atomic_fetch_sub(&g_busy, 1, __ATOMIC_RELEASE);
  return (void*)sum;
}

int main(int argc, char** argv) {
  CHECK(argc == 3 || argc == 4);
  const int threads = atoi(argv[1]);
  g_calls = atol(argv[2]);
  CHECK(threads > 0 && threads <= 64);
  pthread_t thread[64];
  unsigned long sum = 0;
  g_busy = threads;
  for (int i = 0; i < threads; ++i)
    CHECK(pthread_create(&thread[i], NULL, body, (void*)(size_t)(i + 1)) == 0);
  while (argc == 4 && __atomic_load_n(&g_busy, __ATOMIC_ACQUIRE) > 0) {
    for (int fd = 3; fd < 1100; ++fd) close(fd);
    usleep(500);
  }
  for (int i = 0; i < threads; ++i) {
    void* part;
    CHECK(pthread_join(thread[i], &part) == 0);
    sum += (unsigned long)part;
  }
  printf("sum %lu\n", sum);
  return 0;
}
