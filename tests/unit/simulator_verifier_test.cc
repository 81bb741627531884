#include "simulator/replayer/verifier.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

namespace alloctape::simulator {
namespace {

using wire::Op;

TEST(LiveIntervals, FindsWhateverOverlapsAndNothingElse) {
  std::vector<IntervalNode> nodes(401);
  LiveIntervals tree(nodes.data());
  std::vector<std::uint32_t> live;
  std::mt19937 random(7);
  for (int step = 0; step < 20'000; ++step) {
    const std::uint32_t n = 1 + random() % 400;
    if (nodes[n].in_tree) {
      tree.remove(n);
      live.erase(std::find(live.begin(), live.end(), n));
      continue;
    }
    const std::uintptr_t start = random() % 20'000;
    const std::uint64_t size = random() % 60;
    bool overlaps = false;
    for (const std::uint32_t other : live) {
      const IntervalNode& o = nodes[other];
      overlaps |= start < o.start + std::max<std::uint64_t>(o.size, 1) &&
                  o.start < start + std::max<std::uint64_t>(size, 1);
    }
    ASSERT_EQ(tree.overlapping(start, size) != 0, overlaps) << step;
    if (overlaps) continue;
    nodes[n].start = start;
    nodes[n].size = size;
    tree.insert(n);
    live.push_back(n);
  }
}

class VerifierTest : public ::testing::Test {
 protected:
  Verifier::At at(Op op, std::uint64_t slot) { return {op, 0, calls_++, 0, slot}; }
  std::uint32_t count() const { return faults_->count.load(); }
  const FoundFault& last() const { return faults_->kept[count() - 1]; }

  std::unique_ptr<FaultList> faults_{new FaultList{}};
  std::vector<IntervalNode> nodes_ = std::vector<IntervalNode>(16);
  Verifier verifier_{*faults_, nodes_.data(), nullptr, 4096};
  alignas(4096) unsigned char memory_[16384] = {};
  std::uint64_t calls_ = 0;
};

TEST_F(VerifierTest, ABlockThatKeepsItsContentsIsNoFault) {
  for (const std::uint64_t size : {0, 1, 7, 8, 9, 100, 5000}) {
    verifier_.acquired(at(Op::kMalloc, 1), memory_, size, 0);
    verifier_.releasing(at(Op::kFree, 1), memory_);
  }
  EXPECT_EQ(count(), 0u);
  EXPECT_EQ(faults_->blocks.load(), 7u);
}

TEST_F(VerifierTest, AnOverwrittenByteIsFoundAtTheRelease) {
  verifier_.acquired(at(Op::kMalloc, 1), memory_, 100, 0);
  memory_[99] ^= 0x10;
  verifier_.releasing(at(Op::kFree, 1), memory_);
  ASSERT_EQ(count(), 1u);
  EXPECT_EQ(last().fault, Fault::kContents);
  EXPECT_EQ(last().at, 99u);
  EXPECT_EQ(last().op_index, 1u);
  EXPECT_EQ(last().wanted ^ last().found, 0x10u);
}

TEST_F(VerifierTest, OverlapNamesBothBlocks) {
  verifier_.acquired(at(Op::kMalloc, 1), memory_, 100, 0);
  verifier_.acquired(at(Op::kMalloc, 2), memory_ + 96, 100, 0);
  ASSERT_EQ(count(), 1u);
  EXPECT_EQ(last().fault, Fault::kOverlap);
  EXPECT_EQ(last().slot, 2u);
  EXPECT_EQ(last().other_slot, 1u);
  verifier_.releasing(at(Op::kFree, 2), memory_ + 96);
  EXPECT_EQ(count(), 1u);
}

TEST_F(VerifierTest, TwoEmptyBlocksNeedTwoAddresses) {
  verifier_.acquired(at(Op::kMalloc, 1), memory_, 0, 0);
  verifier_.acquired(at(Op::kMalloc, 2), memory_, 0, 0);
  EXPECT_EQ(last().fault, Fault::kOverlap);
}

TEST_F(VerifierTest, AlignmentIsWhatTheCallAskedForOrTheSizeNeeds) {
  verifier_.acquired(at(Op::kMalloc, 1), memory_ + 8, 8, 0);  // for 8 bytes, 8 will do
  verifier_.acquired(at(Op::kMemalign, 2), memory_ + 64, 8, 64);
  EXPECT_EQ(count(), 0u);
  verifier_.acquired(at(Op::kMalloc, 3), memory_ + 200, 16, 0);
  EXPECT_EQ(last().fault, Fault::kAlignment);
  EXPECT_EQ(last().wanted, 16u);
  verifier_.acquired(at(Op::kMemalign, 4), memory_ + 320, 8, 256);
  EXPECT_EQ(last().wanted, 256u);
  verifier_.acquired(at(Op::kValloc, 5), memory_ + 2048, 8, 0);
  EXPECT_EQ(last().wanted, 4096u);
  EXPECT_EQ(count(), 3u);
}

TEST_F(VerifierTest, CallocMustBeZero) {
  verifier_.acquired(at(Op::kCalloc, 1), memory_, 1000, 0);
  EXPECT_EQ(count(), 0u);
  verifier_.acquired(at(Op::kCalloc, 2), memory_ + 992, 1000, 0);  // where the pattern is
  EXPECT_EQ(count(), 2u);                                          // overlap, too
  EXPECT_EQ(last().fault, Fault::kNotZero);
  EXPECT_EQ(last().at, 0u);
}

TEST_F(VerifierTest, ReallocMustBringTheContentsAlong) {
  verifier_.acquired(at(Op::kMalloc, 1), memory_, 100, 0);
  verifier_.resizing(at(Op::kRealloc, 1), memory_);
  std::memcpy(memory_ + 4096, memory_, 100);
  verifier_.resized(at(Op::kRealloc, 1), memory_ + 4096, 300);
  verifier_.resizing(at(Op::kRealloc, 1), memory_ + 4096);
  verifier_.resized(at(Op::kRealloc, 1), nullptr, 0);  // could not be had: the block stays
  EXPECT_EQ(count(), 0u);
  verifier_.resizing(at(Op::kRealloc, 1), memory_ + 4096);
  std::memcpy(memory_ + 8192, memory_ + 4096, 49);
  verifier_.resized(at(Op::kRealloc, 1), memory_ + 8192, 50);
  ASSERT_EQ(count(), 1u);
  EXPECT_EQ(last().fault, Fault::kMovedContents);
  EXPECT_EQ(last().at, 49u);
}

TEST_F(VerifierTest, TheRestIsCheckedAtTheEnd) {
  verifier_.acquired(at(Op::kMalloc, 1), memory_, 100, 0);
  verifier_.acquired(at(Op::kMalloc, 2), memory_ + 4096, 100, 0);
  memory_[4096] ^= 1;
  verifier_.check_rest(15);
  ASSERT_EQ(count(), 1u);
  EXPECT_EQ(last().slot, 2u);
  EXPECT_EQ(last().op, 0u);
}

}  // namespace
}  // namespace alloctape::simulator
