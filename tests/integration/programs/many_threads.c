/* COUNT short threads, AT_ONCE at a time, each CALLS calls. With `together` all of them are alive
 * at once, after their calls. Prints the peak of its resident memory in KiB when it ends, where
 * asked. usage: many_threads COUNT AT_ONCE CALLS [together|rss] */
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "program.h"

enum { kMost = 1000 };
static int g_calls;
static pthread_barrier_t g_all;
static int g_together;

static void* brief(void* seed_pointer) {
  unsigned seed = (unsigned)(size_t)seed_pointer;
  for (int i = 0; i < g_calls / 2; ++i) {
    seed = seed * 1664525u + 1013904223u;
    free(keep(malloc(1 + (seed >> 24))));
  }
  if (g_together) pthread_barrier_wait(&g_all);
  return NULL;
}

/* Of this image alone: what getrusage tells is inherited through exec. */
static long peak_rss_kib(void) {
  static char text[4096];
  const int fd = open("/proc/self/status", O_RDONLY);
  CHECK(fd >= 0);
  const ssize_t n = read(fd, text, sizeof text - 1);
  CHECK(n > 0 && close(fd) == 0);
  text[n] = 0;
  const char* line = strstr(text, "VmHWM:");
  CHECK(line);
  return atol(line + 6);
}

int main(int argc, char** argv) {
  CHECK(argc >= 4);
  const long count = atol(argv[1]), at_once = atol(argv[2]);
  g_calls = atoi(argv[3]);
  CHECK(at_once > 0 && at_once <= kMost);
  const char* how = argc > 4 ? argv[4] : "";
  g_together = strcmp(how, "together") == 0;
  static pthread_t threads[kMost];
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  CHECK(pthread_attr_setstacksize(&attributes, 64 << 10) == 0);
  pthread_barrier_init(&g_all, NULL, (unsigned)at_once);
  for (long i = 0; i < count; i += at_once) {
    for (long j = 0; j < at_once; ++j)
      CHECK(pthread_create(&threads[j], &attributes, brief, (void*)(i + j)) == 0);
    for (long j = 0; j < at_once; ++j) CHECK(pthread_join(threads[j], NULL) == 0);
  }
  if (strcmp(how, "rss") == 0) printf("%ld\n", peak_rss_kib());
  puts("many threads");
  return 0;
}
