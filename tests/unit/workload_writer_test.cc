#include "formats/workload_writer.h"

#include <gtest/gtest.h>

#include "formats/workload_cursor.h"
#include "formats/workload_file.h"
#include "tests/unit/temp_workload.h"

namespace alloctape::formats {
namespace {

using testing::TempFile;
using testing::totals_of;
using wire::Op;

std::vector<OpView> ops_of(const WorkloadFile& file, std::uint64_t lane) {
  std::vector<OpView> ops;
  const wire::LaneEntry& entry = file.lanes()[lane];
  for (const auto& chunk : file.chunks().subspan(entry.first_chunk, entry.chunks)) {
    const auto words = file.words(chunk);
    const std::uint64_t* end = words.data() + words.size();
    for (const std::uint64_t* p = words.data(); p < end; p += ops.back().words) {
      ops.push_back(decode(p, end));
      if (!ops.back()) {
        ADD_FAILURE() << "undecodable op";
        return ops;
      }
    }
  }
  return ops;
}

TEST(WorkloadWriter, KeepsEveryFieldOfEveryKindOfOp) {
  TempFile temp;
  auto writer = WorkloadWriter::create(temp.path());
  ASSERT_TRUE(writer.ok()) << writer.error().to_string();
  ASSERT_EQ(writer->add_lane(), 0u);
  const std::uint64_t big = std::uint64_t{1} << 33;
  ASSERT_EQ(writer->append(0, {.op = Op::kMalloc, .slot = 1, .size = 100}).value(), 1u);
  ASSERT_EQ(writer->append(0, {.op = Op::kMalloc, .slot = 2, .size = big}).value(), 3u);
  ASSERT_EQ(
      writer->append(0, {.op = Op::kPosixMemalign, .slot = 3, .size = 5, .alignment = 64}).value(),
      6u);
  ASSERT_TRUE(
      writer->append(0, {.op = Op::kCalloc, .flags = wire::kOpFailed, .size = ~0ull, .count = 3}));
  ASSERT_TRUE(writer->append(0, {.op = Op::kRealloc, .slot = 1, .size = 7}));
  ASSERT_TRUE(
      writer->append(0, {.op = Op::kRealloc, .flags = wire::kOpFromNull, .slot = 4, .size = 8}));
  ASSERT_TRUE(writer->append(0, {.op = Op::kFree, .slot = 0}));
  ASSERT_TRUE(
      writer->append(0, {.op = Op::kDeleteSizedAligned, .slot = 4, .size = 8, .alignment = 32}));
  ASSERT_TRUE(writer->append_time(0, 123456789));
  ASSERT_TRUE(writer->append_exit(0));
  ASSERT_TRUE(writer->append_prologue(5, 16));
  auto totals = totals_of(*writer, 1, 5, 3);
  totals.order = wire::SyncOrder::kSerial;
  totals.peak_live_bytes = 11;
  totals.peak_live_blocks = 12;
  totals.end_live_bytes = 13;
  totals.recorded_ns = 14;
  totals.provenance_json = R"({"program":"x"})";
  totals.live_curve = {{1, 2, 3}};
  totals.rss_curve = {{4, 5, 6}, {7, 8, 9}};
  ASSERT_TRUE(writer->finish(totals).ok());

  auto file = WorkloadFile::open(temp.path());
  ASSERT_TRUE(file.ok()) << file.error().to_string();
  Status status = file->validate();
  ASSERT_TRUE(status.ok()) << status.error().to_string();
  const wire::WorkloadHeader& header = file->header();
  EXPECT_EQ(header.ops, 8u);
  EXPECT_EQ(header.ops_by_kind[static_cast<int>(Op::kMalloc)], 2u);
  EXPECT_EQ(header.prologue_blocks, 1u);
  EXPECT_EQ(header.order, wire::SyncOrder::kSerial);
  EXPECT_EQ(header.peak_live_bytes, 11u);
  EXPECT_EQ(header.peak_live_blocks, 12u);
  EXPECT_EQ(header.end_live_bytes, 13u);
  EXPECT_EQ(header.recorded_ns, 14u);
  EXPECT_EQ(header.file_bytes, temp.read().size());
  EXPECT_EQ(file->provenance(), R"({"program":"x"})");
  ASSERT_EQ(file->rss_curve().size(), 2u);
  EXPECT_EQ(file->rss_curve()[1].bytes, 9u);
  EXPECT_EQ(file->live_curve()[0].ops, 2u);

  const auto ops = ops_of(*file, 0);
  ASSERT_EQ(ops.size(), 10u);
  EXPECT_EQ(ops[1].size, big);
  EXPECT_TRUE(ops[1].wide);
  EXPECT_EQ(ops[2].alignment, 64u);
  EXPECT_EQ(ops[2].slot, 3u);
  EXPECT_EQ(ops[3].count, 3u);
  EXPECT_EQ(ops[3].flags, wire::kOpFailed);
  EXPECT_EQ(ops[3].requested_bytes(), ~0ull);
  EXPECT_FALSE(ops[4].wide);
  EXPECT_EQ(ops[5].flags, wire::kOpFromNull);
  EXPECT_EQ(ops[6].slot, 0u);
  EXPECT_EQ(ops[7].alignment, 32u);
  EXPECT_EQ(ops[8].size, 123456789u);
  EXPECT_EQ(ops[9].op, Op::kExit);
  const auto prologue = ops_of(*file, 1);
  ASSERT_EQ(prologue.size(), 1u);
  EXPECT_EQ(prologue[0].slot, 5u);
}

TEST(WorkloadWriter, SlotsAndSizesBeyondANarrowWordBecomeWide) {
  const struct {
    std::uint64_t slot, size;
    bool wide;
  } cases[] = {{(1u << 23) - 1, 0xffffffff, false}, {1u << 23, 1, true}, {1, 1ull << 32, true}};
  for (const auto& c : cases) {
    TempFile temp;
    auto writer = WorkloadWriter::create(temp.path());
    writer->add_lane();
    ASSERT_TRUE(writer->append(0, {.op = Op::kMalloc, .slot = c.slot, .size = c.size}));
    ASSERT_TRUE(writer->append_exit(0));
    ASSERT_TRUE(writer->finish(totals_of(*writer, 1, 1, 1)).ok());
    auto file = WorkloadFile::open(temp.path());
    ASSERT_TRUE(file.ok());
    const auto ops = ops_of(*file, 0);
    EXPECT_EQ(ops[0].wide, c.wide);
    EXPECT_EQ(ops[0].slot, c.slot);
    EXPECT_EQ(ops[0].size, c.size);
  }
}

TEST(WorkloadWriter, NoOpStraddlesChunksAndTheirEndsPublish) {
  TempFile temp;
  auto writer = WorkloadWriter::create(temp.path());
  writer->add_lane();
  constexpr std::uint64_t kOps = 20'000;
  for (std::uint64_t i = 0; i < kOps; ++i) {
    ASSERT_TRUE(
        writer->append(0, {.op = Op::kAlignedAlloc, .slot = i + 1, .size = i, .alignment = 64}));
  }
  ASSERT_TRUE(writer->append_exit(0));
  ASSERT_TRUE(writer->finish(totals_of(*writer, 1, kOps, kOps)).ok());
  auto file = WorkloadFile::open(temp.path());
  ASSERT_TRUE(file.ok());
  Status status = file->validate();
  ASSERT_TRUE(status.ok()) << status.error().to_string();
  EXPECT_GT(file->chunks().size(), 7u);
  EXPECT_EQ(file->chunks()[0].words, wire::kChunkWords / 3 * 3);
  const auto ops = ops_of(*file, 0);
  ASSERT_EQ(ops.size(), kOps + 1);
  EXPECT_EQ(ops[kOps - 1].size, kOps - 1);
}

TEST(WorkloadWriter, PublishesThePositionAskedForWhileItsChunkIsOpenAndAChunkEndAfterwards) {
  TempFile temp;
  auto writer = WorkloadWriter::create(temp.path());
  writer->add_lane();
  writer->add_lane();
  ASSERT_TRUE(writer->append_spawn(0, 1));
  std::uint64_t early = 0;
  for (int i = 0; i < 10'000; ++i) {
    ASSERT_TRUE(writer->append(0, {.op = Op::kMalloc, .flags = wire::kOpFailed, .size = 1}));
    if (i == 10) early = writer->position(0);
  }
  EXPECT_EQ(writer->publish(0, 0), 0u);
  const std::uint64_t now = writer->position(0);
  EXPECT_EQ(writer->publish(0, now), now);
  const std::uint64_t late = writer->publish(0, early);
  EXPECT_GT(late, early);
  EXPECT_LE(late, wire::kChunkWords);
  ASSERT_TRUE(writer->append_wait(1, 0, late));
  ASSERT_TRUE(writer->append_wait(1, 0, now));
  ASSERT_TRUE(writer->append_exit(1));
  ASSERT_TRUE(writer->append_exit(0));
  ASSERT_TRUE(writer->finish(totals_of(*writer, 2, 0, 0)).ok());
  auto file = WorkloadFile::open(temp.path());
  ASSERT_TRUE(file.ok());
  Status status = file->validate();
  EXPECT_TRUE(status.ok()) << status.error().to_string();
  EXPECT_EQ(file->header().sync_points, 2u);
}

TEST(WorkloadWriter, AnUnfinishedFileIsMarkedIncomplete) {
  TempFile temp;
  {
    auto writer = WorkloadWriter::create(temp.path());
    writer->add_lane();
    ASSERT_TRUE(writer->append(0, {.op = Op::kMalloc, .slot = 1, .size = 1}));
  }
  auto file = WorkloadFile::open(temp.path());
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.error().code, ErrorCode::kTruncated);
  EXPECT_EQ(file.error().field, "complete");
}

TEST(WorkloadWriter, AFullDiskIsAnErrorThatStays) {
  auto writer = WorkloadWriter::create("/dev/full");
  ASSERT_FALSE(writer.ok());
  EXPECT_EQ(writer.error().code, ErrorCode::kIo);
}

}  // namespace
}  // namespace alloctape::formats
