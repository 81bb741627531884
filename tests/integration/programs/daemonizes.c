/* Becomes a daemon as the books say: two forks, setsid, chdir, umask, every descriptor closed,
 * standard ones to /dev/null; then works with threads and leaves its result in a file (argument 1),
 * for which the process that was started waits. */
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

static void* busy(void* seed) {
  churn(30000, (unsigned)(size_t)seed);
  return NULL;
}

static void be_a_daemon(const char* result) {
  umask(027);
  CHECK(chdir("/") == 0);
  if (syscall(SYS_close_range, 0u, ~0u, 0u) != 0)
    for (int fd = 0; fd < 1100; ++fd) close(fd);
  CHECK(open("/dev/null", O_RDWR) == 0 && dup(0) == 1 && dup(0) == 2);
  pthread_t threads[3];
  for (size_t i = 0; i < 3; ++i)
    CHECK(pthread_create(&threads[i], NULL, busy, (void*)(i + 1)) == 0);
  for (int i = 0; i < 3; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  churn(30000, 9);
  char temporary[4096];
  snprintf(temporary, sizeof temporary, "%s.new", result);
  const int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  CHECK(fd == 3); /* the first number that is free, as without anybody else's descriptors */
  CHECK(write(fd, "served", 6) == 6 && close(fd) == 0 && rename(temporary, result) == 0);
  _exit(0);
}

int main(int argc, char** argv) {
  CHECK(argc == 2 && argv[1][0] == '/');
  churn(2000, 1);
  const pid_t child = fork();
  if (child == 0) {
    churn(1000, 2);
    setsid();
    const pid_t grandchild = fork();
    if (grandchild == 0) be_a_daemon(argv[1]);
    _exit(grandchild < 0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  for (int i = 0; i < 2000 && access(argv[1], F_OK) != 0; ++i) usleep(10000);
  char text[7] = "";
  const int fd = open(argv[1], O_RDONLY);
  CHECK(fd >= 0 && read(fd, text, 6) == 6);
  puts(text);
  return 0;
}
