/* Says whether the user's own preload is in this image and in LD_PRELOAD, then runs itself once. */
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

extern int user_preload_is_here(void) __attribute__((weak));

int main(int argc, char **argv) {
  churn(500, 1);
  const char *value = getenv("LD_PRELOAD");
  printf("%s: loaded %d, named %d\n", argc > 1 ? argv[1] : "parent", user_preload_is_here != NULL,
         value && strstr(value, "libuser_preload.so") != NULL);
  fflush(stdout);
  if (argc > 1) return 0;
  const pid_t child = fork();
  if (child == 0) {
    execl(argv[0], argv[0], "child", (char *)NULL);
    _exit(98);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  return 0;
}
