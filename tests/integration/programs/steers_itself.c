/* Uses alloctape.h, alone or in a plugin; compiled as C and as C++, position-independent and not.
 * Prints what it has left in errno. usage: steers_itself [ROUNDS] */
#include <alloctape.h>
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "program.h"

static int g_ended;

static void* body(void* unused) {
  while (!__atomic_load_n(&g_ended, __ATOMIC_RELAXED)) {
    churn(50, 1);
    usleep(100);
  }
  return unused;
}

/* Sizes tell the parts of the program from one another. */
static void allocate(size_t size) {
  for (int i = 0; i < 10; ++i) free(keep(malloc(size)));
}

int main(int argc, char** argv) {
  errno = ERANGE;
  if (argc == 2) { /* pauses under load */
    pthread_t thread[3];
    for (int i = 0; i < 3; ++i) CHECK(pthread_create(&thread[i], NULL, body, NULL) == 0);
    for (int i = 0; i < atoi(argv[1]); ++i) {
      alloctape_pause();
      usleep(300);
      alloctape_unpause();
      usleep(300);
    }
    __atomic_store_n(&g_ended, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 3; ++i) CHECK(pthread_join(thread[i], NULL) == 0);
    return 0;
  }
  alloctape_init();
  allocate(101);
  alloctape_reset();
  allocate(202);
  alloctape_mark("two");
  alloctape_pause();
  allocate(303);
  alloctape_unpause();
  allocate(404);
  alloctape_sync();
  alloctape_mark("four");
  alloctape_stop();
  allocate(505);
  alloctape_start();
  allocate(606);
  CHECK(errno == ERANGE);
  return 0;
}
