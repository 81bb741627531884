// Allocation while a thread is torn down: thread_local destructors, and pthread keys whose destructors
// set themselves again for as many rounds as POSIX grants.
#include <pthread.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "program.h"

namespace {
pthread_key_t g_key;

void key_destructor(void* value) {
  auto round = reinterpret_cast<size_t>(value);
  free(keep(malloc(100 * round)));
  delete static_cast<int*>(keep(new int(5)));
  if (round < 4) pthread_setspecific(g_key, reinterpret_cast<void*>(round + 1));
}

struct Leaver {
  std::vector<std::string> lines;
  ~Leaver() {
    for (int i = 0; i < 50; ++i) lines.emplace_back(100 + i, 'x');
    free(keep(malloc(33)));
  }
};
thread_local Leaver t_leaver;

void work() {
  t_leaver.lines.emplace_back("a line that is too long for the string's own buffer");
  pthread_setspecific(g_key, reinterpret_cast<void*>(1));
  churn(50, 1);
}
}  // namespace

int main() {
  pthread_key_create(&g_key, key_destructor);
  for (int i = 0; i < 200; ++i) {
    std::thread a(work), b(work);
    a.join();
    b.join();
  }
  work();
  puts("torn down");
}
