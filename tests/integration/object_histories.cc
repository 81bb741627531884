// Compares a trace of hand_over_chain with what that program knows of its objects: the history of
// each, acquired, resized and released by which thread, as which of its calls
// (programs/histories.h). usage: object_histories TRACE OBJECTS    (of each producer). Prints what
// it compared; 1 if it differs.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <vector>

#include "formats/heap_walk.h"
#include "formats/trace_file.h"
#include "tests/integration/programs/histories.h"

namespace {

using namespace alloctape;  // NOLINT: a program of one file

class Histories final : public formats::HeapVisitor {
 public:
  void on_acquire(const formats::Event& e, formats::Block& block) override {
    if (e.size >= kRoleSize && e.size < kRoleSizesEnd) {
      threads_[e.thread] = {static_cast<unsigned>(e.size - kRoleSize), 0};
      return;
    }
    Thread* t = stage(e, kProducer);
    if (!t) return;
    const unsigned long p = t->role - kProducer, n = t->calls++;
    block.user = {p + 1, n};
    check(e.size == size_of(p, n), e, p, n);
    ++acquired;
  }
  void on_resize(const formats::Event& e, formats::Block& block, std::uint64_t old_size) override {
    Thread* t = stage(e, kResizer);
    if (!t) return;
    const unsigned long p = block.user.a - 1, n = block.user.b, call = t->calls++;
    const history h = history_of(p, n);
    check(block.user.a && t->role == kResizer + h.resizer && call == h.resize &&
              old_size == size_of(p, n) && e.size == new_size_of(p, n),
          e, p, n);
    ++resized;
  }
  void on_release(const formats::Event& e, formats::Block& block) override {
    if (block.size >= kRoleSize && block.size < kRoleSizesEnd) return;
    Thread* t = stage(e, kConsumer);
    if (!t) return;
    const unsigned long p = block.user.a - 1, n = block.user.b, call = t->calls++;
    const history h = history_of(p, n);
    check(block.user.a && t->role == kConsumer + h.consumer && call == h.release &&
              block.size == new_size_of(p, n),
          e, p, n);
    ++released;
  }
  void on_unseen(const formats::Event& e, formats::Block*) override { check(false, e, 0, 0); }
  void on_lost(const formats::Event& e, formats::Block& b) override {
    check(false, e, b.user.a, b.user.b);
  }

  unsigned long acquired = 0, resized = 0, released = 0, wrong = 0;

 private:
  struct Thread {
    unsigned role;
    unsigned long calls;
  };
  // The thread, if it has one of the roles; nullptr for the main thread, which has none. A role of
  // another stage is an error.
  Thread* stage(const formats::Event& e, unsigned first) {
    const auto found = threads_.find(e.thread);
    if (found == threads_.end()) return nullptr;
    Thread& t = found->second;
    check(t.role >= first && t.role < first + kEach, e, t.role, t.calls);
    return &t;
  }
  void check(bool holds, const formats::Event& e, unsigned long p, unsigned long n) {
    if (holds || ++wrong > 5) return;
    std::printf("differs: object %lu of producer %lu, at stamp %llu, offset %llu\n", n, p,
                static_cast<unsigned long long>(e.stamp),
                static_cast<unsigned long long>(e.offset));
  }
  std::map<formats::ThreadIndex, Thread> threads_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  auto file = formats::TraceFile::open(argv[1]);
  if (!file) {
    std::puts(file.error().to_string().c_str());
    return 1;
  }
  const unsigned long expected = kEach * std::strtoul(argv[2], nullptr, 0);
  Histories histories;
  const auto totals = formats::HeapWalk(*file).run(histories);
  std::printf("%lu acquired, %lu resized, %lu released, %lu wrong; repaired %llu\n",
              histories.acquired, histories.resized, histories.released, histories.wrong,
              static_cast<unsigned long long>(totals.order.repaired));
  return histories.wrong || histories.acquired != expected || histories.resized != expected ||
         histories.released != expected;
}
