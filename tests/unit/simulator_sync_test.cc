#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

#include "simulator/replayer/sync.h"

namespace alloctape::simulator {
namespace {

std::unique_ptr<LaneProgress[]> lanes(int count) {
  auto all = std::make_unique<LaneProgress[]>(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    all[i].position = 0;
    all[i].wanted = kNobodyWaits;
    all[i].wake_sequence = 0;
  }
  return all;
}

TEST(Sync, APositionThatHasPassedIsNotWaitedFor) {
  auto lane = lanes(1);
  publish(lane[0], 10);
  EXPECT_FALSE(wait_for(lane[0], 10, 0).blocked);
  EXPECT_FALSE(wait_for(lane[0], 3, 0).blocked);
}

// Two threads take turns, each sleeping on the other: a lost wake-up would hang the test.
TEST(Sync, TurnsAreTakenWithoutALostWakeUp) {
  for (const int spins : {0, 50}) {
    constexpr std::uint64_t kTurns = 20'000;
    auto lane = lanes(2);
    std::uint64_t shared = 0;  // plain: ordered by publish and wait alone
    auto player = [&](int me) {
      for (std::uint64_t turn = 1; turn <= kTurns; ++turn) {
        wait_for(lane[1 - me], me == 0 ? turn - 1 : turn, spins);
        ++shared;
        publish(lane[me], turn);
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
  constexpr int kSleepers = 16;
  constexpr std::uint64_t kRounds = 500;
  auto lane = lanes(1 + kSleepers);
  std::vector<std::thread> threads;
  for (int s = 0; s < kSleepers; ++s) {
    threads.emplace_back([&, s] {
      for (std::uint64_t round = 0; round < kRounds; ++round) {
        wait_for(lane[0], round * kSleepers + static_cast<std::uint64_t>(s) + 1, 0);
        publish(lane[1 + s], round + 1);
      }
    });
  }
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    for (std::uint64_t s = 0; s < kSleepers; ++s) publish(lane[0], round * kSleepers + s + 1);
    for (int s = 0; s < kSleepers; ++s) wait_for(lane[1 + s], round + 1, 0);
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(lane[0].position.load(), kRounds * kSleepers);
}

}  // namespace
}  // namespace alloctape::simulator
