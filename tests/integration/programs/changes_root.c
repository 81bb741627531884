/* chroot in mid-run, to a folder (argument 1) from which nothing of the old tree can be reached. */
#include <pthread.h>
#include <unistd.h>

#include "program.h"

static void* busy(void* seed) {
  churn(60000, (unsigned)(size_t)seed);
  return NULL;
}

int main(int argc, char** argv) {
  CHECK(argc == 2);
  churn(30000, 1);
  pthread_t threads[2];
  CHECK(pthread_create(&threads[0], NULL, busy, (void*)2) == 0);
  CHECK(chroot(argv[1]) == 0 && chdir("/") == 0);
  CHECK(access("/proc", F_OK) != 0 && access("/tmp", F_OK) != 0);
  CHECK(pthread_create(&threads[1], NULL, busy, (void*)3) == 0);
  churn(60000, 4);
  for (int i = 0; i < 2; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  puts("in a root of its own");
  return 0;
}
