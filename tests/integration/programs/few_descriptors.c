/* Lives with 16 descriptors: the first that are free must be the ones it would get alone; and it
 * works on when all of them are taken. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include "program.h"

static void* busy(void* unused) {
  churn(30000, 2);
  return unused;
}

int main(void) {
  struct rlimit limit;
  CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 16);
  churn(30000, 1);
  int fds[16], n = 0;
  while ((fds[n] = open("/dev/null", O_RDONLY)) >= 0) {
    if (n < 8) CHECK(fds[n] == 3 + n);
    CHECK(++n < 16);
  }
  CHECK(errno == EMFILE && n >= 12); /* the tracer may take one of 13 */
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, busy, NULL) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  churn(30000, 3);
  while (n > 0) CHECK(close(fds[--n]) == 0);
  puts("few descriptors");
  return 0;
}
