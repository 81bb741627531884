// Coroutines on stacks of their own, above and below one another in memory, that switch in the
// middle of everything: between calls, and after an operator new has thrown, or has failed quietly.
// usage: coroutines ROUNDS. Prints the calls of the rounds.
#include <sys/mman.h>
#include <ucontext.h>

#include "made.h"

namespace {
constexpr int kCoroutines = 6;
constexpr size_t kStack = 64 << 10;
volatile size_t g_huge = static_cast<size_t>(-1) / 2;
ucontext_t g_main, g_context[kCoroutines];
int g_running, g_rounds;

// To the next one, around the ring; the main context is one of them.
void next() {
  const int from = g_running;
  g_running = (g_running + 1) % (kCoroutines + 1);
  ucontext_t* to = g_running == kCoroutines ? &g_main : &g_context[g_running];
  CHECK(swapcontext(from == kCoroutines ? &g_main : &g_context[from], to) == 0);
}

void handler() {
  std::set_new_handler(nullptr);
  made::destroy(made::create(sizeof(int)));
}

void fail_and_switch() {
  bool thrown = false;
  try {
    made::create(g_huge);
  } catch (const std::bad_alloc&) {
    thrown = true;
  }
  CHECK(thrown);
  made::exception_was_thrown();
  next();
  CHECK(made::allocate(g_huge) == nullptr);
}

void body(int self) {
  for (int round = 0; round < g_rounds; ++round) {
    auto* number = static_cast<int*>(made::create(sizeof(int)));
    *number = self;
    next();
    CHECK(*number == self);
    void* text = made::create_array(static_cast<size_t>(round + self) + 1);
    if (round % 7 == self) fail_and_switch();
    if (round % 50 == 10 + self) {
      std::set_new_handler(handler);
      CHECK(made::create_quietly(g_huge) == nullptr);
      made::exception_was_thrown();  // the nothrow form catches it
    }
    next();
    made::destroy_array(text);
    made::destroy(number);
    made::release(made::allocate(g_huge));
  }
  for (;;) next();
}

void start(int i) {
  CHECK(getcontext(&g_context[i]) == 0);
  // Below the main stack: on the heap and in mappings.
  void* stack =
      i % 2 ? malloc(kStack)
            : mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  g_context[i].uc_stack.ss_sp = stack;
  g_context[i].uc_stack.ss_size = kStack;
  g_context[i].uc_link = nullptr;
  makecontext(&g_context[i], reinterpret_cast<void (*)()>(body), 1, i);
}
}  // namespace

int main(int argc, char** argv) {
  CHECK(argc == 2);
  g_rounds = atoi(argv[1]);
  for (int i = 0; i < kCoroutines; ++i) start(i);
  g_running = kCoroutines;
  for (int i = 0; i < 4 * g_rounds; ++i) {
    made::destroy(made::create(sizeof(int)));
    if (i % 97 == 5) fail_and_switch();
    next();
  }
  made::print();
}
