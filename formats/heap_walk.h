// The history of the heap: the events of all streams in their true order, with addresses resolved
// to blocks. What the converter, `stat` and `check` all stand on.
//
// Order. Streams are merged by stamp. A release carries the time before its call, an acquire the
// time after, so address reuse shows as release < acquire whatever the allocator does (design: the
// tracer takes plain rdtsc). What out-of-order execution can still invert is local and visible: an
// acquire of an address that is live, or a release or query of one that is not live yet. The stream
// concerned is then held back until its partner shows, for at most `repair_window_ns` of recorded
// time. Found: counted as repaired. Not found: an acquire of a live address is unrepairable (the
// old block counts as lost: on_lost), a release of an unknown address is `unseen` (a block from
// before the recording). With a single stream nothing can be inverted, and nothing is held back. A
// resize takes part twice: at release_stamp its old address becomes free for reuse, at stamp its
// result is attached to the same block. The visitor sees it once, at stamp.
//
// Gaps. Where a thread was paused, or a ring has overwritten the beginning of a stream, blocks may
// have been freed unseen and their addresses used again. An acquire of a live address is therefore
// no inversion but a block lost in a gap, where some thread is in a gap just then, or the live block
// was born before the end of one. A thread that was told to pause and makes no call afterwards stays
// in its gap. Nor is a release of an unknown address one where the tracer told the size of what goes
// (Event::old_usable): it does so where it may have missed the acquire. Neither is held back.
//
// Blocks from before the recording, the prologue. Of a block never seen acquired, a release or
// resize may tell the size (Event::old_usable). Such blocks are taken to have lived from the start:
// live(t) = seen(t) + prologue - prologue released up to t. How large the prologue is is known at
// the end only, but it is the same number at all times: the peak of live(t) is where seen(t) -
// released(t) is highest, and its value is that maximum plus the whole prologue; the start, where
// both are 0, counts too. So one pass is enough. All of the prologue is released by the end: that
// is how it is known. Blocks of unknown size count nothing until a resize tells their new one;
// those never touched are not seen at all. A block that was born in a gap counts as older than the
// recording, since nothing tells it apart.
//
// Memory: proportional to live blocks and streams.
// Thread safety: one walk is single-threaded; walks of different traces may run side by side.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "formats/event.h"
#include "formats/result.h"
#include "formats/trace_file.h"

namespace alloctape::formats {

// A live block. `user` belongs to the visitor.
struct Block {
  std::uint64_t address = 0;
  std::uint64_t size = 0;  // requested bytes
  std::uint64_t birth_stamp = 0;
  std::uint64_t birth_event = 0;  // ordinal of the acquire in the walk
  std::uint32_t thread = 0;       // that acquired it
  wire::Op op = wire::Op::kNone;  // that acquired it
  struct User {
    std::uint64_t a = 0, b = 0;
  } user;
};

struct OrderCounts {
  std::uint64_t repaired = 0;         // inversions mended by waiting for the partner
  std::uint64_t unrepairable = 0;     // acquires of an address that was still live after the window
  std::uint64_t lost_in_gap = 0;      // the same, where a gap in the recording explains it
  std::uint64_t unseen_releases = 0;  // released (or resized) but never acquired in this trace
  std::uint64_t unseen_queries = 0;
};

// Blocks never seen acquired whose size a release or resize told, see unseen_block_size().
struct PrologueCounts {
  std::uint64_t blocks = 0, bytes = 0;
};

// While a walk runs, bytes and blocks are those seen acquired and the peaks leave the prologue out;
// in its totals it is part of the peaks.
struct LiveCounts {
  std::uint64_t bytes = 0, blocks = 0;
  std::uint64_t peak_bytes = 0, peak_blocks = 0;  // each its own maximum
  std::uint64_t peak_event = 0, peak_stamp = 0;   // where peak_bytes was first reached
};

// Callbacks in walk order; override what you need. Events of failed calls arrive at on_failed
// alone, whatever their op. NULL pointers: release/query of NULL arrives at on_null. realloc(NULL,
// n) arrives at on_acquire; realloc(p, 0) that returned NULL arrives at on_release.
class HeapVisitor {
 public:
  virtual ~HeapVisitor() = default;
  virtual void on_acquire(const Event&, Block&) {}
  virtual void on_release(const Event&, Block&) {}
  virtual void on_resize(const Event&, Block&, std::uint64_t /*old_size*/) {}  // block: new state
  virtual void on_query(const Event&, Block&) {}
  virtual void on_null(const Event&) {}
  virtual void on_failed(const Event&, Block* /*resize: the block that lives on*/) {}
  // A release, resize or query of a block this trace never saw acquired. For a resize the block now
  // exists with its new size; for the others `block` is nullptr.
  virtual void on_unseen(const Event&, Block* /*block*/) {}
  virtual void on_lost(const Event&, Block&) {}         // see "unrepairable"; before its on_acquire
  virtual void on_lost_in_gap(const Event&, Block&) {}  // likewise
  virtual void on_meta(const Event&) {}                 // thread_start, thread_end, fork, mark, ...
  virtual void on_map(const Event&) {}  // mmap and its family, failed calls included
  // A mapping that mremap moves leaves its old place: some time before the event's on_map.
  virtual void on_map_detach(const Event&) {}
};

struct WalkOptions {
  std::uint64_t repair_window_ns = 10'000;
  // Blocks that are known to have nothing of it are passed over: their events are as good as never
  // recorded.
  BlockRange range;
  // Called now and then with words consumed so far, of TraceFile::event_words(); may be empty.
  std::function<void(std::uint64_t)> progress;
};

struct WalkTotals {
  std::uint64_t events = 0;  // delivered: calls of the API, of mmap's family, meta events
  std::uint64_t api_events = 0, map_events = 0;
  OrderCounts order;
  LiveCounts live;  // at the end, with peaks
  PrologueCounts prologue;
  std::uint64_t first_stamp = 0, last_stamp = 0;
  std::uint64_t corrupt_blocks = 0;  // blocks that ended early at a corrupt word (the walk goes on)
  std::string first_corruption;
};

// The size by which a block never seen acquired counts, from the event that releases or resizes it.
// A release that was told a size or an alignment needs a block that fits them: allocators find its
// size class from its arguments. Not known without Event::old_usable.
std::optional<std::uint64_t> unseen_block_size(const Event& event);

class HeapWalk {
 public:
  explicit HeapWalk(const TraceFile& file, WalkOptions options = {});
  ~HeapWalk();
  WalkTotals run(HeapVisitor& visitor);
  // During run(), for visitors: what holds right after the event being delivered.
  const LiveCounts& live() const;
  std::uint64_t event_ordinal() const;
  // During or after run(): all blocks now live.
  void for_each_live(const std::function<void(const Block&)>& fn) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace alloctape::formats
