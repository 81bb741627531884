/* Forbids itself, with EPERM, every system call by which memory or files grow; and goes on with the
 * memory it has. usage: seccomp CALLS */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "program.h"

enum { kThreads = 4, kRoom = 64 << 20 };
static pthread_barrier_t g_ready, g_forbidden;
static long g_calls;

static void* body(void* seed_pointer) {
  unsigned seed = (unsigned)(size_t)seed_pointer;
  for (int i = 0; i < 100; ++i) free(keep(malloc(50)));
  pthread_barrier_wait(&g_ready);
  pthread_barrier_wait(&g_forbidden);
  for (long i = 0; i < g_calls / 2; ++i) {
    seed = seed * 1664525u + 1013904223u;
    void* p = keep(malloc(4 + (seed >> 22)));
    CHECK(p);
    free(p);
  }
  return NULL;
}

#define DENY(number)                                   \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), \
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)

static void forbid(void) {
  struct sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      DENY(__NR_pwritev),
      DENY(__NR_pwritev2),
      DENY(__NR_pwrite64),
      DENY(__NR_mmap),
      DENY(__NR_fallocate),
      DENY(__NR_openat),
      DENY(__NR_open),
      DENY(__NR_mremap),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const struct sock_fprog filter = {sizeof program / sizeof program[0], program};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter) == 0);
  CHECK(mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
        errno == EPERM);
}

int main(int argc, char** argv) {
  CHECK(argc == 2);
  g_calls = atol(argv[1]);
  CHECK(mallopt(M_ARENA_MAX, 1) && mallopt(M_TRIM_THRESHOLD, 2 * kRoom));
  CHECK(mallopt(M_MMAP_THRESHOLD, 32 << 20));
  void* room[4];
  for (int i = 0; i < 4; ++i) CHECK((room[i] = keep(malloc(kRoom / 4))));
  for (int i = 0; i < 4; ++i) free(room[i]);
  setvbuf(stdout, NULL, _IONBF, 0);
  pthread_barrier_init(&g_ready, NULL, kThreads + 1);
  pthread_barrier_init(&g_forbidden, NULL, kThreads + 1);
  pthread_t threads[kThreads];
  for (size_t i = 0; i < kThreads; ++i)
    CHECK(pthread_create(&threads[i], NULL, body, (void*)(i + 1)) == 0);
  pthread_barrier_wait(&g_ready);
  forbid();
  pthread_barrier_wait(&g_forbidden);
  for (int i = 0; i < kThreads; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  puts("lived within its bounds");
  return 0;
}
