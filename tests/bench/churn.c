// Random malloc/free churn: THREADS threads, each over its own 1,000 slots of 16-1024 bytes.
// Prints the nanoseconds per call and thread. THREADS 0: on the main thread, in a process that never
// has a second one.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { kSlots = 1000, kMaxThreads = 64 };
static long g_calls;

static void* churn(void* seed) {
  uint64_t r = 88172645463325252ull + (uintptr_t)seed;
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
  for (int i = 0; i < kSlots; ++i) free(slot[i]);
  return NULL;
}

int main(int argc, char** argv) {
  const int threads = argc > 1 ? atoi(argv[1]) : 1;
  g_calls = argc > 2 ? atol(argv[2]) : 10000000;
  if (threads < 0 || threads > kMaxThreads || g_calls < 1) {
    fprintf(stderr, "usage: churn [THREADS 0..64] [CALLS per thread]\n");
    return 2;
  }
  pthread_t t[kMaxThreads];
  struct timespec a, b;
  clock_gettime(CLOCK_MONOTONIC, &a);
  if (threads == 0) churn(NULL);
  for (long i = 0; i < threads; ++i)
    if (pthread_create(&t[i], NULL, churn, (void*)(i + 1))) return 1;
  for (int i = 0; i < threads; ++i) pthread_join(t[i], NULL);
  clock_gettime(CLOCK_MONOTONIC, &b);
  printf("%.3f\n", ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) /
                       (double)g_calls);
  return 0;
}
