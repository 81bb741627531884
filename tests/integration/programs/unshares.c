/* Leaves the namespaces it was born in: of processes (its child is number 1), mounts, names; and a
 * thread that leaves the descriptors and the working directory of the others. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

static void* apart(void* unused) {
  churn(30000, 2);
  CHECK(unshare(CLONE_FILES | CLONE_FS) == 0);
  for (int fd = 3; fd < 1100; ++fd) close(fd); /* its own table alone */
  CHECK(chdir("/") == 0);
  churn(60000, 3);
  return unused;
}

int main(void) {
  churn(30000, 1);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, apart, NULL) == 0);
  churn(60000, 4);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC) == 0);
  const pid_t child = fork();
  if (child == 0) {
    CHECK(getpid() == 1);
    churn(20000, 5);
    const pid_t grandchild = fork();
    if (grandchild == 0) {
      churn(10000, 6);
      _exit(0);
    }
    int status;
    CHECK(waitpid(grandchild, &status, 0) == grandchild && status == 0);
    _exit(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  const int own = open("/proc/self/ns/uts", O_RDONLY);
  CHECK(own >= 0 && setns(own, 0) == 0);
  churn(30000, 7);
  /* Of any number, not of one far away: a descriptor lost at every turn would show here. */
  int fds[20];
  for (int i = 0; i < 20; ++i) CHECK((fds[i] = open("/dev/null", O_RDONLY)) >= 0 && fds[i] < 100);
  puts("apart");
  return 0;
}
