// Damaged files: whatever their bytes, the commands' engines end with figures or with a clear
// error.
#include <gtest/gtest.h>

#include <random>

#include "analysis/heap_statistics.h"
#include "analysis/input.h"
#include "analysis/lane_cursor.h"
#include "analysis/stat_render.h"
#include "analysis/trace_summary.h"
#include "cli/cli.h"
#include "tests/unit/temp_trace.h"
#include "tests/unit/temp_workload.h"

namespace alloctape::analysis {
namespace {

using formats::test::acquire;
using formats::test::read_bytes;
using formats::test::release;
using formats::test::resize;
using formats::test::TempPath;
using formats::test::write_bytes;
using wire::Op;

// All that the commands do with a file; the number of events or ops seen, or -1 after an error.
std::int64_t use_everything(const std::string& path) {
  try {
    if (kind_of(path) == FileKind::kTrace) {
      const auto file = open_trace(path);
      recording_state(file);
      const DecodedCounts counts = count_events(file, {});
      const Statistics s = trace_statistics(file, {});
      EXPECT_EQ(counts.events, s.events);
      EXPECT_FALSE(to_json(s).empty());
      return static_cast<std::int64_t>(s.events);
    }
    const auto file = open_workload(path);
    const bool valid = file.validate().ok();
    const Statistics s = workload_statistics(file, {});
    std::uint64_t requests = 0;
    for (const std::uint64_t n : s.sizes.count) requests += n;
    EXPECT_EQ(requests, s.requests);
    return valid ? static_cast<std::int64_t>(s.api_events) : -1;
  } catch (const cli::UserError& error) {
    EXPECT_FALSE(error.what.empty());
    EXPECT_FALSE(error.remedy.empty()) << error.what;
    return -1;
  }
}

std::string sample_trace() {
  TempPath path;
  std::vector<formats::test::StreamEvent> events;
  for (std::uint64_t i = 0; i < 20; ++i) {
    const std::uint64_t stamp = 100 * i;
    events.push_back({0, acquire(stamp, 0x1000 + 64 * i, i)});
    if (i % 3 == 0) {
      events.push_back(
          {0, resize(stamp + 10, stamp + 20, 0x1000 + 64 * i, 0x9000 + 64 * i, 2 * i)});
    } else {
      events.push_back({0, release(stamp + 10, 0x1000 + 64 * i)});
    }
  }
  formats::TraceWriter::Options options;
  options.metadata.command_line = {"a", "b"};
  options.block_words = 32;
  formats::test::write_trace(path.str(), events, options, {{100, 1, 2}});
  return read_bytes(path.str());
}

std::string sample_workload() {
  formats::testing::TempFile path;
  auto writer = formats::WorkloadWriter::create(path.path());
  EXPECT_TRUE(writer.ok());
  const auto lane = writer->add_lane();
  EXPECT_TRUE(writer->append_prologue(3, 40).ok());
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(writer->append(lane, {.op = Op::kMalloc, .slot = 1, .size = 100}).ok());
    EXPECT_TRUE(
        writer->append(lane, {.op = Op::kMemalign, .slot = 2, .size = 9, .alignment = 64}).ok());
    EXPECT_TRUE(writer->append(lane, {.op = Op::kFree, .slot = 1}).ok());
    EXPECT_TRUE(writer->append(lane, {.op = Op::kFree, .slot = 2}).ok());
  }
  EXPECT_TRUE(writer->append_exit(lane).ok());
  EXPECT_TRUE(writer->finish(formats::testing::totals_of(*writer, 1, 3, 0)).ok());
  return path.read();
}

TEST(HostileFiles, TheSamplesThemselvesAreFine) {
  TempPath path;
  write_bytes(path.str(), sample_trace());
  EXPECT_EQ(use_everything(path.str()), 40);
  write_bytes(path.str(), sample_workload());
  EXPECT_EQ(use_everything(path.str()), 40);
}

TEST(HostileFiles, ATraceCutAtAnyByteGivesAPrefixOrAnError) {
  const std::string whole = sample_trace();
  TempPath path;
  std::int64_t last = -1;
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    write_bytes(path.str(), whole.substr(0, cut));
    const std::int64_t events = use_everything(path.str());
    EXPECT_GE(events, last) << "cut at " << cut;
    last = events;
  }
}

TEST(HostileFiles, AWorkloadCutAtAnyByteIsAnError) {
  const std::string whole = sample_workload();
  TempPath path;
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    write_bytes(path.str(), whole.substr(0, cut));
    EXPECT_EQ(use_everything(path.str()), -1) << "cut at " << cut;
  }
}

TEST(HostileFiles, RandomDamageIsSurvived) {
  std::mt19937_64 random(11);
  for (const std::string& whole : {sample_trace(), sample_workload()}) {
    TempPath path;
    for (int round = 0; round < 1000; ++round) {
      std::string bytes = whole;
      const int damages = 1 + static_cast<int>(random() % 4);
      for (int i = 0; i < damages; ++i) {
        // Header pages are mostly zeros: aim at bytes that mean something.
        std::size_t at = random() % bytes.size();
        while (bytes[at] == 0 && random() % 8 != 0) at = random() % bytes.size();
        bytes[at] = static_cast<char>(random() % 3 == 0 ? 0xff : random());
      }
      write_bytes(path.str(), bytes);
      use_everything(path.str());
    }
  }
}

}  // namespace
}  // namespace alloctape::analysis
