// The loop itself, on allocators made of a few lines, without a process of its own.
#include <gtest/gtest.h>

#include <climits>
#include <memory>
#include <new>
#include <vector>

#include "simulator/replayer/replay_context.h"

namespace alloctape::simulator {
namespace {

using wire::Op;

alignas(4096) unsigned char g_area[1 << 20];
std::size_t g_next = 0;
bool g_give_null = false;

// One lane, one chunk, in ordinary memory.
class Rig {
 public:
  Rig() {
    api_.malloc_ = [](std::size_t n) -> void* {
      if (g_give_null) return nullptr;
      void* p = g_area + g_next;
      g_next += (n + 15) & ~std::size_t{15};
      return p;
    };
    api_.calloc_ = [](std::size_t, std::size_t n) -> void* {
      void* p = g_area + g_next;
      g_next += (n + 15) & ~std::size_t{15};
      return p;
    };
    api_.realloc_ = [](void*, std::size_t n) -> void* {
      if (g_give_null || n == 0) return nullptr;
      void* p = g_area + g_next;
      g_next += (n + 15) & ~std::size_t{15};
      return p;
    };
    api_.free_ = [](void*) {};
    g_next = 0;
    g_give_null = false;
  }
  void add(Op op, std::uint64_t slot, std::uint64_t size = 0, unsigned flags = 0) {
    if (flags == 0) {
      words_.push_back(wire::narrow_op(op, slot, size));
      return;
    }
    words_.push_back(wire::wide_op_word(op, 2, flags, slot));
    words_.push_back(size);
  }
  LaneShared& run(Timing timing, Touch touch, std::uint32_t percent = 100,
                  std::uint32_t sample_every = 1) {
    words_.push_back(wire::narrow_op(Op::kExit, 0, 0));
    SharedHeader layout{};
    layout.lanes = 1;
    layout.sample_capacity = 16;
    std::uint64_t kinds[wire::kApiOpLimit];
    std::fill(std::begin(kinds), std::end(kinds), 1);
    assign_histograms(&layout, kinds);
    memory_.assign(lay_out(&layout) + 64, 0);
    void* at = memory_.data();
    std::size_t space = memory_.size();
    at = std::align(64, layout.total_bytes, at, space);
    shared_ = new (at) SharedHeader{};
    shared_->lanes = 1;
    shared_->sample_capacity = 16;
    assign_histograms(shared_, kinds);
    lay_out(shared_);
    initialise(shared_);
    shared_->timing = timing;
    shared_->touch = touch;
    shared_->touch_percent = percent;
    shared_->touch_zeroed = touch_zeroed_;
    shared_->sample_every = sample_every;
    shared_->fault_ticks = 2e9;
    shared_->sample_words = 1 << 30;
    shared_->next_live_sample = LLONG_MAX;

    slots_.assign(64, Slot{});
    slots_[0].p = reinterpret_cast<void*>(kNullBlock);
    lanes_[0] = {0, 1, words_.size(), 1};
    chunk_ = {0, static_cast<std::uint32_t>(words_.size()), 0, 0};
    cursor_ = {};
    cursor_.next_sample = cursor_.next_purge = shared_->sample_words;
    cursor_.live_low = LLONG_MIN;
    Context c{};
    c.shared = shared_;
    c.api = &api_;
    c.workload = reinterpret_cast<const std::byte*>(words_.data());
    c.lanes = lanes_;
    c.chunks = &chunk_;
    c.slots = slots_.data();
    c.cursors = &cursor_;
    c.page_bytes = 4096;
    choose_loop(timing, false)(c, 0);
    return lanes_of(shared_)[0];
  }
  std::int64_t live() const { return cursor_.live_delta; }
  std::int64_t peak() const { return shared_->live_peak.load(); }
  SharedHeader& shared() { return *shared_; }
  void touch_zeroed() { touch_zeroed_ = true; }

 private:
  ApiTable api_{};
  bool touch_zeroed_ = false;
  std::vector<std::uint64_t> words_;
  std::vector<unsigned char> memory_;
  SharedHeader* shared_ = nullptr;
  std::vector<Slot> slots_;
  wire::LaneEntry lanes_[2] = {};
  wire::ChunkEntry chunk_{};
  LaneCursor cursor_{};
};

TEST(ReplayLoop, CountsOpsAndKeepsTheLivePeakExactly) {
  Rig rig;
  rig.add(Op::kMalloc, 1, 100);
  rig.add(Op::kMalloc, 2, 50);
  rig.add(Op::kFree, 1);
  rig.add(Op::kRealloc, 2, 70);
  rig.add(Op::kRealloc, 3, 10, wire::kOpFromNull);
  rig.add(Op::kFree, 0);
  LaneShared& lane = rig.run(Timing::kClock, Touch::kNone);
  EXPECT_EQ(lane.ops_by_kind[static_cast<int>(Op::kMalloc)], 2u);
  EXPECT_EQ(lane.ops_by_kind[static_cast<int>(Op::kFree)], 2u);
  EXPECT_EQ(lane.ops_by_kind[static_cast<int>(Op::kRealloc)], 2u);
  EXPECT_EQ(rig.peak(), 150);
  EXPECT_EQ(rig.live(), 80);
  EXPECT_EQ(lane.order_violations + lane.failed_ops + lane.skipped_ops, 0u);
  EXPECT_EQ(rig.shared().ops_done.load(), 6u);
}

TEST(ReplayLoop, PublishesTheEndOfTheLane) {
  Rig rig;
  rig.add(Op::kMalloc, 1, 8);
  EXPECT_EQ(rig.run(Timing::kNone, Touch::kNone).progress.position.load(), 2u);
}

TEST(ReplayLoop, TouchesEachPageOfABlockOnceAndOfAGrownBlockTheNewPartOnly) {
  Rig rig;
  std::fill(std::begin(g_area), std::end(g_area), 0);
  rig.add(Op::kMalloc, 1, 100);
  rig.add(Op::kMalloc, 2, 3 * 4096);
  rig.run(Timing::kNone, Touch::kPage);
  std::vector<std::size_t> touched;
  for (std::size_t i = 0; i < sizeof g_area; ++i)
    if (g_area[i]) touched.push_back(i);
  // The second block starts at 112 and ends in the page at 3 * 4096.
  EXPECT_EQ(touched, (std::vector<std::size_t>{0, 112, 4096, 2 * 4096, 3 * 4096}));

  Rig other;
  std::fill(std::begin(g_area), std::end(g_area), 0);
  other.add(Op::kMalloc, 1, 16);
  other.add(Op::kRealloc, 1, 40);
  other.run(Timing::kNone, Touch::kFull);
  std::size_t bytes = 0;
  for (const unsigned char c : g_area) bytes += c != 0;
  EXPECT_EQ(bytes, 16u + 24u);
}

std::vector<std::size_t> touched_by(Rig& rig, Touch touch, std::uint32_t percent = 100) {
  std::fill(std::begin(g_area), std::end(g_area), 0);
  rig.run(Timing::kNone, touch, percent);
  std::vector<std::size_t> touched;
  for (std::size_t i = 0; i < sizeof g_area; ++i)
    if (g_area[i]) touched.push_back(i);
  return touched;
}

TEST(ReplayLoop, APercentageTouchesThePagesOfTheFirstPart) {
  Rig rig;
  rig.add(Op::kMalloc, 1, 10 * 4096);
  rig.add(Op::kMalloc, 2, 16);
  EXPECT_EQ(touched_by(rig, Touch::kPercent, 25), (std::vector<std::size_t>{0, 4096, 8192, 40960}));
}

TEST(ReplayLoop, ZeroedBlocksAreTouchedOnlyWhereAsked) {
  Rig rig;
  rig.add(Op::kCalloc, 1, 10'000);
  EXPECT_TRUE(touched_by(rig, Touch::kPage).empty());
  Rig other;
  other.add(Op::kCalloc, 1, 10'000);
  other.touch_zeroed();
  EXPECT_EQ(touched_by(other, Touch::kPage).size(), 3u);
}

TEST(ReplayLoop, EveryCallIsTimedInTheClassOfItsSize) {
  Rig rig;
  for (int i = 0; i < 10; ++i) {
    rig.add(Op::kMalloc, 1, 16);
    rig.add(Op::kFree, 1);
    rig.add(Op::kMalloc, 2, 1000);
    rig.add(Op::kFree, 2);
  }
  rig.run(Timing::kClock, Touch::kNone);
  SharedHeader& h = rig.shared();
  for (const Op op : {Op::kMalloc, Op::kFree}) {
    const LatencyHistogram* histograms =
        histograms_of(&h, 0) + h.histogram_of[static_cast<int>(op)] * kSizeClasses;
    EXPECT_EQ(histograms[size_class(16)].count(), 10u);
    EXPECT_EQ(histograms[size_class(1000)].count(), 10u);
  }
}

TEST(ReplayLoop, SamplingTimesOneCallInNOnAverageWhateverTheRhythm) {
  Rig rig;
  for (int i = 0; i < 20'000; ++i) {
    rig.add(Op::kMalloc, 1, 16);
    rig.add(Op::kFree, 1);
  }
  rig.run(Timing::kClock, Touch::kNone, 100, 8);
  SharedHeader& h = rig.shared();
  std::uint64_t counts[2];
  int i = 0;
  for (const Op op : {Op::kMalloc, Op::kFree})
    counts[i++] = histograms_of(&h, 0)[h.histogram_of[static_cast<int>(op)] * kSizeClasses].count();
  EXPECT_NEAR(static_cast<double>(counts[0]), 2500, 250);
  EXPECT_NEAR(static_cast<double>(counts[1]), 2500, 250);
}

TEST(ReplayLoop, FailedAllocationsAreCountedAndTheirSlotsSkipped) {
  Rig rig;
  rig.add(Op::kMalloc, 1, 100);
  rig.add(Op::kRealloc, 1, 200);
  rig.add(Op::kFree, 1);
  g_give_null = true;
  LaneShared& lane = rig.run(Timing::kNone, Touch::kPage);
  EXPECT_EQ(lane.failed_ops, 1u);
  EXPECT_EQ(lane.skipped_ops, 2u);
  EXPECT_EQ(rig.live(), 0);
}

TEST(ReplayLoop, NullForNoBytesIsNoFailure) {
  Rig rig;
  rig.add(Op::kMalloc, 1, 0);
  rig.add(Op::kFree, 1);
  g_give_null = true;
  LaneShared& lane = rig.run(Timing::kNone, Touch::kPage);
  EXPECT_EQ(lane.failed_ops + lane.skipped_ops + lane.order_violations, 0u);
  EXPECT_EQ(lane.ops_by_kind[static_cast<int>(Op::kFree)], 1u);
}

TEST(ReplayLoop, ARecordedFailureThatSucceedsIsGivenBackAndCounted) {
  Rig rig;
  rig.add(Op::kMalloc, 0, 1000, wire::kOpFailed);
  LaneShared& lane = rig.run(Timing::kNone, Touch::kPage);
  EXPECT_EQ(lane.unexpected_successes, 1u);
  EXPECT_EQ(rig.live(), 0);
}

TEST(ReplayLoop, ReallocToZeroThatFreedTheBlockLeavesTheSlotEmpty) {
  Rig rig;
  rig.add(Op::kMalloc, 1, 64);
  rig.add(Op::kRealloc, 1, 0, wire::kOpFreesBlock);
  rig.add(Op::kMalloc, 1, 32);
  LaneShared& lane = rig.run(Timing::kNone, Touch::kPage);
  EXPECT_EQ(lane.order_violations, 0u);
  EXPECT_EQ(rig.live(), 32);
}

}  // namespace
}  // namespace alloctape::simulator
