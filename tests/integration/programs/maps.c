// Gets memory from the kernel itself, in every way there is, and counts its calls: one line for each
// function on standard output, with how many of them failed.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "program.h"

#define PAGE 4096ul

enum { MMAP, MUNMAP, MREMAP, MADVISE, BRK, SBRK, FUNCTIONS };
static const char* const names[FUNCTIONS] = {"mmap", "munmap", "mremap", "madvise", "brk", "sbrk"};
static unsigned long calls[FUNCTIONS], failures[FUNCTIONS];

static void count(int function, int failed) {
  __atomic_fetch_add(&calls[function], 1, __ATOMIC_RELAXED);
  if (failed) __atomic_fetch_add(&failures[function], 1, __ATOMIC_RELAXED);
}
static void* map_at(void* at, size_t n, int prot, int flags, int fd, off_t offset) {
  void* p = mmap(at, n, prot, flags, fd, offset);
  count(MMAP, p == MAP_FAILED);
  return p;
}
static void* map(size_t n) {
  return map_at(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
static int unmap(void* p, size_t n) {
  const int r = munmap(p, n);
  count(MUNMAP, r != 0);
  return r;
}
static void* remap(void* p, size_t old, size_t n, int flags) {
  void* q = mremap(p, old, n, flags);
  count(MREMAP, q == MAP_FAILED);
  return q;
}
static int advise(void* p, size_t n, int advice) {
  const int r = madvise(p, n, advice);
  count(MADVISE, r != 0);
  return r;
}
static void* move_break(intptr_t by) {
  void* p = sbrk(by);
  count(SBRK, p == (void*)-1);
  return p;
}

static void failing(void) {
  errno = 0;
  CHECK(map(0) == MAP_FAILED && errno == EINVAL);
  CHECK(map_at(NULL, PAGE, PROT_READ, MAP_PRIVATE, 9999, 0) == MAP_FAILED && errno == EBADF);
  CHECK(unmap((void*)1, PAGE) == -1 && errno == EINVAL);
  CHECK(advise((void*)1, PAGE, MADV_DONTNEED) == -1 && errno == EINVAL);
  CHECK(remap((void*)1, PAGE, PAGE, 0) == MAP_FAILED && errno == EINVAL);
  CHECK(move_break(INTPTR_MAX / 2) == (void*)-1 && errno == ENOMEM);
  const int r = brk((void*)(UINTPTR_MAX >> 1));
  count(BRK, r != 0);
  errno = 77;  // and what succeeds leaves it alone
  char* p = map(PAGE);
  CHECK(p != MAP_FAILED && errno == 77);
  CHECK(unmap(p, PAGE) == 0 && errno == 77);
}

static void parts(void) {
  char* p = map(16 * PAGE);
  memset(p, 1, 16 * PAGE);
  CHECK(unmap(p + 4 * PAGE, 2 * PAGE) == 0);             // a hole
  CHECK(unmap(p, PAGE) == 0);                            // the beginning
  CHECK(advise(p + 8 * PAGE, 2 * PAGE, MADV_DONTNEED) == 0);
  CHECK(p[8 * PAGE] == 0);
  CHECK(unmap(p + 12 * PAGE, 4 * PAGE) == 0);            // the end
  CHECK(unmap(p, 16 * PAGE) == 0);                       // what is left, across the holes
}

static void fixed(void) {
  char* p = map_at(NULL, 64 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  for (int i = 0; i < 4; ++i) {  // committed piece by piece
    char* q = map_at(p + i * 8 * PAGE, 8 * PAGE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(q == p + i * 8 * PAGE);
    memset(q, 2, 8 * PAGE);
  }
  CHECK(advise(p, 16 * PAGE, MADV_DONTNEED) == 0);
  CHECK(unmap(p, 64 * PAGE) == 0);
}

static void moving(void) {
  char* p = map(4 * PAGE);
  p[0] = 3;
  p = remap(p, 4 * PAGE, 400 * PAGE, MREMAP_MAYMOVE);
  CHECK(p != MAP_FAILED && p[0] == 3);
  p[399 * PAGE] = 4;
  p = remap(p, 400 * PAGE, 100 * PAGE, 0);  // shrinks in place
  char* target = map(200 * PAGE);
  char* q = mremap(p, 100 * PAGE, 200 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target);
  count(MREMAP, q == MAP_FAILED);
  CHECK(q == target && q[0] == 3);
  CHECK(unmap(q, 200 * PAGE) == 0);
}

static void files(void) {
  char name[] = "/tmp/alloctape-maps-XXXXXX";
  const int fd = mkstemp(name);
  CHECK(fd >= 0 && ftruncate(fd, 8 * PAGE) == 0);
  char* p = map_at(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  char* q = map_at(NULL, 4 * PAGE, PROT_READ, MAP_PRIVATE, fd, 4 * PAGE);
  CHECK(p != MAP_FAILED && q != MAP_FAILED);
  p[5 * PAGE] = 9;
  CHECK(q[PAGE] == 9);
  CHECK(unmap(q, 4 * PAGE) == 0);
  close(fd);
  unlink(name);
  CHECK(unmap(p, 8 * PAGE) == 0);
}

static void* map_churn(void* seed) {
  unsigned state = (unsigned)(uintptr_t)seed;
  void* kept[8] = {NULL};
  size_t sizes[8] = {0};
  for (int i = 0; i < 500; ++i) {
    state = state * 1664525u + 1013904223u;
    const unsigned k = state >> 29, pages = (state >> 20 & 15) + 1;
    if (kept[k]) unmap(kept[k], sizes[k]);
    sizes[k] = pages * PAGE;
    kept[k] = map(sizes[k]);
    memset(kept[k], 5, sizes[k]);
    free(malloc(pages * 20000));  // the allocator's own mappings in between
  }
  for (int k = 0; k < 8; ++k)
    if (kept[k]) unmap(kept[k], sizes[k]);
  return NULL;
}

static void* unmap_other(void* p) {
  unmap(p, 32 * PAGE);
  return NULL;
}

static void threads(void) {
  pthread_t thread[4];
  for (uintptr_t i = 0; i < 4; ++i)
    CHECK(pthread_create(&thread[i], NULL, map_churn, (void*)(i + 1)) == 0);
  for (int i = 0; i < 4; ++i) pthread_join(thread[i], NULL);
  for (int i = 0; i < 20; ++i) {  // handed over: unmapped by another thread
    void* p = map(32 * PAGE);
    CHECK(pthread_create(&thread[0], NULL, unmap_other, p) == 0);
    pthread_join(thread[0], NULL);
  }
}

// Handlers that map memory, in whatever they interrupt: malloc, mmap, the tracer.
static volatile sig_atomic_t ticks;
static void on_tick(int number) {
  (void)number;
  const int saved = errno;
  void* p = map(PAGE);
  unmap(p, PAGE);
  errno = saved;
  ++ticks;
}
static void signals(void) {
  struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &action, NULL);
  const struct itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &often, NULL);
  for (int i = 0; ticks < 100 && i < 10000000; ++i) {
    free(keep(malloc(100)));
    if (i % 64 == 0) {
      void* p = map(2 * PAGE);
      unmap(p, 2 * PAGE);
    }
  }
  setitimer(ITIMER_REAL, &never, NULL);
  CHECK(ticks > 0);
}

int main(void) {
  failing();
  parts();
  fixed();
  moving();
  files();
  threads();
  signals();
  // Anonymous memory that stays: 100 pages, and a break that went up and down again.
  char* stays = map(100 * PAGE);
  memset(stays, 6, 100 * PAGE);
  CHECK(move_break(0) != (void*)-1);
  CHECK(move_break(PAGE) != (void*)-1);
  CHECK(move_break(-(intptr_t)PAGE) != (void*)-1);
  for (int f = 0; f < FUNCTIONS; ++f) printf("%s %lu %lu\n", names[f], calls[f], failures[f]);
  return 0;
}
