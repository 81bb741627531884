/* Objects that pass through three threads each, in an order that is fixed beforehand: see
 * histories.h. Each object carries its number, so that every thread checks what it was handed.
 * usage: hand_over_chain OBJECTS   (of each producer; a multiple of 4) */
#include <pthread.h>
#include <sched.h>

#include "histories.h"
#include "program.h"

enum { kRing = 1024 };
struct ring {
  unsigned long made __attribute__((aligned(128)));
  unsigned long taken __attribute__((aligned(128)));
  unsigned long* slot[kRing] __attribute__((aligned(128)));
};
static struct ring g_first[kEach][kEach], g_second[kEach][kEach];
static unsigned long g_objects;

static void put(struct ring* ring, unsigned long* object) {
  const unsigned long at = ring->made;
  while (at - __atomic_load_n(&ring->taken, __ATOMIC_ACQUIRE) >= kRing) sched_yield();
  ring->slot[at % kRing] = object;
  __atomic_store_n(&ring->made, at + 1, __ATOMIC_RELEASE);
}
static unsigned long* take(struct ring* ring) {
  const unsigned long at = ring->taken;
  while (__atomic_load_n(&ring->made, __ATOMIC_ACQUIRE) == at) sched_yield();
  unsigned long* object = ring->slot[at % kRing];
  __atomic_store_n(&ring->taken, at + 1, __ATOMIC_RELEASE);
  return object;
}

static void show_role(unsigned long role) { free(keep(malloc(kRoleSize + role))); }

static void* produce(void* self) {
  const unsigned long p = (unsigned long)self;
  show_role(kProducer + p);
  for (unsigned long n = 0; n < g_objects; ++n) {
    unsigned long* object = keep(malloc(size_of(p, n)));
    CHECK(object);
    object[0] = p;
    object[1] = n;
    put(&g_first[p][n % 2], object);
  }
  return NULL;
}
static void* resize(void* self) {
  const unsigned long r = (unsigned long)self;
  show_role(kResizer + r);
  for (unsigned long call = 0; call < g_objects; ++call) {
    unsigned long* object = take(&g_first[call % 2][r]);
    const struct history h = history_of(object[0], object[1]);
    CHECK(h.resizer == r && h.resize == call);
    object = keep(realloc(object, new_size_of(object[0], object[1])));
    CHECK(object);
    put(&g_second[r][h.consumer], object);
  }
  return NULL;
}
static void* consume(void* self) {
  const unsigned long c = (unsigned long)self;
  show_role(kConsumer + c);
  for (unsigned long call = 0; call < g_objects; ++call) {
    unsigned long* object = take(&g_second[call % 2][c]);
    const struct history h = history_of(object[0], object[1]);
    CHECK(h.consumer == c && h.release == call);
    free(object);
  }
  return NULL;
}

int main(int argc, char** argv) {
  CHECK(argc == 2);
  g_objects = strtoul(argv[1], NULL, 0);
  CHECK(g_objects > 0 && g_objects % 4 == 0);
  void* (*const body[])(void*) = {produce, resize, consume};
  pthread_t thread[kRoles];
  for (unsigned long i = 0; i < kRoles; ++i)
    CHECK(pthread_create(&thread[i], NULL, body[i / kEach], (void*)(i % kEach)) == 0);
  for (int i = 0; i < kRoles; ++i) CHECK(pthread_join(thread[i], NULL) == 0);
  printf("%lu objects, each through three threads\n", kEach * g_objects);
  return 0;
}
