#include "converter/sync_graph.h"

#include <algorithm>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace alloctape::converter {
namespace {

TEST(SyncGraph, KnowsWhatAWaitTellsAndWhatFollowsFromIt) {
  SyncGraph graph;
  for (int i = 0; i < 3; ++i) graph.add_lane();
  graph.learn(1, 10, 0, 5);  // lane 1 passes 10 only after lane 0 passed 5
  graph.learn(2, 7, 1, 9);   // before lane 1 knew
  EXPECT_FALSE(graph.implied(2, 0, 1));
  graph.learn(2, 8, 1, 10);
  EXPECT_TRUE(graph.implied(2, 0, 5));
  EXPECT_FALSE(graph.implied(2, 0, 6));
  EXPECT_TRUE(graph.implied(2, 2, 1000));  // program order
}

TEST(SyncGraph, TakesOverTheClockOfThenAndNotOfNow) {
  SyncGraph graph;
  for (int i = 0; i < 3; ++i) graph.add_lane();
  graph.learn(1, 10, 0, 5);
  graph.learn(1, 20, 0, 50);
  graph.learn(2, 3, 1, 15);
  EXPECT_TRUE(graph.implied(2, 0, 5));
  EXPECT_FALSE(graph.implied(2, 0, 6));
}

// Random waits (often in odd lanes, as often as `wait_percent` says in even ones), against clocks
// that are kept for every position.
class Exact {
 public:
  explicit Exact(std::size_t lanes) : clocks_(lanes, {std::vector<std::uint64_t>(lanes)}) {}
  std::uint64_t position(std::size_t lane) const { return clocks_[lane].size() - 1; }
  void step(std::size_t lane) { clocks_[lane].push_back(clocks_[lane].back()); }
  void wait(std::size_t lane, std::size_t other, std::uint64_t at) {
    step(lane);
    auto& clock = clocks_[lane].back();
    const auto& theirs = clocks_[other][at];
    for (std::size_t i = 0; i < clock.size(); ++i) clock[i] = std::max(clock[i], theirs[i]);
    clock[other] = std::max(clock[other], at);
  }
  std::uint64_t known(std::size_t lane, std::size_t other) const {
    return clocks_[lane].back()[other];
  }

 private:
  std::vector<std::vector<std::vector<std::uint64_t>>> clocks_;  // by lane, position, lane
};

void compare(std::uint32_t seed, std::size_t lanes, std::size_t log, std::uint64_t reach,
             unsigned wait_percent, bool exactly) {
  std::mt19937 random(seed);
  SyncGraph graph(log);
  Exact exact(lanes);
  for (std::size_t i = 0; i < lanes; ++i) graph.add_lane();
  for (int i = 0; i < 3000; ++i) {
    const auto a = static_cast<std::uint32_t>(random() % lanes);
    const auto b = static_cast<std::uint32_t>(random() % lanes);
    if (a == b || random() % 100 >= (a % 2 == 0 ? wait_percent : 66) || exact.position(b) == 0) {
      exact.step(a);
      continue;
    }
    const std::uint64_t span = std::min(exact.position(b), reach);
    const std::uint64_t at = exact.position(b) - random() % span;
    exact.wait(a, b, at);
    graph.learn(a, exact.position(a), b, at);
    for (std::uint32_t x = 0; x < lanes; ++x) {
      if (x == a) continue;
      ASSERT_LE(graph.known(a, x), exact.known(a, x)) << "unsound: seed " << seed << " step " << i;
      if (exactly) {
        ASSERT_EQ(graph.known(a, x), exact.known(a, x)) << "seed " << seed << " step " << i;
      }
    }
  }
}

TEST(SyncGraph, IsExactWhileItsLogSuffices) {
  for (std::uint32_t seed = 1; seed <= 10; ++seed) {
    compare(seed, 2 + seed % 6, 100'000, seed % 2 == 0 ? 8 : 1000, 66, true);
  }
}

TEST(SyncGraph, ForgetsButNeverClaimsTooMuch) {
  for (std::uint32_t seed = 1; seed <= 60; ++seed) {
    compare(seed, 3 + seed % 6, 1 + seed % 9, seed % 2 == 0 ? 8 : 400, 1 + seed % 4, false);
  }
}

}  // namespace
}  // namespace alloctape::converter
