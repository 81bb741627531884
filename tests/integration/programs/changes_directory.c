/* chdir, then fork and exec: where the traces go must not depend on where the program stands. */
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

int main(int argc, char **argv) {
  churn(1000, 1);
  CHECK(argc > 1 && chdir("/") == 0);
  churn(1000, 2);
  const pid_t child = fork();
  if (child == 0) {
    churn(1000, 3);
    if (strcmp(argv[1], "again") == 0) _exit(0);
    execl(argv[1], argv[1], "again", (char *)NULL);
    _exit(98);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  if (strcmp(argv[1], "again") != 0) puts("elsewhere");
  return 0;
}
