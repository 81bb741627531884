/* Starts as root and goes on as nobody: for good, with threads on both sides of it, and a child. */
#define _GNU_SOURCE
#include <grp.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

enum { kNobody = 65534 };

static void* busy(void* seed) {
  churn(60000, (unsigned)(size_t)seed);
  return NULL;
}

int main(void) {
  churn(30000, 1);
  pthread_t threads[3];
  for (size_t i = 0; i < 2; ++i)
    CHECK(pthread_create(&threads[i], NULL, busy, (void*)(i + 2)) == 0);
  CHECK(setgroups(0, NULL) == 0);
  CHECK(setresgid(kNobody, kNobody, kNobody) == 0 && setresuid(kNobody, kNobody, kNobody) == 0);
  CHECK(setuid(0) != 0);
  CHECK(pthread_create(&threads[2], NULL, busy, (void*)4) == 0);
  churn(60000, 5);
  const pid_t child = fork();
  if (child == 0) {
    churn(30000, 6);
    _exit(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  for (int i = 0; i < 3; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  puts("nobody now");
  return 0;
}
