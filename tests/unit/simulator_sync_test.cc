#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

#include "simulator/replayer/sync.h"

namespace alloctape::simulator {
namespace {

class Lanes {
 public:
  explicit Lanes(std::uint32_t count)
      : lanes_(new LaneProgress[count]{}),
        table_{reinterpret_cast<char*>(lanes_.get()), sizeof(LaneProgress), count} {
    for (std::uint32_t i = 0; i < count; ++i) lanes_[i].wanted = kNobodyWaits;
  }
  const LaneTable& table() const { return table_; }

 private:
  std::unique_ptr<LaneProgress[]> lanes_;
  LaneTable table_;
};

TEST(Sync, APositionThatHasPassedIsNotWaitedFor) {
  const Lanes lanes(2);
  publish(lanes.table(), 0, 10);
  EXPECT_FALSE(wait_for(lanes.table(), 1, 0, 10, 0).blocked);
  EXPECT_FALSE(wait_for(lanes.table(), 1, 0, 3, 0).blocked);
}

// Two threads take turns, each sleeping on the other: a lost wake-up would hang the test.
TEST(Sync, TurnsAreTakenWithoutALostWakeUp) {
  for (const int spins : {0, 50}) {
    constexpr std::uint64_t kTurns = 20'000;
    const Lanes lanes(2);
    std::uint64_t shared = 0;  // plain: ordered by publish and wait alone
    auto player = [&](std::uint32_t me) {
      for (std::uint64_t turn = 1; turn <= kTurns; ++turn) {
        wait_for(lanes.table(), me, 1 - me, me == 0 ? turn - 1 : turn, spins);
        ++shared;
        publish(lanes.table(), me, turn);
      }
    };
    std::thread first(player, 0), second(player, 1);
    first.join();
    second.join();
    EXPECT_EQ(shared, 2 * kTurns);
  }
}

// Many sleepers on one lane, each on a target of its own.
TEST(Sync, EverySleeperIsWokenByThePublicationThatSatisfiesIt) {
  constexpr std::uint32_t kSleepers = 16;
  constexpr std::uint64_t kRounds = 500;
  const Lanes lanes(1 + kSleepers);
  const LaneTable& table = lanes.table();
  std::vector<std::thread> threads;
  for (std::uint32_t s = 0; s < kSleepers; ++s) {
    threads.emplace_back([&table, s] {
      for (std::uint64_t round = 0; round < kRounds; ++round) {
        wait_for(table, 1 + s, 0, round * kSleepers + s + 1, 0);
        publish(table, 1 + s, round + 1);
      }
    });
  }
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    for (std::uint64_t s = 0; s < kSleepers; ++s) publish(table, 0, round * kSleepers + s + 1);
    for (std::uint32_t s = 0; s < kSleepers; ++s) wait_for(table, 0, 1 + s, round + 1, 0);
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(table[0].position.load(), kRounds * kSleepers);
}

}  // namespace
}  // namespace alloctape::simulator
