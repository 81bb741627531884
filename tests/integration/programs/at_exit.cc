// Allocation after main: atexit, on_exit, destructors of statics and of the executable, and a thread
// that still runs while they do.
#include <pthread.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "program.h"

namespace {
struct Static {
  std::vector<std::string> lines{100, std::string(64, 's')};
  ~Static() {
    churn(300, 1);
    lines.assign(50, std::string(128, 't'));
  }
} g_static;

void at_exit_handler() { churn(200, 2); }
void on_exit_handler(int, void* block) {
  churn(100, 3);
  free(block);
}
__attribute__((destructor)) void destructor() { churn(400, 4); }

pthread_barrier_t g_waits;
void* waiter(void*) {
  churn(1000, 5);
  pthread_barrier_wait(&g_waits);
  pause();
  return nullptr;
}
}  // namespace

int main() {
  atexit(at_exit_handler);
  on_exit(on_exit_handler, keep(malloc(500)));
  pthread_barrier_init(&g_waits, nullptr, 2);
  pthread_t thread;
  CHECK(pthread_create(&thread, nullptr, waiter, nullptr) == 0);
  pthread_barrier_wait(&g_waits);
  puts("leaving main");
  return 2;
}
