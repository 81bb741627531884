/* Ends by _exit: no destructor, no atexit, buffers partly filled in two threads. */
#include <pthread.h>
#include <unistd.h>

#include "program.h"

static void *busy(void *unused) {
  churn(7001, 2);
  return unused;
}

int main(void) {
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, busy, NULL) == 0);
  churn(12345, 1);
  CHECK(pthread_join(thread, NULL) == 0);
  _exit(3);
}
