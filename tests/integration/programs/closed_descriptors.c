/* Closes every descriptor but the standard three in mid-run, as daemons do, takes their numbers for
 * files of its own (argument 1: a folder), and checks that nobody else wrote into them. */
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

static void *busy(void *unused) {
  churn(60000, 6);
  return unused;
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  churn(60000, 1);
  for (int fd = 3; fd < 1024; ++fd) close(fd);
  int fds[64];
  for (int i = 0; i < 64; ++i) {
    char path[4096];
    snprintf(path, sizeof path, "%s/mine.%d", argv[1], i);
    fds[i] = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fds[i] >= 0 && write(fds[i], "mine", 4) == 4);
  }
  churn(60000, 2);
  pthread_t threads[3];
  for (int i = 0; i < 3; ++i) CHECK(pthread_create(&threads[i], NULL, busy, NULL) == 0);
  for (int i = 0; i < 3; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  const pid_t child = fork();
  if (child == 0) {
    churn(60000, 3);
    _exit(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  for (int i = 0; i < 64; ++i) {
    struct stat st;
    char text[5] = "";
    CHECK(fstat(fds[i], &st) == 0 && st.st_size == 4);
    CHECK(pread(fds[i], text, 4, 0) == 4 && strcmp(text, "mine") == 0);
  }
  puts("nobody touched them");
  return 0;
}
