/* Dies by a signal of its own making: abort, SIGSEGV or SIGKILL, by its argument. */
#include <signal.h>
#include <unistd.h>

#include "program.h"

int main(int argc, char **argv) {
  churn(4321, 1);
  CHECK(argc == 2);
  if (strcmp(argv[1], "abort") == 0) abort();
  if (strcmp(argv[1], "segv") == 0) *(volatile int *)(size_t)(argc - 2) = 1;
  if (strcmp(argv[1], "kill") == 0) kill(getpid(), SIGKILL);
  return 98;
}
