// The heap's history: order, repair, blocks, counts.
#include <algorithm>
#include <map>
#include <random>

#include "formats/heap_walk.h"
#include "temp_trace.h"

namespace alloctape::formats::test {
namespace {

constexpr std::uint64_t kA = 0x555555560000, kB = kA + 64, kC = kA + 128;

// Writes down what it is told, and checks what must hold at every step.
struct Recorder : HeapVisitor {
  std::vector<std::string> lines;
  HeapWalk* walk = nullptr;
  void say(const char* what, const Event& e, const Block* b) {
    lines.push_back(
        fmt::format("{}@{}{}", what, e.stamp,
                    b ? fmt::format(" {:+}:{}", static_cast<long>(b->address - kA), b->size) : ""));
  }
  void on_acquire(const Event& e, Block& b) override { say("acquire", e, &b); }
  void on_release(const Event& e, Block& b) override { say("release", e, &b); }
  void on_resize(const Event& e, Block& b, std::uint64_t old_size) override {
    say(fmt::format("resize({})", old_size).c_str(), e, &b);
  }
  void on_query(const Event& e, Block& b) override { say("query", e, &b); }
  void on_null(const Event& e) override { say("null", e, nullptr); }
  void on_failed(const Event& e, Block* b) override { say("failed", e, b); }
  void on_unseen(const Event& e, Block* b) override { say("unseen", e, b); }
  void on_lost(const Event& e, Block& b) override { say("lost", e, &b); }
  void on_meta(const Event& e) override { say("meta", e, nullptr); }
};

struct Walked {
  std::vector<std::string> lines;
  WalkTotals totals;
};

Walked walk(const std::vector<StreamEvent>& events, WalkOptions options = {}) {
  TempPath path;
  write_trace(path.str(), events);
  const TraceFile file = open_trace(path.str());
  HeapWalk heap(file, std::move(options));
  Recorder recorder;
  Walked walked;
  walked.totals = heap.run(recorder);
  walked.lines = recorder.lines;
  std::uint64_t blocks = 0, bytes = 0;
  heap.for_each_live([&](const Block& b) {
    ++blocks;
    bytes += b.size;
  });
  EXPECT_EQ(blocks, walked.totals.live.blocks);
  EXPECT_EQ(bytes, walked.totals.live.bytes);
  return walked;
}

using Lines = std::vector<std::string>;

TEST(HeapWalk, FollowsOneStreamInItsOwnOrder) {
  const Walked w = walk({{0, acquire(10, kA, 100)},
                         {0, make_event(wire::Op::kMallocUsableSize, 11, kA)},
                         {0, resize(20, 25, kA, kB, 300)},
                         {0, acquire(30, kA, 50)},
                         {0, resize(40, 40, kB, kB, 200)},
                         {0, release(50, kA)},
                         {0, release(55, 0)},
                         {0, resize(60, 61, kB, 0, 0)}});
  EXPECT_EQ(w.lines, (Lines{"acquire@10 +0:100", "query@11 +0:100", "resize(100)@25 +64:300",
                            "acquire@30 +0:50", "resize(300)@40 +64:200", "release@50 +0:50",
                            "null@55", "release@61 +64:200"}));
  EXPECT_EQ(w.totals.events, 8u);
  EXPECT_EQ(w.totals.api_events, 8u);
  EXPECT_EQ(w.totals.live.peak_bytes, 350u);
  EXPECT_EQ(w.totals.live.peak_event, 3u);
  EXPECT_EQ(w.totals.live.peak_stamp, 30u);
  EXPECT_EQ(w.totals.live.peak_blocks, 2u);
  EXPECT_EQ(w.totals.live.bytes, 0u);
  EXPECT_EQ(w.totals.live.blocks, 0u);
  EXPECT_EQ(w.totals.first_stamp, 10u);
  EXPECT_EQ(w.totals.last_stamp, 61u);
}

TEST(HeapWalk, MergesStreamsByStampReleasesFirst) {
  const Walked w = walk({{0, acquire(10, kA, 1)},
                         {0, release(20, kA)},
                         {0, acquire(40, kA, 3)},
                         {1, acquire(20, kA, 2)},
                         {1, release(30, kA)}});
  EXPECT_EQ(w.lines, (Lines{"acquire@10 +0:1", "release@20 +0:1", "acquire@20 +0:2",
                            "release@30 +0:2", "acquire@40 +0:3"}));
  EXPECT_EQ(w.totals.order.repaired, 0u);
}

TEST(HeapWalk, RepairsAnAcquireThatCameBeforeItsRelease) {
  const Walked w = walk({{0, acquire(10, kA, 1)},
                         {0, release(120, kA)},
                         {0, acquire(130, kC, 9)},
                         {1, acquire(100, kA, 2)},
                         {1, acquire(110, kB, 3)}});
  EXPECT_EQ(w.lines, (Lines{"acquire@10 +0:1", "release@120 +0:1", "acquire@100 +0:2",
                            "acquire@110 +64:3", "acquire@130 +128:9"}));
  EXPECT_EQ(w.totals.order.repaired, 1u);
  EXPECT_EQ(w.totals.order.unrepairable, 0u);
}

TEST(HeapWalk, RepairsAReleaseThatCameBeforeItsAcquire) {
  const Walked w =
      walk({{0, acquire(120, kA, 1)}, {1, release(100, kA)}, {1, acquire(105, kB, 7)}});
  EXPECT_EQ(w.lines, (Lines{"acquire@120 +0:1", "release@100 +0:1", "acquire@105 +64:7"}));
  EXPECT_EQ(w.totals.order.repaired, 1u);
  EXPECT_EQ(w.totals.order.unseen_releases, 0u);
}

TEST(HeapWalk, GivesUpOnAPartnerAfterTheWindow) {
  // 20 us late, with a window of 10: the acquire is taken as it is, and the old block is lost.
  const Walked w = walk({{0, acquire(10, kA, 1)},
                         {0, release(20'100, kA)},
                         {1, acquire(100, kA, 2)},
                         {1, acquire(30'000, kB, 2)}});
  EXPECT_EQ(w.lines, (Lines{"acquire@10 +0:1", "lost@100 +0:1", "acquire@100 +0:2",
                            "release@20100 +0:2", "acquire@30000 +64:2"}));
  EXPECT_EQ(w.totals.order.unrepairable, 1u);
  EXPECT_EQ(w.totals.order.repaired, 0u);
}

TEST(HeapWalk, HoldsNothingBackInASingleStream) {
  const Walked w = walk({{0, acquire(10, kA, 1)}, {0, acquire(11, kA, 2)}, {0, release(12, kB)}});
  EXPECT_EQ(w.lines, (Lines{"acquire@10 +0:1", "lost@11 +0:1", "acquire@11 +0:2", "unseen@12"}));
  EXPECT_EQ(w.totals.order.unrepairable, 1u);
  EXPECT_EQ(w.totals.order.unseen_releases, 1u);
  EXPECT_EQ(w.totals.live.bytes, 2u);
}

TEST(HeapWalk, LetsOthersUseTheOldAddressWhileAResizeIsInFlight) {
  const Walked w = walk({{0, acquire(10, kA, 100)},
                         {0, resize(20, 50, kA, kB, 300)},
                         {1, acquire(30, kA, 7)},
                         {1, release(40, kA)}});
  EXPECT_EQ(w.lines, (Lines{"acquire@10 +0:100", "acquire@30 +0:7", "release@40 +0:7",
                            "resize(100)@50 +64:300"}));
  EXPECT_EQ(w.totals.order.repaired, 0u);
  EXPECT_EQ(w.totals.live.peak_bytes, 300u);
  EXPECT_EQ(w.totals.live.peak_blocks, 2u);
}

TEST(HeapWalk, TwoResizesMaySwapAddresses) {
  const Walked w = walk({{0, acquire(10, kA, 1)},
                         {0, resize(20, 31, kA, kB, 3)},
                         {1, acquire(11, kB, 2)},
                         {1, resize(21, 30, kB, kA, 4)}});
  EXPECT_EQ(w.lines, (Lines{"acquire@10 +0:1", "acquire@11 +64:2", "resize(2)@30 +0:4",
                            "resize(1)@31 +64:3"}));
}

TEST(HeapWalk, AFailedResizeLeavesTheBlockWhereItIs) {
  Event e = resize(20, 25, kA, 0, 1ull << 40);
  e.path = wire::kPathFailed;
  const Walked w =
      walk({{0, acquire(10, kA, 1)}, {0, e}, {0, release(30, kA)}, {1, acquire(22, kB, 1)}});
  EXPECT_EQ(w.lines,
            (Lines{"acquire@10 +0:1", "acquire@22 +64:1", "failed@25 +0:1", "release@30 +0:1"}));
}

TEST(HeapWalk, FailedAcquiresArriveAsFailed) {
  Event e = acquire(20, 0, 1ull << 50);
  e.path = wire::kPathFailed;
  EXPECT_EQ(walk({{0, e}, {0, acquire(21, 0, 0)}}).lines, (Lines{"failed@20", "failed@21"}));
}

TEST(HeapWalk, AResizeOfABlockNeverSeenMakesItKnown) {
  const Walked w = walk({{0, resize(10, 12, kA, kB, 300)},
                         {0, resize(13, 13, kC, kC, 50)},
                         {0, release(20, kB)},
                         {0, make_event(wire::Op::kMallocUsableSize, 30, kA)}});
  EXPECT_EQ(w.lines,
            (Lines{"unseen@12 +64:300", "unseen@13 +128:50", "release@20 +64:300", "unseen@30"}));
  EXPECT_EQ(w.totals.order.unseen_releases, 2u);
  EXPECT_EQ(w.totals.order.unseen_queries, 1u);
  EXPECT_EQ(w.totals.live.bytes, 50u);
}

TEST(HeapWalk, ReallocOfNullIsAnAcquire) {
  EXPECT_EQ(walk({{0, resize(10, 12, 0, kB, 300)}}).lines, (Lines{"acquire@12 +64:300"}));
}

TEST(HeapWalk, UnseenReleasesDelayTheirStreamButCountNoRepairs) {
  // Stream 0 is held at every release; what it acquires meanwhile is released by stream 1, in time.
  std::vector<StreamEvent> events;
  std::uint64_t t = 1000;
  for (int i = 0; i < 200; ++i) {
    events.push_back({0, release(t, kA + (1u << 20) + static_cast<unsigned>(i) * 16)});
    events.push_back({0, acquire(t + 10, kA + static_cast<unsigned>(i % 7) * 64, 8)});
    events.push_back({1, release(t + 20, kA + static_cast<unsigned>(i % 7) * 64)});
    t += 100;
  }
  const Walked w = walk(events);
  EXPECT_EQ(w.totals.order.repaired, 0u);
  EXPECT_EQ(w.totals.order.unrepairable, 0u);
  EXPECT_EQ(w.totals.order.unseen_releases, 200u);
  EXPECT_EQ(w.totals.live.blocks, 0u);
}

TEST(HeapWalk, StampsThatFallWithinAStreamKeepTheStreamsOrder) {
  const Walked w = walk({{0, acquire(100, kA, 1)},
                         {0, release(90, kA)},
                         {0, acquire(95, kA, 2)},
                         {1, acquire(98, kB, 3)}});
  EXPECT_EQ(w.lines,
            (Lines{"acquire@98 +64:3", "acquire@100 +0:1", "release@90 +0:1", "acquire@95 +0:2"}));
}

TEST(HeapWalk, StreamsThatWaitForEachOtherAreFreedByTheWindow) {
  // Cannot happen in a real trace; must still end.
  const Walked w = walk({{0, release(10, kA)},
                         {0, acquire(20, kB, 1)},
                         {1, release(10, kB)},
                         {1, acquire(20, kA, 1)}});
  EXPECT_EQ(w.totals.events, 4u);
  EXPECT_EQ(w.totals.order.unseen_releases, 1u);
}

TEST(HeapWalk, MetaEventsPassThrough) {
  const Walked w = walk({{0, make_event(wire::Op::kThreadStart, 5)},
                         {0, make_event(wire::Op::kFork, 6)},
                         {0, make_event(wire::Op::kThreadEnd, 7)}});
  EXPECT_EQ(w.lines, (Lines{"meta@5", "meta@6", "meta@7"}));
  EXPECT_EQ(w.totals.api_events, 0u);
}

TEST(HeapWalk, ShowsLiveCountsAndOrdinalToTheVisitor) {
  TempPath path;
  write_trace(path.str(), {{0, acquire(1, kA, 10)}, {0, acquire(2, kB, 20)}, {0, release(3, kA)}});
  const TraceFile file = open_trace(path.str());
  HeapWalk heap(file);
  struct Look : HeapVisitor {
    HeapWalk& heap;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> seen;
    explicit Look(HeapWalk& h) : heap(h) {}
    void on_acquire(const Event&, Block& b) override {
      b.user.a = b.size * 2;
      EXPECT_EQ(b.birth_event, heap.event_ordinal());
      seen.push_back({heap.event_ordinal(), heap.live().bytes});
    }
    void on_release(const Event&, Block& b) override {
      EXPECT_EQ(b.user.a, 20u);
      seen.push_back({heap.event_ordinal(), heap.live().bytes});
    }
  } look(heap);
  heap.run(look);
  EXPECT_EQ(look.seen,
            (std::vector<std::pair<std::uint64_t, std::uint64_t>>{{0, 10}, {1, 30}, {2, 20}}));
}

TEST(HeapWalk, CanBeRunAgain) {
  TempPath path;
  write_trace(path.str(), {{0, acquire(1, kA, 10)}, {1, acquire(2, kB, 20)}});
  HeapWalk heap(open_trace(path.str()));
  HeapVisitor ignore;
  EXPECT_EQ(heap.run(ignore).live.bytes, 30u);
  EXPECT_EQ(heap.run(ignore).live.bytes, 30u);
}

// Threads hand blocks to each other through a heap that reuses addresses at once; stamps follow the
// true order, but each is then moved by up to `jitter` in the direction that out-of-order execution
// moves it: a release's stamp later, an acquire's stamp earlier. Neighbours in an address's history
// may so change places, but not events further apart: then no reader could tell who is whose
// partner.
class RandomHandOver : public ::testing::TestWithParam<std::uint64_t> {};

TEST_P(RandomHandOver, IsPutInOrder) {
  const std::uint64_t jitter = GetParam();
  std::mt19937_64 random(99 + jitter);
  constexpr unsigned kStreams = 6;
  std::vector<StreamEvent> events;
  std::vector<std::uint64_t> last(kStreams, 0);
  std::vector<std::uint64_t> live, free_addresses;
  for (std::uint64_t i = 0; i < 40; ++i) free_addresses.push_back(kA + i * 32);
  std::uint64_t now = 100'000, expected_bytes = 0;
  std::map<std::uint64_t, std::uint64_t> sizes;
  std::map<std::uint64_t, std::pair<std::uint64_t, std::uint64_t>> touched;  // last, and before it
  const auto pick = [&](std::vector<std::uint64_t>& from) {
    for (int tries = 0;; ++tries) {
      std::swap(from[random() % from.size()], from.back());
      auto& [last_time, time_before] = touched[from.back()];
      if (tries == 100) now = time_before + 2 * jitter + 1;
      if (now <= time_before + 2 * jitter) continue;
      time_before = std::exchange(last_time, now);
      break;
    }
    const std::uint64_t value = from.back();
    from.pop_back();
    return value;
  };
  const auto stamp_for = [&](unsigned stream, bool acquires) {
    const std::uint64_t moved = jitter == 0 ? 0 : random() % jitter;
    last[stream] = std::max(last[stream] + 1, acquires ? now - moved : now + moved);
    return last[stream];
  };
  for (int i = 0; i < 50'000; ++i) {
    now += 1 + random() % 200;
    const unsigned stream = static_cast<unsigned>(random() % kStreams);
    const unsigned what = static_cast<unsigned>(random() % 10);
    if (what < 5 && !free_addresses.empty()) {
      const std::uint64_t address = pick(free_addresses);
      sizes[address] = random() % 1000;
      events.push_back({stream, acquire(stamp_for(stream, true), address, sizes[address])});
      live.push_back(address);
    } else if (what < 9 && !live.empty()) {
      const std::uint64_t address = pick(live);
      events.push_back({stream, release(stamp_for(stream, false), address)});
      sizes.erase(address);
      free_addresses.push_back(address);
    } else if (!live.empty() && !free_addresses.empty()) {
      const std::uint64_t from = pick(live), to = pick(free_addresses);
      const std::uint64_t before = stamp_for(stream, false);
      now += 50;
      sizes.erase(from);
      sizes[to] = random() % 1000;
      events.push_back({stream, resize(before, stamp_for(stream, true), from, to, sizes[to])});
      live.push_back(to);
      free_addresses.push_back(from);
    }
  }
  for (const auto& [address, size] : sizes) expected_bytes += size;
  const Walked w = walk(events);
  EXPECT_EQ(w.totals.order.unrepairable, 0u);
  EXPECT_EQ(w.totals.order.unseen_releases, 0u);
  EXPECT_EQ(w.totals.live.bytes, expected_bytes);
  EXPECT_EQ(w.totals.live.blocks, live.size());
  EXPECT_EQ(w.totals.events, events.size());
  if (jitter == 0) {
    EXPECT_EQ(w.totals.order.repaired, 0u);
  }
  if (jitter >= 300) {
    EXPECT_GT(w.totals.order.repaired, 0u);
  }
}
INSTANTIATE_TEST_SUITE_P(Jitter, RandomHandOver, ::testing::Values(0, 30, 300, 1500));

}  // namespace
}  // namespace alloctape::formats::test
