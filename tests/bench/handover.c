// One thread allocates, another frees: blocks of 16-1024 bytes go through a ring in batches.
//
//   handover [BATCH] [BLOCKS]
//
// A side that must wait yields its core, and then sleeps, for less than the ring lasts the other
// side: spinning would show as CPU time, and on a busy machine keep the other one from running.
#include <sched.h>

#include "measure.h"

enum { kRing = 4096, kMaxBatch = 1024 };
static void* g_ring[kRing];
static _Alignas(64) long g_made;   // blocks put into the ring; release pairs with the freeing side
static _Alignas(64) long g_freed;  // blocks taken out; release pairs with the allocating side
static long g_batch, g_blocks;
static double g_cpu[2];

static void wait_a_little(int tries) {
  const struct timespec nap = {0, 20000};
  if (tries < 50) {
    sched_yield();
  } else {
    nanosleep(&nap, NULL);
  }
}

static void* allocate_all(void* unused) {
  uint64_t r = 88172645463325252ull;
  for (long made = 0; made < g_blocks; made += g_batch) {
    for (int tries = 0; made + g_batch - __atomic_load_n(&g_freed, __ATOMIC_ACQUIRE) > kRing;
         ++tries)
      wait_a_little(tries);
    for (long i = 0; i < g_batch; ++i) {
      r ^= r << 13;
      r ^= r >> 7;
      r ^= r << 17;
      g_ring[(made + i) % kRing] = malloc(16 + (r >> 32) % 1009);
    }
    __atomic_store_n(&g_made, made + g_batch, __ATOMIC_RELEASE);
  }
  g_cpu[0] = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  return unused;
}

static void* free_all(void* unused) {
  for (long freed = 0; freed < g_blocks; freed += g_batch) {
    for (int tries = 0; __atomic_load_n(&g_made, __ATOMIC_ACQUIRE) < freed + g_batch; ++tries)
      wait_a_little(tries);
    for (long i = 0; i < g_batch; ++i) free(g_ring[(freed + i) % kRing]);
    __atomic_store_n(&g_freed, freed + g_batch, __ATOMIC_RELEASE);
  }
  g_cpu[1] = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  return unused;
}

int main(int argc, char** argv) {
  g_batch = argc > 1 ? atol(argv[1]) : 64;
  g_blocks = argc > 2 ? atol(argv[2]) : 1000000;
  if (g_batch < 1 || g_batch > kMaxBatch || g_blocks < 1) {
    fprintf(stderr, "usage: handover [BATCH 1..%d] [BLOCKS]\n", kMaxBatch);
    return 2;
  }
  g_blocks = (g_blocks + g_batch - 1) / g_batch * g_batch;
  pthread_t t[2];
  const double start = clock_ns(CLOCK_MONOTONIC);
  if (pthread_create(&t[0], NULL, allocate_all, NULL)) return 1;
  if (pthread_create(&t[1], NULL, free_all, NULL)) return 1;
  pthread_join(t[0], NULL);
  pthread_join(t[1], NULL);
  const double wall = clock_ns(CLOCK_MONOTONIC) - start;
  // Each thread makes one call a block, side by side.
  printf("calls=%ld wall_ns=%.3f cpu_ns=%.3f peak_rss_kib=%ld\n", 2 * g_blocks,
         wall / (double)g_blocks, (g_cpu[0] + g_cpu[1]) / (2 * (double)g_blocks), peak_rss_kib());
  return 0;
}
