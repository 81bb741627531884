/* Blocks that grow and shrink while they pass from thread to thread: each realloc frees an address
 * that another thread may get at once. */
#include <pthread.h>

#include "program.h"

enum { kThreads = 4, kBlocks = 64, kRounds = 20000 };

static struct {
  pthread_mutex_t lock;
  unsigned char *data;
  size_t size;
} g_block[kBlocks];

static void *resize(void *seed_pointer) {
  unsigned seed = (unsigned)(size_t)seed_pointer;
  for (int i = 0; i < kRounds; ++i) {
    seed = seed * 1664525u + 1013904223u;
    const unsigned at = (seed >> 8) % kBlocks;
    const size_t size = 1 + (seed >> 16) % 3000;
    pthread_mutex_lock(&g_block[at].lock);
    if (g_block[at].size) CHECK(g_block[at].data[0] == (unsigned char)at);
    g_block[at].data = realloc(g_block[at].data, size);
    CHECK(g_block[at].data);
    g_block[at].data[0] = (unsigned char)at;
    g_block[at].size = size;
    pthread_mutex_unlock(&g_block[at].lock);
  }
  return NULL;
}

int main(void) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kBlocks; ++i) pthread_mutex_init(&g_block[i].lock, NULL);
  for (size_t i = 0; i < kThreads; ++i)
    CHECK(pthread_create(&threads[i], NULL, resize, (void *)(i + 1)) == 0);
  for (int i = 0; i < kThreads; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  for (int i = 0; i < kBlocks; ++i) free(g_block[i].data);
  puts("resized");
  return 0;
}
