/* fork while other threads allocate; the child, now of one thread, goes on allocating. */
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

static void *busy(void *seed) {
  churn(20000, (unsigned)(size_t)seed);
  return NULL;
}

static void *forker(void *unused) {
  (void)unused;
  for (int i = 0; i < 10; ++i) {
    pid_t child = fork();
    if (child == 0) {
      churn(1000, 9);
      pthread_t thread;
      CHECK(pthread_create(&thread, NULL, busy, (void *)8) == 0);
      CHECK(pthread_join(thread, NULL) == 0);
      _exit(3);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 3);
  }
  return NULL;
}

int main(void) {
  pthread_t threads[4];
  for (size_t i = 0; i < 4; ++i)
    CHECK(pthread_create(&threads[i], NULL, i == 3 ? forker : busy, (void *)i) == 0);
  for (int i = 0; i < 4; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  puts("forked from a thread");
  return 0;
}
