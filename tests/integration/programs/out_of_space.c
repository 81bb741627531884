/* Lowers its own limit of address space to what it has, so that every mmap fails from then on,
 * while its own heap still has room: only somebody who maps memory of his own can notice. usage:
 * out_of_space born|grow THREADS CALLS born: the threads make their first call when there is no
 * space left for a thread's buffers grow: they have made a few calls before, and go on with what
 * they have */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include "program.h"

enum { kRoom = 64 << 20, kFewCalls = 100 };

static pthread_barrier_t g_ready, g_limited;
static long g_calls;
static int g_grow;

static unsigned long work(unsigned seed, long calls) {
  unsigned long sum = 0;
  for (long i = 0; i < calls / 2; ++i) {
    seed = seed * 1664525u + 1013904223u;
    unsigned* p = keep(malloc(4 + (seed >> 22)));
    CHECK(p);
    *p = seed;
    sum += *p;
    free(p);
  }
  return sum;
}

static void* body(void* seed) {
  unsigned long sum = 0;
  if (g_grow) sum += work((unsigned)(size_t)seed, kFewCalls);
  pthread_barrier_wait(&g_ready);
  pthread_barrier_wait(&g_limited);
  return (void*)(sum + work((unsigned)(size_t)seed, g_calls));
}

/* Pages of address space in use, read without allocating. */
static rlim_t pages_in_use(void) {
  char text[128];
  const int fd = open("/proc/self/statm", O_RDONLY);
  CHECK(fd >= 0);
  const ssize_t n = read(fd, text, sizeof text - 1);
  CHECK(n > 0 && close(fd) == 0);
  text[n] = 0;
  return (rlim_t)strtoul(text, NULL, 10);
}

int main(int argc, char** argv) {
  CHECK(argc == 4);
  g_grow = strcmp(argv[1], "grow") == 0;
  const int threads = atoi(argv[2]);
  g_calls = atol(argv[3]);
  CHECK(threads > 0 && threads <= 64);
  /* One heap for all threads, with room that it keeps. */
  CHECK(mallopt(M_ARENA_MAX, 1) && mallopt(M_MMAP_THRESHOLD, 32 << 20));
  CHECK(mallopt(M_TRIM_THRESHOLD, 2 * kRoom));
  void* room[4];
  for (int i = 0; i < 4; ++i) CHECK((room[i] = keep(malloc(kRoom / 4))));
  for (int i = 0; i < 4; ++i) free(room[i]);
  setvbuf(stdout, NULL, _IONBF, 0);
  pthread_t thread[64];
  pthread_barrier_init(&g_ready, NULL, (unsigned)threads + 1);
  pthread_barrier_init(&g_limited, NULL, (unsigned)threads + 1);
  for (int i = 0; i < threads; ++i)
    CHECK(pthread_create(&thread[i], NULL, body, (void*)(size_t)(i + 1)) == 0);
  pthread_barrier_wait(&g_ready);
  const rlim_t bytes = pages_in_use() * (rlim_t)sysconf(_SC_PAGESIZE);
  const struct rlimit limit = {bytes, bytes};
  CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
  pthread_barrier_wait(&g_limited);
  unsigned long sum = 0;
  for (int i = 0; i < threads; ++i) {
    void* part;
    CHECK(pthread_join(thread[i], &part) == 0);
    sum += (unsigned long)part;
  }
  printf("sum %lu\n", sum);
  return 0;
}
