// The heap's history where part of it is missing: pauses, rings, blocks older than the recording.
#include <map>
#include <random>

#include "formats/heap_walk.h"
#include "temp_trace.h"

namespace alloctape::formats::test {
namespace {

constexpr std::uint64_t kA = 0x555555560000, kB = kA + 64, kC = kA + 128;

struct LostBlocks : HeapVisitor {
  std::vector<std::uint64_t> in_gap, unexplained;
  void on_lost(const Event&, Block& b) override { unexplained.push_back(b.address); }
  void on_lost_in_gap(const Event&, Block& b) override { in_gap.push_back(b.address); }
};

struct Walked {
  WalkTotals totals;
  LostBlocks lost;
};

Walked walk(const std::vector<StreamEvent>& events, const TraceWriter::Options& options = {}) {
  TempPath path;
  write_trace(path.str(), events, options);
  Walked w;
  w.totals = HeapWalk(open_trace(path.str())).run(w.lost);
  return w;
}

Event pause(std::uint64_t stamp) { return make_event(wire::Op::kPause, stamp); }
Event resume(std::uint64_t stamp) { return make_event(wire::Op::kResume, stamp); }
Event by(std::uint32_t thread, Event e) {
  e.thread = ThreadIndex{thread};
  return e;
}
Event sized(Event e, std::uint64_t old_usable) {
  e.notes |= kNoteOldUsable;
  e.old_usable = old_usable;
  return e;
}

TEST(HeapGaps, AnAddressUsedAgainAfterAPauseIsNoInversion) {
  const Walked w = walk({{0, acquire(10, kA, 8)},
                         {0, pause(20)},
                         {0, resume(30)},
                         {0, acquire(40, kA, 100)},    // freed in the gap
                         {0, acquire(50, kA, 200)}});  // this one was not
  EXPECT_EQ(w.totals.order.lost_in_gap, 1u);
  EXPECT_EQ(w.totals.order.unrepairable, 1u);
  EXPECT_EQ(w.lost.in_gap, (std::vector<std::uint64_t>{kA}));
  EXPECT_EQ(w.totals.live.bytes, 200u);
  EXPECT_EQ(w.totals.live.blocks, 1u);
}

TEST(HeapGaps, AThreadThatHasNotGoneOnMayHaveFreedAnything) {
  // Thread 1 was paused and has not called since; thread 0 made no call in between and has no gap.
  const Walked w = walk({{0, by(0, acquire(10, kA, 8))},
                         {1, by(1, acquire(11, kB, 8))},
                         {1, by(1, pause(20))},
                         {0, by(0, acquire(40'000'000, kA, 100))},
                         {1, by(1, resume(50'000'000))},
                         {0, by(0, acquire(60'000'000, kA, 200))},
                         {0, by(0, acquire(70'000'000, kA, 300))}});
  EXPECT_EQ(w.totals.order.lost_in_gap, 2u);
  EXPECT_EQ(w.totals.order.unrepairable, 1u);
}

TEST(HeapGaps, AStreamThatIsHandedOnLeavesItsGap) {
  Event start = by(1, make_event(wire::Op::kThreadStart, 30));
  const Walked w = walk({{0, acquire(10, kA, 8)},
                         {0, pause(20)},
                         {0, start},
                         {0, by(1, acquire(40, kB, 8))},
                         {0, by(1, acquire(50, kB, 8))}});
  EXPECT_EQ(w.totals.order.unrepairable, 1u);
}

TEST(HeapGaps, AResumeWithoutAPauseEndsOne) {
  const Walked w = walk({{0, resume(5)}, {0, acquire(10, kA, 8)}, {0, acquire(20, kA, 8)}});
  EXPECT_EQ(w.totals.order.lost_in_gap, 0u);
  EXPECT_EQ(w.totals.order.unrepairable, 1u);
}

TEST(HeapGaps, WhatARingHasOverwrittenIsOne) {
  // Thread 1 frees what thread 0 goes on to use again, and its early blocks are gone.
  TraceWriter::Options options;
  options.block_words = 20;
  options.ring_bytes = 3 * wire::kRingSlotBytes;
  std::vector<StreamEvent> events;
  std::uint64_t stamp = 0;
  for (unsigned i = 0; i < 60; ++i) {
    events.push_back({0, by(0, acquire(++stamp, kA + i % 4 * 64, 8))});
    events.push_back({1, by(1, sized(release(++stamp, kA + i % 4 * 64), 24))});
    if (i % 2) events.push_back({1, by(1, make_event(wire::Op::kMallocUsableSize, stamp))});
  }
  const Walked w = walk(events, options);
  EXPECT_EQ(w.totals.order.unrepairable, 0u);
  EXPECT_GT(w.totals.events, 5u);
}

// Were the first release held back for a partner, thread 0's next events would come late, and
// thread 1's release would meet the block that thread 0 has already released.
TEST(HeapGaps, ReleasesOfUnseenBlocksKeepNobodyBack) {
  const Walked w = walk({{0, by(0, acquire(100, kA, 8))},
                         {1, by(1, acquire(150, kC, 8))},
                         {0, by(0, sized(release(200, kB), 64))},
                         {0, by(0, release(300, kA))},
                         {0, by(0, acquire(400, kA, 16))},
                         {1, by(1, sized(release(500, kA), 24))},
                         {1, by(1, acquire(600, kA, 32))},
                         {0, by(0, acquire(700, kB, 8))}});
  EXPECT_EQ(w.totals.order.unrepairable, 0u);
  EXPECT_EQ(w.totals.order.repaired, 0u);
  EXPECT_EQ(w.totals.order.unseen_releases, 1u);
  EXPECT_EQ(w.totals.live.bytes, 48u);
}

TEST(HeapPrologue, BlocksOfKnownSizeCountFromTheStartUntilTheyAreReleased) {
  const Walked w = walk({{0, acquire(10, kA, 8)},
                         {0, sized(release(20, kB), 1000)},
                         {0, acquire(30, kB, 500)},
                         {0, sized(release(40, kC), 24)}});
  EXPECT_EQ(w.totals.prologue.blocks, 2u);
  EXPECT_EQ(w.totals.prologue.bytes, 1024u);
  EXPECT_EQ(w.totals.live.peak_bytes, 1032u);  // right after the first acquire
  EXPECT_EQ(w.totals.live.peak_blocks, 3u);
  EXPECT_EQ(w.totals.live.peak_stamp, 10u);
  EXPECT_EQ(w.totals.live.bytes, 508u);
  EXPECT_EQ(w.totals.order.unseen_releases, 2u);
}

TEST(HeapPrologue, MayBeThePeakItself) {
  const Walked w = walk({{0, sized(release(20, kB), 1000)}, {0, acquire(30, kB, 500)}});
  EXPECT_EQ(w.totals.live.peak_bytes, 1000u);
  EXPECT_EQ(w.totals.live.peak_blocks, 1u);
  EXPECT_EQ(w.totals.live.peak_stamp, 20u);  // the recording's start
  EXPECT_EQ(w.totals.live.bytes, 500u);
}

TEST(HeapPrologue, ResizesOfUnseenBlocksAreOfIt) {
  const Walked w = walk({{0, sized(resize(20, 21, kA, kB, 5000), 1000)},
                         {0, sized(resize(30, 31, kC, kC, 10), 100)},
                         {0, release(40, kB)}});
  EXPECT_EQ(w.totals.prologue.bytes, 1100u);
  EXPECT_EQ(w.totals.live.peak_bytes, 5100u);
  EXPECT_EQ(w.totals.live.peak_blocks, 2u);
  EXPECT_EQ(w.totals.live.bytes, 10u);
}

TEST(HeapPrologue, OfUnknownSizeCountsNothing) {
  const Walked w = walk({{0, release(20, kB)}, {0, acquire(30, kB, 5)}});
  EXPECT_EQ(w.totals.prologue.blocks, 0u);
  EXPECT_EQ(w.totals.live.peak_bytes, 5u);
  EXPECT_EQ(w.totals.order.unseen_releases, 1u);
}

TEST(HeapPrologue, ANoteAboutABlockThatWasSeenChangesNothing) {
  const Walked w = walk({{0, acquire(10, kA, 8)}, {0, sized(release(20, kA), 24)}});
  EXPECT_EQ(w.totals.prologue.blocks, 0u);
  EXPECT_EQ(w.totals.live.peak_bytes, 8u);
}

TEST(HeapPrologue, HugeSizesDoNoHarm) {
  std::vector<StreamEvent> events;
  for (unsigned i = 1; i < 5000; ++i) {
    events.push_back({0, sized(release(i, kA + 64 * i), wire::kNoteMax)});
  }
  EXPECT_EQ(walk(events).totals.prologue.bytes, 4999 * wire::kNoteMax);
}

// A whole program, and what a recording of its later part makes of it: the same curve, less the
// blocks that never were touched again.
TEST(HeapPrologue, ALateRecordingSeesTheSameHeapButWhatItNeverMeets) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    std::mt19937_64 random(seed);
    struct Live {
      std::uint64_t size;
      bool late;
    };
    std::map<std::uint64_t, Live> live;
    const unsigned start = 50 + random() % 300;
    std::vector<StreamEvent> late;
    std::vector<std::int64_t> curve;  // of the late part, less what was live at its start
    std::int64_t level = 0;
    std::uint64_t met = 0;
    for (unsigned i = 1; i < 600; ++i) {
      const bool recorded = i >= start;
      if (live.empty() || random() % 5 < 2 + (i < start)) {
        const std::uint64_t at = kA + (1 + random() % 4000) * 64, size = 1 + random() % 1000;
        if (live.contains(at)) continue;
        live[at] = {size, recorded};
        if (recorded) {
          late.push_back({0, acquire(i, at, size)});
          level += static_cast<std::int64_t>(size);
        }
      } else {
        auto it = live.lower_bound(kA + random() % 4000 * 64);
        if (it == live.end()) it = live.begin();
        if (recorded) {
          if (!it->second.late) met += it->second.size;
          level -= static_cast<std::int64_t>(it->second.size);
          const Event e = release(i, it->first);
          late.push_back({0, it->second.late ? e : sized(e, it->second.size)});
        }
        live.erase(it);
      }
      curve.push_back(level);
    }
    const std::int64_t highest =
        std::max<std::int64_t>(0, *std::max_element(curve.begin(), curve.end()));
    const Walked w = walk(late);
    EXPECT_EQ(w.totals.prologue.bytes, met);
    EXPECT_EQ(w.totals.live.peak_bytes, met + static_cast<std::uint64_t>(highest));
    std::uint64_t end = 0;
    for (const auto& [at, block] : live) end += block.late ? block.size : 0;
    EXPECT_EQ(w.totals.live.bytes, end);
  }
}

}  // namespace
}  // namespace alloctape::formats::test
