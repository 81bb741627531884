// THREADS threads that make CALLS calls each, and stay: then "ready" on stdout, and the end when stdin
// ends. With 0 threads the main thread makes the calls. For looking at a process's memory from outside.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { kSlots = 500, kMaxThreads = 1000 };
static long g_calls;
static pthread_barrier_t g_done;

static void work(uint64_t seed) {
  uint64_t r = 88172645463325252ull + seed;
  void* slot[kSlots] = {0};
  for (long i = 0; i < g_calls; ++i) {
    r ^= r << 13;
    r ^= r >> 7;
    r ^= r << 17;
    void** s = &slot[r % kSlots];
    if (*s) {
      free(*s);
      *s = NULL;
    } else {
      *s = malloc(16 + (r >> 32) % 1009);
    }
  }
  for (int i = 0; i < kSlots; ++i)
    if (slot[i]) free(slot[i]);
}

static void* body(void* seed) {
  work((uintptr_t)seed);
  pthread_barrier_wait(&g_done);
  pthread_barrier_wait(&g_done);
  return NULL;
}

int main(int argc, char** argv) {
  const long threads = argc > 1 ? atol(argv[1]) : 0;
  g_calls = argc > 2 ? atol(argv[2]) : 1000000;
  if (threads < 0 || threads > kMaxThreads || g_calls < 1) {
    fprintf(stderr, "usage: rss_threads [THREADS 0..1000] [CALLS per thread]\n");
    return 2;
  }
  static pthread_t thread[kMaxThreads];
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 128 << 10);
  pthread_barrier_init(&g_done, NULL, (unsigned)threads + 1);
  if (threads == 0) work(1);
  for (long i = 0; i < threads; ++i)
    if (pthread_create(&thread[i], &attributes, body, (void*)(i + 1))) return 1;
  pthread_barrier_wait(&g_done);
  puts("ready");
  fflush(stdout);
  getchar();
  pthread_barrier_wait(&g_done);
  for (long i = 0; i < threads; ++i) pthread_join(thread[i], NULL);
  return 0;
}
