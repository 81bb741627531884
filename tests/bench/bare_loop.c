// The loop of a replay without the replay: the calls of make_workload's `churn`, from an array, with
// nothing kept but the pointers. What a replay takes above this is the harness.
// Prints ns of CPU time per call. Usage: bare_loop [CALLS] [PASSES]
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { kSlots = 1001 };
struct call {
  uint32_t slot, size;  // size 0: free
};

static uint64_t g_random = 88172645463325252ull;
static uint64_t random_below(uint64_t limit) {
  g_random ^= g_random << 13;
  g_random ^= g_random >> 7;
  g_random ^= g_random << 17;
  return g_random % limit;
}

int main(int argc, char** argv) {
  const long calls = argc > 1 ? atol(argv[1]) : 10000000;
  const int passes = argc > 2 ? atoi(argv[2]) : 3;
  if (calls < 1 || passes < 1) return 2;
  struct call* script = mmap(0, (size_t)calls * sizeof *script, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (script == MAP_FAILED) return 1;
  static char live[kSlots];
  for (long i = 0; i < calls; ++i) {
    const uint32_t slot = 1 + (uint32_t)random_below(1000);
    script[i].slot = slot;
    script[i].size = live[slot] ? 0 : 16 + (uint32_t)random_below(1009);
    live[slot] = !live[slot];
  }
  // Volatile pointers to the functions: as in a replay no call can be seen through.
  void* (*volatile acquire)(size_t) = malloc;
  void (*volatile release)(void*) = free;
  static void* slots[kSlots];
  double best = 1e18;
  for (int pass = 0; pass < passes; ++pass) {
    struct timespec a, b;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    for (const struct call *c = script, *end = script + calls; c < end; ++c) {
      if (c->size) {
        slots[c->slot] = acquire(c->size);
      } else {
        release(slots[c->slot]);
        slots[c->slot] = NULL;
      }
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    for (int i = 0; i < kSlots; ++i) {
      free(slots[i]);
      slots[i] = NULL;
    }
    const double ns =
        (double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec);
    if (ns < best) best = ns;
  }
  printf("%.3f\n", best / (double)calls);
  return 0;
}
