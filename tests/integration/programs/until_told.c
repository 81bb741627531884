/* THREADS threads that allocate until SIGTERM, and hand blocks over to one another through a table.
 * With CALLS they make so many pairs of malloc and free each, say "quiet" and wait for SIGTERM.
 * usage: until_told THREADS [CALLS] */
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "program.h"

#define SLOTS 256

static volatile sig_atomic_t g_told;
static long g_pairs;
static int g_busy;
static void* g_table[SLOTS];

static void tell(int signal) {
  (void)signal;
  g_told = 1;
}

static void hand_over(unsigned* seed) {
  *seed = *seed * 1664525u + 1013904223u;
  char* p = keep(malloc(16 + (*seed >> 20) % 300));
  if ((*seed & 0xf00) == 0) p = keep(realloc(p, 600));
  CHECK(p);
  p[0] = (char)*seed;
  free(__atomic_exchange_n(&g_table[*seed >> 24], p, __ATOMIC_ACQ_REL));
}

static void make_pairs(unsigned seed) {
  for (long i = 0; i < g_pairs; ++i) {
    seed = seed * 1664525u + 1013904223u;
    free(keep(malloc(4 + (seed >> 22))));
  }
  __atomic_fetch_sub(&g_busy, 1, __ATOMIC_RELEASE);
}

static void* body(void* number) {
  unsigned seed = (unsigned)(size_t)number;
  if (g_pairs > 0) make_pairs(seed);
  while (!g_told) {
    for (int i = 0; g_pairs == 0 && i < 200; ++i) hand_over(&seed);
    usleep(1000);
  }
  return NULL;
}

int main(int argc, char** argv) {
  CHECK(argc == 2 || argc == 3);
  const int threads = atoi(argv[1]);
  if (argc == 3) g_pairs = atol(argv[2]);
  CHECK(threads > 0 && threads <= 64);
  signal(SIGTERM, tell);
  pthread_t thread[64];
  g_busy = threads;
  for (int i = 0; i < threads; ++i)
    CHECK(pthread_create(&thread[i], NULL, body, (void*)(size_t)(i + 1)) == 0);
  while (g_pairs > 0 && __atomic_load_n(&g_busy, __ATOMIC_ACQUIRE) > 0) usleep(1000);
  CHECK(write(1, "quiet\n", 6) == 6);
  for (int i = 0; i < threads; ++i) CHECK(pthread_join(thread[i], NULL) == 0);
  return 0;
}
