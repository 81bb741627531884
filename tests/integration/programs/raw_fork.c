/* Forks by the system call itself: no handler of anybody's runs in the child. */
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

int main(void) {
  churn(20000, 1);
  for (int i = 0; i < 3; ++i) {
    const long child = i == 0 ? syscall(SYS_fork) : syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    CHECK(child >= 0);
    if (child == 0) {
      churn(20000, 2);
      _exit(6);
    }
    int status;
    CHECK(waitpid((pid_t)child, &status, 0) == child && WEXITSTATUS(status) == 6);
    churn(1000, 3);
  }
  puts("forked by hand");
  return 0;
}
