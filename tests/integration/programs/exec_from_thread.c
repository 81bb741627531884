/* exec in a thread that is not the first one, while others allocate. */
#include <pthread.h>
#include <unistd.h>

#include "program.h"

static char *g_self;
static pthread_barrier_t g_ready;

static void *idle(void *unused) {
  churn(5000, 2);
  pthread_barrier_wait(&g_ready);
  pause();
  return unused;
}

static void *executor(void *unused) {
  (void)unused;
  churn(5000, 3);
  pthread_barrier_wait(&g_ready);
  execv(g_self, (char *[]){g_self, "again", NULL});
  _exit(98);
}

int main(int argc, char **argv) {
  if (argc > 1) {
    churn(3000, 1);
    puts("came through");
    return 0;
  }
  g_self = argv[0];
  pthread_barrier_init(&g_ready, NULL, 4);
  pthread_t thread;
  for (int i = 0; i < 3; ++i) CHECK(pthread_create(&thread, NULL, idle, NULL) == 0);
  CHECK(pthread_create(&thread, NULL, executor, NULL) == 0);
  pause();
  return 98;
}
