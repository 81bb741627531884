/* vfork, exec in the child; the child allocates in between, in its parent's memory. posix_spawn. */
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

extern char **environ;

int main(int argc, char **argv) {
  if (argc > 1) {
    churn(2000, 5);
    return 6;
  }
  churn(1000, 1);
  char *child_argv[] = {argv[0], "child", NULL};
  for (int i = 0; i < 5; ++i) {
    pid_t child = vfork();
    if (child == 0) {
      free(keep(malloc(77)));
      execve(argv[0], child_argv, environ);
      _exit(127);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 6);
    CHECK(posix_spawn(&child, argv[0], NULL, NULL, child_argv, environ) == 0);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 6);
    child = vfork();
    if (child == 0) _exit(9); /* no exec at all */
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 9);
    churn(100, 2);
  }
  puts("vforked");
  return 0;
}
