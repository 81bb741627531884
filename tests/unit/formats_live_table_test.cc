// The table of live blocks against a plain map.
#include <random>
#include <unordered_map>

#include "formats/live_table.h"
#include "temp_trace.h"

namespace alloctape::formats::test {
namespace {

TEST(LiveTable, AgreesWithAPlainMapThroughRandomChurn) {
  for (const std::uint64_t spread : {16ull, 4096ull, 1ull << 32}) {
    std::mt19937_64 random(spread);
    LiveTable table;
    std::unordered_map<std::uint64_t, std::uint64_t> map;  // address -> size
    for (int step = 0; step < 300'000; ++step) {
      const std::uint64_t address = (1 + random() % 20'000) * spread;
      const bool grow = random() % 100 < (step < 150'000 ? 60u : 40u);
      if (grow) {
        bool inserted = false;
        const auto number = table.find_or_insert(address, inserted);
        ASSERT_EQ(inserted, map.count(address) == 0);
        if (inserted) {
          ASSERT_EQ(table.block(number).size, 0u);
        }
        ASSERT_EQ(table.block(number).address, address);
        map[address] = table.block(number).size = random();
      } else if (random() % 4 == 0) {
        const std::uint64_t to = (1 + random() % 20'000) * spread;
        if (to == address || map.count(to) != 0) continue;
        const auto number = table.detach(address);
        ASSERT_EQ(number != LiveTable::kNone, map.count(address) == 1);
        if (number == LiveTable::kNone) continue;
        table.attach(number, to);
        map[to] = map[address];
        map.erase(address);
      } else {
        const auto number = table.detach(address);
        ASSERT_EQ(number != LiveTable::kNone, map.erase(address) == 1);
        if (number != LiveTable::kNone) table.free_block(number);
      }
      ASSERT_EQ(table.size(), map.size());
    }
    std::size_t seen = 0;
    table.for_each([&](const Block& block) {
      ++seen;
      ASSERT_EQ(map.at(block.address), block.size);
    });
    EXPECT_EQ(seen, map.size());
    for (const auto& [address, size] : map) {
      const auto number = table.find(address);
      ASSERT_NE(number, LiveTable::kNone);
      EXPECT_EQ(table.block(number).size, size);
    }
  }
}

TEST(LiveTable, KeepsReferencesValidWhileItGrows) {
  LiveTable table;
  bool inserted = false;
  Block& first = table.block(table.find_or_insert(64, inserted));
  first.size = 42;
  for (std::uint64_t i = 2; i < 200'000; ++i) table.find_or_insert(i * 64, inserted);
  EXPECT_EQ(first.size, 42u);
  EXPECT_EQ(&table.block(table.find(64)), &first);
}

TEST(LiveTable, ReusesTheBlockFreedLast) {
  LiveTable table;
  bool inserted = false;
  table.find_or_insert(16, inserted);
  const auto second = table.find_or_insert(32, inserted);
  table.free_block(table.detach(32));
  EXPECT_EQ(table.find_or_insert(48, inserted), second);
  EXPECT_EQ(table.find(32), LiveTable::kNone);
}

}  // namespace
}  // namespace alloctape::formats::test
