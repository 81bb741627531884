// Everything that reads a trace, on any bytes: open, decode each stream, walk the heap.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "formats/heap_walk.h"
#include "formats/trace_file.h"

namespace {

using namespace alloctape::formats;

void require(bool what) {
  if (!what) std::abort();
}

// Touches all that a visitor may touch.
struct Visitor : HeapVisitor {
  explicit Visitor(const HeapWalk& heap_walk) : walk(heap_walk) {}
  const HeapWalk& walk;
  std::uint64_t sum = 0;
  void look(const Event& e, Block* b) {
    sum += e.stamp + walk.event_ordinal() + walk.live().bytes;
    if (b != nullptr) {
      require(b->address != 0);
      b->user.a = ++b->user.b + b->size;
    }
  }
  void on_acquire(const Event& e, Block& b) override { look(e, &b); }
  void on_release(const Event& e, Block& b) override { look(e, &b); }
  void on_resize(const Event& e, Block& b, std::uint64_t) override { look(e, &b); }
  void on_query(const Event& e, Block& b) override { look(e, &b); }
  void on_null(const Event& e) override { look(e, nullptr); }
  void on_failed(const Event& e, Block* b) override { look(e, b); }
  void on_unseen(const Event& e, Block* b) override { look(e, b); }
  void on_lost(const Event& e, Block& b) override { look(e, &b); }
  void on_meta(const Event& e) override { look(e, nullptr); }
};

void read_all(const std::string& path) {
  const auto file = TraceFile::open(path);
  if (!file.ok()) {
    require(!file.error().to_string().empty());
    return;
  }
  const TraceFile& trace = file.value();
  std::uint64_t words = 0, events = 0, packed = 0;
  for (std::uint32_t i = 0; i < trace.streams().size(); ++i) {
    for (const BlockRef& block : trace.streams()[i]) {
      words += block.words;
      if (block.packed()) {
        require(block.words <= alloctape::wire::kMaxPackedWords);
        ++packed;
      } else {
        require(block.offset + 64 + std::uint64_t{block.words} * 8 <= trace.file_bytes());
      }
    }
    StreamDecoder decoder(trace, StreamIndex{i});
    Event e;
    do {
      for (; decoder.next(e); ++events) {
        require(e.offset % 8 == 0 && e.offset + 8 <= trace.file_bytes());
        require(e.release_stamp <= e.stamp);
      }
    } while (decoder.error() != nullptr && decoder.skip_block());
  }
  require(words == trace.event_words());
  require(words * 8 <= trace.file_bytes() + packed * alloctape::wire::kMaxPackedWords * 8);
  trace.to_ns(~std::uint64_t{0});
  trace.ns_to_units(~std::uint64_t{0});
  HeapWalk walk(trace);
  Visitor visitor(walk);
  const WalkTotals totals = walk.run(visitor);
  require(totals.events == events);
  std::uint64_t blocks = 0;
  walk.for_each_live([&](const Block&) { ++blocks; });
  require(blocks == totals.live.blocks);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const int fd = ::memfd_create("trace", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(fd);
  require(fd >= 0 && ::ftruncate(fd, 0) == 0);
  require(::pwrite(fd, data, size, 0) == static_cast<ssize_t>(size));
  read_all(path);
  return 0;
}
