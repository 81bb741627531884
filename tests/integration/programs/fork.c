/* Forks of forks; children free what they inherited, and end by exit and by _exit. */
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

static void wait_for(pid_t pid, int expected) {
  int status;
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == expected);
}

int main(void) {
  char *inherited = keep(malloc(1000));
  strcpy(inherited, "from the parent");
  churn(3000, 1);
  for (int i = 0; i < 3; ++i) {
    pid_t child = fork();
    if (child == 0) {
      CHECK(strcmp(inherited, "from the parent") == 0);
      churn(1000 + i, 2);
      pid_t grandchild = fork();
      if (grandchild == 0) {
        inherited = realloc(inherited, 5000);
        CHECK(strcmp(inherited, "from the parent") == 0);
        churn(500, 3);
        free(inherited);
        _exit(7);
      }
      wait_for(grandchild, 7);
      free(inherited);
      exit(5 + i);
    }
    churn(100, 4);
    wait_for(child, 5 + i);
  }
  free(inherited);
  puts("forked");
  return 0;
}
