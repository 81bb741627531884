// Every way out of operator new but the return: an exception, longjmp out of a new_handler, a
// new_handler that throws; and what follows must not be taken for a part of it. usage: leaves_new
// ROUNDS. Prints the calls of the rounds.
#include <csetjmp>

#include "made.h"

namespace {
volatile size_t g_huge = static_cast<size_t>(-1) / 2;
std::jmp_buf g_back;
int g_inner;

// Calls of the very size that failed, and a little more, at ever other depths below the frame that
// left.
__attribute__((noinline)) void same_size_deeper(int levels) {
  volatile char room[160];
  room[0] = static_cast<char>(levels);
  CHECK(made::allocate(g_huge) == nullptr);
  CHECK(made::allocate(g_huge + 100) == nullptr);
  if (levels > 0) same_size_deeper(levels - 1);
  keep(const_cast<char*>(room));
}

void after() {
  same_size_deeper(30);
  made::release(made::allocate(40));
  made::destroy(made::create(4));
}

void jumps() { std::longjmp(g_back, 1); }

struct Own {};
void throws_own() { throw Own{}; }

// Allocates for itself, then gives up.
void allocates_inside() {
  if (++g_inner > 3) {
    std::set_new_handler(nullptr);
    return;
  }
  made::release(made::allocate(500));
  made::destroy(made::create(4));
}

template <typename Call>
void expect_bad_alloc(Call call) {
  bool thrown = false;
  try {
    call();
  } catch (const std::bad_alloc&) {
    thrown = true;
  }
  CHECK(thrown);
  made::exception_was_thrown();
}

// A function of its own: longjmp may undo what its caller keeps in registers.
__attribute__((noinline)) void every_way() {
  expect_bad_alloc([] { made::create(g_huge); });
  after();
  expect_bad_alloc([] { made::create_array_aligned(g_huge, 64); });
  after();
  std::set_new_handler(jumps);
  if (setjmp(g_back) == 0) made::create(g_huge);
  std::set_new_handler(nullptr);
  after();
  std::set_new_handler(jumps);
  if (setjmp(g_back) == 0) made::create_array_quietly(g_huge);
  std::set_new_handler(nullptr);
  after();
  std::set_new_handler(throws_own);
  try {
    made::create(g_huge);
    CHECK(false);
  } catch (const Own&) {
    made::exception_was_thrown();
  }
  std::set_new_handler(nullptr);
  after();
  g_inner = 0;
  std::set_new_handler(allocates_inside);
  expect_bad_alloc([] { made::create(g_huge); });
  after();
}
}  // namespace

int main(int argc, char** argv) {
  CHECK(argc == 2);
  for (int i = 0; i < atoi(argv[1]); ++i) every_way();
  made::print();
}
