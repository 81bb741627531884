// Each exported form of operator new and delete, called as such, a telling number of times.
#include <cstdint>
#include <new>

#include "program.h"

namespace {
constexpr std::align_val_t kAlign{64};

template <typename New, typename Delete>
void times(int n, New make, Delete destroy) {
  for (int i = 0; i < n; ++i) {
    void* p = keep(make());
    CHECK(p);
    memset(p, i, 40);
    destroy(p);
  }
}
void* aligned(void* p) {
  CHECK(reinterpret_cast<std::uintptr_t>(p) % 64 == 0);
  return p;
}
}  // namespace

int main() {
  const std::nothrow_t& quiet = std::nothrow;
  times(3, [] { return operator new(40); }, [](void* p) { operator delete(p); });
  times(4, [] { return operator new[](40); }, [](void* p) { operator delete[](p); });
  times(5, [&] { return operator new(40, quiet); }, [&](void* p) { operator delete(p, quiet); });
  times(6, [&] { return operator new[](40, quiet); }, [&](void* p) { operator delete[](p, quiet); });
  times(7, [] { return operator new(40); }, [](void* p) { operator delete(p, 40); });
  times(8, [] { return operator new[](40); }, [](void* p) { operator delete[](p, 40); });
  times(9, [] { return aligned(operator new(40, kAlign)); },
        [](void* p) { operator delete(p, kAlign); });
  times(10, [] { return aligned(operator new[](40, kAlign)); },
        [](void* p) { operator delete[](p, kAlign); });
  times(11, [&] { return aligned(operator new(40, kAlign, quiet)); },
        [&](void* p) { operator delete(p, kAlign, quiet); });
  times(12, [&] { return aligned(operator new[](40, kAlign, quiet)); },
        [&](void* p) { operator delete[](p, kAlign, quiet); });
  times(13, [] { return aligned(operator new(40, kAlign)); },
        [](void* p) { operator delete(p, 40, kAlign); });
  times(14, [] { return aligned(operator new[](40, kAlign)); },
        [](void* p) { operator delete[](p, 40, kAlign); });
  operator delete(nullptr);
  operator delete[](nullptr);
  operator delete(nullptr, 8);
  operator delete[](nullptr, 8);
  operator delete(nullptr, kAlign);
  operator delete(nullptr, quiet);
  times(2, [] { return operator new(std::size_t{1} << 20); }, [](void* p) { operator delete(p); });
  puts("every operator");
}
