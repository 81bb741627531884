/* Runs out of stack, in threads, and lives on: a handler on an alternate stack jumps back. Each
 * level of the recursion allocates; what overflows is the program's own frame: nobody may jump out
 * of malloc. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>

#include "program.h"

enum { kDepth = 4000, kFrame = 16 << 10, kProbe = 32 << 10, kAltStack = 64 << 10 };
static __thread sigjmp_buf t_back;
static __thread void* t_block[kDepth];
static __thread volatile int t_depth;

static void overflowed(int signal_number) {
  (void)signal_number;
  siglongjmp(t_back, 1);
}

/* Whether there is room for malloc: if not, it ends here. */
__attribute__((noinline)) static void probe(void) {
  volatile char room[kProbe];
  for (int i = kProbe - 1; i >= 0; i -= 1024) room[i] = 1;
  keep((void*)room);
}

__attribute__((noinline)) static int deeper(int level) {
  volatile char frame[kFrame];
  for (int i = kFrame - 1; i >= 0; i -= 1024) frame[i] = (char)level;
  probe();
  t_block[level] = keep(malloc((size_t)level % 100 + 1));
  t_depth = level + 1;
  if (level + 1 == kDepth) return 0; /* never: the stack ends before */
  return deeper(level + 1) + frame[0];
}

static void* body(void* unused) {
  stack_t stack = {.ss_size = kAltStack, .ss_sp = malloc(kAltStack)};
  CHECK(stack.ss_sp && sigaltstack(&stack, NULL) == 0);
  for (volatile int round = 0; round < 20; round = round + 1) {
    t_depth = 0;
    if (sigsetjmp(t_back, 1) == 0) deeper(0);
    CHECK(t_depth > 2);
    while (t_depth > 0) {
      t_depth = t_depth - 1;
      free(t_block[t_depth]);
    }
    churn(50, 1);
  }
  const stack_t none = {.ss_flags = SS_DISABLE};
  CHECK(sigaltstack(&none, NULL) == 0);
  free(stack.ss_sp);
  return unused;
}

int main(void) {
  struct sigaction action = {.sa_handler = overflowed, .sa_flags = SA_ONSTACK};
  CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  CHECK(pthread_attr_setstacksize(&attributes, 1 << 20) == 0);
  for (int i = 0; i < 3; ++i) {
    pthread_t a, b;
    CHECK(pthread_create(&a, &attributes, body, NULL) == 0);
    CHECK(pthread_create(&b, &attributes, body, NULL) == 0);
    CHECK(pthread_join(a, NULL) == 0 && pthread_join(b, NULL) == 0);
  }
  puts("came back each time");
  return 0;
}
