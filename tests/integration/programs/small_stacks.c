/* Threads with the smallest stack that the system allows: a tracer must not need much. */
#include <limits.h>
#include <pthread.h>

#include "program.h"

static void *body(void *unused) {
  for (int i = 0; i < 3000; ++i) free(keep(malloc(1 + (size_t)i)));
  return unused;
}

int main(void) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  CHECK(pthread_attr_setstacksize(&attributes, (size_t)PTHREAD_STACK_MIN) == 0);
  for (int i = 0; i < 50; ++i) {
    pthread_t thread;
    CHECK(pthread_create(&thread, &attributes, body, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
  }
  puts("small stacks");
  return 0;
}
