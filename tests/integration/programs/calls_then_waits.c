// Makes CALLS calls of malloc and free on each of THREADS threads, says how many calls that was, and
// waits SECONDS.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { kSlots = 500 };
static long g_calls;

static void* make_calls(void* seed) {
  static const size_t sizes[] = {16, 24, 40, 100, 200, 1000, 3000, 70000};
  void* slot[kSlots] = {0};
  uint64_t r = 88172645463325252ull + (uintptr_t)seed;
  for (long i = 0; i < g_calls; ++i) {
    r ^= r << 13;
    r ^= r >> 7;
    r ^= r << 17;
    void** s = &slot[r % kSlots];
    if (*s) {
      free(*s);
      *s = NULL;
    } else {
      *s = malloc(sizes[(r >> 32) % 8]);
    }
  }
  for (int i = 0; i < kSlots; ++i) free(slot[i]);
  return NULL;
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const long threads = atol(argv[1]);
  g_calls = atol(argv[2]) / threads;
  pthread_t t[64];
  for (long i = 0; i < threads; ++i) {
    if (pthread_create(&t[i], NULL, make_calls, (void*)(i + 1))) return 1;
  }
  for (long i = 0; i < threads; ++i) pthread_join(t[i], NULL);
  char text[64];
  const int n = snprintf(text, sizeof text, "done %ld\n", (g_calls + kSlots) * threads);
  if (write(1, text, (size_t)n) != n) return 1;
  usleep((useconds_t)(atof(argv[3]) * 1e6));
  return 0;
}
