/* A call that succeeds leaves errno alone, also the first of a thread and of a fork child. */
#include <errno.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

static void *body(void *unused) {
  for (int i = 0; i < 50000; ++i) {
    errno = 1000 + i % 7;
    void *p = keep(malloc((size_t)(i % 500)));
    CHECK(errno == 1000 + i % 7);
    p = keep(realloc(p, (size_t)(1 + i % 900)));
    CHECK(errno == 1000 + i % 7);
    free(p);
    CHECK(errno == 1000 + i % 7);
    free(keep(calloc(1, 10)));
    CHECK(errno == 1000 + i % 7);
  }
  errno = 0;
  volatile size_t huge = (size_t)-1 / 2;
  CHECK(keep(malloc(huge)) == NULL && errno == ENOMEM);
  return unused;
}

int main(void) {
  body(NULL);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, body, NULL) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  const pid_t child = fork();
  if (child == 0) {
    body(NULL);
    _exit(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  puts("errno is kept");
  return 0;
}
