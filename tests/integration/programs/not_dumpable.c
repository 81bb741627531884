/* prctl(PR_SET_DUMPABLE, 0): much of /proc/self then belongs to root. A child and a thread come
 * after. */
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

static void* busy(void* unused) {
  churn(30000, 2);
  return unused;
}

int main(void) {
  churn(30000, 1);
  CHECK(prctl(PR_SET_DUMPABLE, 0) == 0);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, busy, NULL) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  const pid_t child = fork();
  if (child == 0) {
    churn(30000, 3);
    _exit(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  churn(30000, 4);
  puts("keeps to itself");
  return 0;
}
