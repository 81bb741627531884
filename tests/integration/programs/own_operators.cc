// A plugin for dlopen_churn with operators of its own, as plugins built against another runtime
// have. PAD makes two such plugins that differ.
#include <cstdlib>
#include <new>

#include "program.h"

void* operator new(std::size_t n) {
  void* p = std::malloc(n + PAD);
  if (!p) std::abort();
  return p;
}
void* operator new(std::size_t n, std::align_val_t alignment) {
  void* p = nullptr;
  if (posix_memalign(&p, static_cast<std::size_t>(alignment), n + PAD) != 0) std::abort();
  return p;
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }

extern "C" int plugin_work(int n) {
  int sum = 0;
  for (int i = 0; i < n; ++i) {
    int* number = static_cast<int*>(keep(operator new(sizeof(int))));
    *number = i;
    sum += *number;
    operator delete(number);
    operator delete (keep(operator new (64, std::align_val_t{64})), std::align_val_t{64});
  }
  return sum;
}
