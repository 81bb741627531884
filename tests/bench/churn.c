// Random malloc/free churn: THREADS threads, each over its own 1,000 slots of 16-1024 bytes.
// THREADS 0: on the main thread, in a process that never has a second one.
//
//   churn [THREADS] [CALLS per thread]
//
// The calls are made in slices, each with its thread's CPU time: the median slice is a figure that
// other work on the machine hardly touches.
#include "measure.h"

enum { kSlots = 1000, kMaxThreads = 64, kMaxSlices = 400, kSliceCalls = 50000 };
static long g_slices, g_slice_calls;
static double g_slice_ns[kMaxThreads][kMaxSlices], g_thread_ns[kMaxThreads];

static void* churn(void* argument) {
  const uintptr_t thread = (uintptr_t)argument;
  uint64_t r = 88172645463325252ull + thread;
  void* slot[kSlots] = {0};
  const double start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  double last = start;
  for (long k = 0; k < g_slices; ++k) {
    for (long i = 0; i < g_slice_calls; ++i) {
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
    const double now = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    g_slice_ns[thread][k] = now - last;
    last = now;
  }
  g_thread_ns[thread] = last - start;
  for (int i = 0; i < kSlots; ++i) free(slot[i]);
  return NULL;
}

int main(int argc, char** argv) {
  const int threads = argc > 1 ? atoi(argv[1]) : 1;
  const long calls = argc > 2 ? atol(argv[2]) : 10000000;
  if (threads < 0 || threads > kMaxThreads || calls < 1) {
    fprintf(stderr, "usage: churn [THREADS 0..%d] [CALLS per thread]\n", kMaxThreads);
    return 2;
  }
  g_slices = calls / kSliceCalls;
  if (g_slices < 1) g_slices = 1;
  if (g_slices > kMaxSlices) g_slices = kMaxSlices;
  g_slice_calls = calls / g_slices;
  const int workers = threads ? threads : 1;

  pthread_t t[kMaxThreads];
  const double start = clock_ns(CLOCK_MONOTONIC);
  if (threads == 0) churn(NULL);
  for (long i = 0; i < threads; ++i)
    if (pthread_create(&t[i], NULL, churn, (void*)i)) return 1;
  for (int i = 0; i < threads; ++i) pthread_join(t[i], NULL);
  const double wall = clock_ns(CLOCK_MONOTONIC) - start;

  // The first slice of a thread touches fresh memory: it counts in the means only.
  static double slices[kMaxThreads * kMaxSlices];
  size_t n = 0;
  double cpu = 0;
  for (int i = 0; i < workers; ++i) {
    cpu += g_thread_ns[i];
    for (long k = g_slices > 1; k < g_slices; ++k) slices[n++] = g_slice_ns[i][k];
  }
  const double per_thread = (double)(g_slices * g_slice_calls);
  printf("calls=%.0f wall_ns=%.3f cpu_ns=%.3f slice_ns=%.3f peak_rss_kib=%ld\n",
         per_thread * workers, wall / per_thread, cpu / (per_thread * workers),
         median(slices, n) / (double)g_slice_calls, peak_rss_kib());
  return 0;
}
