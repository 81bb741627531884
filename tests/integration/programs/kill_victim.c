/* Four threads that allocate until they are killed, each counting its completed calls in a file
 * (argument 1) that outlives it: one 64-bit count a thread, then the tid of each. */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "program.h"

enum { kThreads = 4, kHeld = 256 };
struct shared {
  struct {
    uint64_t completed, tid, pad[6]; /* a cache line each */
  } thread[kThreads];
};
static struct shared *g_shared;

static void *body(void *index_pointer) {
  const size_t index = (size_t)index_pointer;
  g_shared->thread[index].tid = (uint64_t)syscall(SYS_gettid);
  uint64_t done = 0;
  unsigned seed = (unsigned)index;
  void *held[kHeld] = {NULL};
  for (;;) {
    seed = seed * 1664525u + 1013904223u;
    void **slot = &held[(seed >> 8) % kHeld];
    if (*slot && (seed >> 28) == 0) {
      *slot = keep(realloc(*slot, 1 + (seed >> 18)));
    } else if (*slot) {
      free(*slot);
      *slot = NULL;
    } else {
      *slot = keep(malloc(1 + (seed >> 20)));
    }
    /* After the call, and seen by others in this order: what is counted has completed. */
    __atomic_store_n(&g_shared->thread[index].completed, ++done, __ATOMIC_RELEASE);
  }
  return NULL;
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  const int fd = open(argv[1], O_RDWR | O_CREAT, 0600);
  CHECK(fd >= 0 && ftruncate(fd, sizeof(struct shared)) == 0);
  g_shared = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(g_shared != MAP_FAILED);
  for (size_t i = 0; i < kThreads; ++i) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, body, (void *)i) == 0);
  }
  pause();
  return 98;
}
