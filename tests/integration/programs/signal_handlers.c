/* Handlers that allocate: by raise between calls, on the normal and on an alternate stack, nested;
 * and by a timer, where the handler allocates only when it did not interrupt an allocation. Counts the
 * calls made in the timer phase itself (argument 1: a file for that count). */
#include <errno.h>
#include <signal.h>
#include <sys/time.h>

#include "program.h"

static volatile sig_atomic_t g_inside, g_stop;
static volatile unsigned long g_handler_blocks;

static void raised(int signal_number) {
  const int saved = errno;
  free(keep(malloc(64 + (size_t)signal_number)));
  if (signal_number == SIGUSR1) raise(SIGUSR2);
  errno = saved;
}

static void ticked(int signal_number) {
  (void)signal_number;
  const int saved = errno;
  if (!g_inside && g_handler_blocks < 500) {
    free(keep(malloc(200)));
    g_handler_blocks = g_handler_blocks + 1;
  }
  if (g_handler_blocks == 500) g_stop = 1;
  errno = saved;
}

int main(int argc, char **argv) {
  struct sigaction action = {.sa_handler = raised, .sa_flags = SA_ONSTACK};
  sigaction(SIGUSR1, &action, NULL);
  sigaction(SIGUSR2, &action, NULL);
  for (int i = 0; i < 500; ++i) {
    churn(5, (unsigned)i);
    raise(SIGUSR1);
  }
  stack_t stack = {.ss_size = 64 * 1024, .ss_sp = malloc(64 * 1024)};
  CHECK(sigaltstack(&stack, NULL) == 0);
  for (int i = 0; i < 500; ++i) {
    churn(5, (unsigned)i);
    raise(SIGUSR1);
  }
  if (argc > 1) {
    unsigned long blocks = 0;
    action.sa_handler = ticked;
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &timer, NULL);
    volatile unsigned sink = 0;
    while (!g_stop) {
      g_inside = 1;
      free(keep(malloc(300)));
      ++blocks;
      g_inside = 0;
      for (int i = 0; i < 3000; ++i) sink = sink + 1;
    }
    timer = (struct itimerval){{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &timer, NULL);
    g_inside = 1;
    FILE *out = fopen(argv[1], "w");
    CHECK(out && fprintf(out, "%lu\n", blocks + g_handler_blocks) > 0 && fclose(out) == 0);
  }
  puts("handled");
  return 0;
}
