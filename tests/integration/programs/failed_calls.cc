// Calls that fail, each in its way; and a new_handler that frees, so that the second try succeeds.
#include <cerrno>
#include <malloc.h>

#include <new>

#include "program.h"

namespace {
// The optimizer knows what malloc does with constants; it does not know these.
volatile size_t g_huge = static_cast<size_t>(-1) / 2;
volatile size_t g_half = static_cast<size_t>(1) << 33;
volatile size_t g_bad_alignment = 24;

// A call of the very size that has just been thrown for, from far below the frame that threw.
__attribute__((noinline)) void fails_deeper() {
  char room[2000];
  keep(room);
  CHECK(keep(malloc(g_huge)) == nullptr);
}

template <typename Call>
void throws_bad_alloc(Call call) {
  bool thrown = false;
  try {
    keep(call());
  } catch (const std::bad_alloc&) {
    thrown = true;
  }
  CHECK(thrown);
  fails_deeper();
  free(keep(malloc(40)));  // a thread that lost count inside operator new would miss these
  delete static_cast<int*>(keep(new int(1)));
}

int g_handler_calls;
void* g_reserve;
void handler() {
  ++g_handler_calls;
  free(g_reserve);
  g_reserve = nullptr;
  if (g_handler_calls == 3) std::set_new_handler(nullptr);
}
}  // namespace

int main() {
  for (int i = 0; i < 100; ++i) {
    errno = 0;
    CHECK(keep(malloc(g_huge)) == nullptr && errno == ENOMEM);
    errno = 0;
    CHECK(keep(calloc(g_half, g_half)) == nullptr && errno == ENOMEM);
    CHECK(keep(calloc(g_huge, 1)) == nullptr);
    CHECK(keep(realloc(nullptr, g_huge)) == nullptr);
    CHECK(keep(reallocarray(nullptr, g_half, g_half)) == nullptr);
    void* p = reinterpret_cast<void*>(0x1234);
    CHECK(posix_memalign(&p, g_bad_alignment, 100) == EINVAL);
    CHECK(p == reinterpret_cast<void*>(0x1234));
    CHECK(posix_memalign(&p, 64, g_huge) == ENOMEM);
    CHECK(keep(aligned_alloc(64, g_huge)) == nullptr);
    CHECK(keep(memalign(64, g_huge)) == nullptr);
    CHECK(keep(valloc(g_huge)) == nullptr);
    CHECK(keep(pvalloc(g_huge)) == nullptr);
    CHECK(keep(operator new(g_huge, std::nothrow)) == nullptr);
    CHECK(keep(operator new[](g_huge, std::nothrow)) == nullptr);
    CHECK(keep(operator new(g_huge, std::align_val_t{64}, std::nothrow)) == nullptr);
    throws_bad_alloc([] { return operator new(g_huge); });
    throws_bad_alloc([] { return operator new[](g_huge); });
    throws_bad_alloc([] { return operator new(g_huge, std::align_val_t{64}); });
    throws_bad_alloc([] { return operator new[](g_huge, std::align_val_t{64}); });
  }
  g_reserve = keep(malloc(1000));
  std::set_new_handler(handler);
  throws_bad_alloc([] { return operator new(g_huge); });
  CHECK(g_handler_calls == 3);
  // The address that the handler freed may be handed out again.
  for (int i = 0; i < 10; ++i) free(keep(malloc(1000)));
  puts("failed as they should");
}
