/* Signals at every turn, all handled on alternate stacks: a fast timer against four threads that
 * allocate, whose handler allocates where it did not interrupt an allocation; and faults whose
 * handler allocates and jumps away. Counts the blocks itself (argument 1: a file for that count).
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "program.h"

enum { kThreads = 4, kTicks = 400, kFaults = 200, kStack = 64 << 10 };
static __thread volatile sig_atomic_t t_inside;
static __thread volatile unsigned long t_blocks;
static __thread sigjmp_buf t_back;
static unsigned long g_blocks;
static volatile unsigned g_ticks;
static char* g_forbidden;

static void block(size_t size) {
  t_inside = 1;
  free(keep(malloc(size)));
  t_blocks = t_blocks + 1;
  t_inside = 0;
}

static void ticked(int signal_number) {
  (void)signal_number;
  const int saved = errno;
  if (!t_inside) block(200);
  __atomic_fetch_add(&g_ticks, 1, __ATOMIC_RELAXED);
  errno = saved;
}

static void faulted(int signal_number) {
  (void)signal_number;
  block(100);
  siglongjmp(t_back, 1);
}

static void* storm(void* seed) {
  stack_t stack = {.ss_size = kStack};
  t_inside = 1;
  stack.ss_sp = malloc(kStack);
  CHECK(stack.ss_sp && sigaltstack(&stack, NULL) == 0);
  t_inside = 0;
  for (volatile int i = 0; i < kFaults; i = i + 1) {
    block(300 + (size_t)seed);
    if (sigsetjmp(t_back, 1) == 0) g_forbidden[0] = 1;
  }
  volatile unsigned sink = 0;
  while (__atomic_load_n(&g_ticks, __ATOMIC_RELAXED) < kTicks) {
    block(400 + (size_t)seed);
    for (int i = 0; i < 2000; ++i) sink = sink + 1;
  }
  t_inside = 1;
  const stack_t none = {.ss_flags = SS_DISABLE};
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, NULL);
  CHECK(sigaltstack(&none, NULL) == 0);
  free(stack.ss_sp);
  __atomic_fetch_add(&g_blocks, t_blocks + 1, __ATOMIC_RELAXED);
  return NULL;
}

int main(int argc, char** argv) {
  g_forbidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(g_forbidden != MAP_FAILED);
  struct sigaction action = {.sa_handler = ticked, .sa_flags = SA_ONSTACK | SA_RESTART};
  sigaction(SIGALRM, &action, NULL);
  action.sa_handler = faulted;
  action.sa_flags = SA_ONSTACK;
  sigaction(SIGSEGV, &action, NULL);
  pthread_t threads[kThreads];
  for (size_t i = 0; i < kThreads; ++i)
    CHECK(pthread_create(&threads[i], NULL, storm, (void*)i) == 0);
  sigset_t alarm_only;
  sigemptyset(&alarm_only);
  sigaddset(&alarm_only, SIGALRM);
  pthread_sigmask(SIG_BLOCK, &alarm_only, NULL);
  struct itimerval timer = {{0, 500}, {0, 500}};
  setitimer(ITIMER_REAL, &timer, NULL);
  for (int i = 0; i < kThreads; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  timer = (struct itimerval){{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &timer, NULL);
  if (argc > 1) {
    FILE* out = fopen(argv[1], "w");
    CHECK(out && fprintf(out, "%lu\n", g_blocks) > 0 && fclose(out) == 0);
  }
  puts("weathered");
  return 0;
}
