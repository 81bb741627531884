// When a trace explains the memory of its process, and when it does not.
#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "analysis/explained_memory.h"
#include "temp_trace.h"

namespace alloctape::analysis {
namespace {

using formats::Event;
using formats::StreamIndex;
using formats::TraceFile;
using formats::TraceWriter;
namespace test = formats::test;

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kAddress = 0x7f0000000000;

TraceFile written(const test::TempPath& path, const std::vector<Event>& events,
                  const std::vector<wire::RssSample>& samples,
                  const std::function<void(TraceWriter::Options&)>& change = {}) {
  TraceWriter::Options options;
  if (change) change(options);
  auto writer = TraceWriter::create(path.str(), options);
  EXPECT_TRUE(writer.ok());
  for (const Event& event : events) {
    EXPECT_TRUE(writer->append(StreamIndex{0}, event).ok());
  }
  EXPECT_TRUE(writer->add_rss(samples).ok());
  EXPECT_TRUE(writer->finish().ok());
  auto file = TraceFile::open(path.str());
  EXPECT_TRUE(file.ok());
  return std::move(file).value();
}

TEST(ExplainedMemory, LiveBlocksExplainWhatTheyFill) {
  const test::TempPath path;
  const TraceFile file = written(path, {test::acquire(100, kAddress, 100 * kMiB)},
                                 {{50, kMiB, 0}, {200, 110 * kMiB, 0}, {300, 105 * kMiB, 0}});
  ASSERT_EQ(why_not_comparable(file), nullptr);
  const auto memory = explain_memory(file, {});
  ASSERT_TRUE(memory.has_value());
  EXPECT_EQ(memory->rss_growth_bytes, 109 * kMiB);
  EXPECT_EQ(memory->live_bytes, 100 * kMiB);
  EXPECT_FALSE(memory->too_little());
}

TEST(ExplainedMemory, MemoryOfAnotherKindIsNoticed) {
  const test::TempPath path;
  const TraceFile file = written(path, {test::acquire(100, kAddress, 2 * kMiB)},
                                 {{50, kMiB, 0}, {200, 110 * kMiB, 0}});
  const auto memory = explain_memory(file, {});
  ASSERT_TRUE(memory.has_value());
  EXPECT_TRUE(memory->too_little());
  const std::string text = warning_text(*memory, file);
  EXPECT_NE(text.find("109 MiB"), std::string::npos) << text;
  EXPECT_NE(text.find("record --mmap"), std::string::npos) << text;
}

TEST(ExplainedMemory, WhatWasFreedBeforeTheSampleMayStillBeHeld) {
  const test::TempPath path;
  const TraceFile file =
      written(path, {test::acquire(100, kAddress, 100 * kMiB), test::release(150, kAddress)},
              {{50, kMiB, 0}, {200, 110 * kMiB, 0}, {300, 90 * kMiB, 0}});
  const auto memory = explain_memory(file, {});
  ASSERT_TRUE(memory.has_value());
  EXPECT_FALSE(memory->too_little());
}

TEST(ExplainedMemory, WhatCameAfterTheSampleExplainsNothingOfIt) {
  const test::TempPath path;
  const TraceFile file = written(
      path, {test::acquire(100, kAddress, kMiB), test::acquire(500, kAddress + kMiB, 100 * kMiB)},
      {{50, kMiB, 0}, {200, 110 * kMiB, 0}, {300, 90 * kMiB, 0}});
  const auto memory = explain_memory(file, {});
  ASSERT_TRUE(memory.has_value());
  EXPECT_EQ(memory->live_bytes, kMiB);
  EXPECT_TRUE(memory->too_little());
}

TEST(ExplainedMemory, ManySmallBlocksCountWithTheirOverhead) {
  std::vector<Event> events;
  constexpr std::uint64_t kBlocks = 100'000;
  for (std::uint64_t i = 0; i < kBlocks; ++i) {
    events.push_back(test::acquire(100 + i, kAddress + 32 * i, 8));
  }
  const test::TempPath path;
  const TraceFile file = written(path, events, {{50, 0, 0}, {10'000'000, 20 * kMiB, 0}});
  const auto memory = explain_memory(file, {});
  ASSERT_TRUE(memory.has_value());
  EXPECT_EQ(memory->live_blocks, kBlocks);
  EXPECT_EQ(memory->explained_bytes(), kBlocks * (8 + 2 + 32));
}

TEST(ExplainedMemory, IsNotLookedAtWhereItCannotBeKnown) {
  const std::vector<Event> events = {test::acquire(100, kAddress, kMiB)};
  const test::TempPath unsampled, small, ring, paused;
  EXPECT_STREQ(why_not_comparable(written(unsampled, events, {})), "no_samples");
  EXPECT_STREQ(why_not_comparable(written(small, events, {{50, kMiB, 0}, {200, 9 * kMiB, 0}})),
               "small");
  const std::vector<wire::RssSample> large = {{50, kMiB, 0}, {200, 110 * kMiB, 0}};
  const TraceFile reset =
      written(ring, events, large, [](TraceWriter::Options& options) { options.reset_stamp = 90; });
  EXPECT_STREQ(why_not_comparable(reset), "incomplete");
  std::vector<Event> with_pause = {test::make_event(wire::Op::kPause, 10),
                                   test::make_event(wire::Op::kResume, 90)};
  with_pause.insert(with_pause.end(), events.begin(), events.end());
  const TraceFile gap = written(paused, with_pause, large);
  ASSERT_EQ(why_not_comparable(gap), nullptr);
  EXPECT_FALSE(explain_memory(gap, {}).has_value());
}

}  // namespace
}  // namespace alloctape::analysis
