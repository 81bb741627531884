/* One thread allocates, another one frees: BLOCKS blocks, one by one or in batches of 64.
 * usage: producer_consumer [BLOCKS] [BATCH] */
#include <pthread.h>
#include <sched.h>

#include "program.h"

enum { kRing = 4096 };
static void *g_ring[kRing];
static unsigned long g_blocks = 10000000, g_batch = 1;
/* Each on a line of its own: the pace of the hand-over is the point. */
static struct {
  unsigned long value;
} g_made __attribute__((aligned(128))), g_freed __attribute__((aligned(128)));

static void *produce(void *unused) {
  unsigned seed = 1;
  for (unsigned long i = 0; i < g_blocks; ++i) {
    while (i - __atomic_load_n(&g_freed.value, __ATOMIC_ACQUIRE) >= kRing) sched_yield();
    seed = seed * 1664525u + 1013904223u;
    g_ring[i % kRing] = keep(malloc(16 + (seed >> 22)));
    if ((i + 1) % g_batch == 0 || i + 1 == g_blocks)
      __atomic_store_n(&g_made.value, i + 1, __ATOMIC_RELEASE);
  }
  return unused;
}

static void *consume(void *unused) {
  unsigned long done = 0;
  while (done < g_blocks) {
    const unsigned long made = __atomic_load_n(&g_made.value, __ATOMIC_ACQUIRE);
    if (made == done) sched_yield();
    for (; done < made; ++done) {
      free(g_ring[done % kRing]);
      __atomic_store_n(&g_freed.value, done + 1, __ATOMIC_RELEASE);
    }
  }
  return unused;
}

int main(int argc, char **argv) {
  if (argc > 1) g_blocks = strtoul(argv[1], NULL, 0);
  if (argc > 2) g_batch = strtoul(argv[2], NULL, 0);
  CHECK(g_batch > 0 && g_batch <= kRing / 2);
  pthread_t producer, consumer;
  CHECK(pthread_create(&producer, NULL, produce, NULL) == 0);
  CHECK(pthread_create(&consumer, NULL, consume, NULL) == 0);
  CHECK(pthread_join(producer, NULL) == 0 && pthread_join(consumer, NULL) == 0);
  printf("%lu blocks handed over\n", g_blocks);
  return 0;
}
