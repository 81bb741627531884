#include <unistd.h>

#include <functional>

#include <gtest/gtest.h>

#include "formats/wire/map_event.h"
#include "formats/workload_cursor.h"
#include "formats/workload_file.h"
#include "formats/workload_writer.h"
#include "tests/unit/temp_workload.h"

namespace alloctape::formats {
namespace {

using testing::TempFile;
using testing::totals_of;
using wire::Op;
using wire::WorkloadHeader;

struct Verdict {
  bool ok = false;
  std::string message;
};

// Builds a workload of `lanes` lanes (exits are added) and validates it.
Verdict verdict_of(std::uint32_t lanes, std::uint64_t slots, std::uint64_t live,
                   const std::function<void(WorkloadWriter&)>& build) {
  TempFile temp;
  auto writer = WorkloadWriter::create(temp.path());
  for (std::uint32_t i = 0; i < lanes; ++i) writer->add_lane();
  build(*writer);
  for (std::uint32_t i = 0; i < lanes; ++i) EXPECT_TRUE(writer->append_exit(i).ok());
  EXPECT_TRUE(writer->finish(totals_of(*writer, lanes, slots, live)).ok());
  auto file = WorkloadFile::open(temp.path());
  if (!file) return {false, file.error().to_string()};
  Status status = file->validate();
  if (!status) return {false, status.error().to_string()};
  return {true, {}};
}

void add(WorkloadWriter& w, std::uint32_t lane, const Op op, std::uint64_t slot,
         std::uint64_t size = 8, std::uint8_t flags = 0) {
  ASSERT_TRUE(w.append(lane, {.op = op, .flags = flags, .slot = slot, .size = size}).ok());
}

TEST(WorkloadValidate, AcceptsAllocReallocQueryFreeAndNulls) {
  const Verdict v = verdict_of(1, 2, 1, [](WorkloadWriter& w) {
    ASSERT_TRUE(w.append_prologue(2, 16).ok());
    add(w, 0, Op::kMalloc, 1);
    add(w, 0, Op::kRealloc, 1);
    add(w, 0, Op::kRealloc, 1, 1ull << 60, wire::kOpFailed);
    add(w, 0, Op::kRealloc, 0, 1ull << 60, wire::kOpFailed);
    add(w, 0, Op::kMallocUsableSize, 1);
    add(w, 0, Op::kMallocUsableSize, 0);
    add(w, 0, Op::kFree, 1);
    add(w, 0, Op::kFree, 0);
    add(w, 0, Op::kRealloc, 1, 9, wire::kOpFromNull);
    add(w, 0, Op::kRealloc, 1, 0, wire::kOpFreesBlock);
    add(w, 0, Op::kRealloc, 2, 40);
  });
  EXPECT_TRUE(v.ok) << v.message;
}

constexpr std::uint64_t kAnonymous = wire::pack_prot_flags(wire::kProtRead | wire::kProtWrite,
                                                           wire::kMapPrivate | wire::kMapAnonymous);

void add_map(WorkloadWriter& w, Op op, std::uint64_t size, std::uint64_t offset = 0,
             std::uint64_t value = 0, std::uint8_t flags = 0, std::uint64_t slot = 1) {
  ASSERT_TRUE(
      w.append(
           0,
           {.op = op, .flags = flags, .slot = slot, .size = size, .offset = offset, .value = value})
          .ok());
}

TEST(WorkloadValidate, AcceptsMappingsThatGoInParts) {
  const Verdict v = verdict_of(1, 1, 0, [](WorkloadWriter& w) {
    add_map(w, Op::kMmap, 16384, 0, kAnonymous);
    add_map(w, Op::kMmap, 4096, 8192, kAnonymous, wire::kOpInPlace);
    add_map(w, Op::kMremap, 32768);
    add_map(w, Op::kMadvise, 8192, 4096, 4);
    add_map(w, Op::kMunmap, 4096, 4096);
    add_map(w, Op::kMunmap, 4096, 0);
    add_map(w, Op::kMunmap, 24576, 8192, 0, wire::kOpFreesBlock);
    add(w, 0, Op::kMalloc, 1);
    add(w, 0, Op::kFree, 1);
  });
  EXPECT_TRUE(v.ok) << v.message;
}

TEST(WorkloadValidate, RejectsMappingsUsedWrongly) {
  const struct {
    const char* expected;
    std::function<void(WorkloadWriter&)> build;  // after an mmap of 16 KiB into slot 1
  } cases[] = {
      {"still holds", [](WorkloadWriter& w) { add_map(w, Op::kMmap, 4096, 0, kAnonymous); }},
      {"not a block", [](WorkloadWriter& w) { add(w, 0, Op::kFree, 1); }},
      {"not a block", [](WorkloadWriter& w) { add(w, 0, Op::kRealloc, 1); }},
      {"not a block", [](WorkloadWriter& w) { add(w, 0, Op::kMallocUsableSize, 1); }},
      {"holds no mapping", [](WorkloadWriter& w) { add_map(w, Op::kMunmap, 1, 0, 0, 0, 2); }},
      {"slot 0", [](WorkloadWriter& w) { add_map(w, Op::kMunmap, 4096, 0, 0, 0, 0); }},
      {"no length", [](WorkloadWriter& w) { add_map(w, Op::kMunmap, 0); }},
      {"too long", [](WorkloadWriter& w) { add_map(w, Op::kMremap, ~std::uint64_t{0}); }},
      {"beyond its mapping", [](WorkloadWriter& w) { add_map(w, Op::kMunmap, 8192, 12288); }},
      {"beyond its mapping",
       [](WorkloadWriter& w) { add_map(w, Op::kMadvise, 4096, ~std::uint64_t{0}, 4); }},
      {"beyond its mapping",
       [](WorkloadWriter& w) { add_map(w, Op::kMmap, 4096, 16384, kAnonymous, wire::kOpInPlace); }},
      {"last part", [](WorkloadWriter& w) { add_map(w, Op::kMunmap, 16384); }},
      {"last part",
       [](WorkloadWriter& w) { add_map(w, Op::kMunmap, 4096, 0, 0, wire::kOpFreesBlock); }},
      {"more is unmapped",
       [](WorkloadWriter& w) {
         add_map(w, Op::kMunmap, 12288);
         add_map(w, Op::kMunmap, 8192);
       }},
      {"holes",
       [](WorkloadWriter& w) {
         add_map(w, Op::kMunmap, 4096);
         add_map(w, Op::kMremap, 8192);
       }},
      {"advice", [](WorkloadWriter& w) { add_map(w, Op::kMadvise, 4096, 0, 100); }},
      {"cannot be replayed",
       [](WorkloadWriter& w) {
         add_map(w, Op::kMmap, 4096, 0, wire::pack_prot_flags(3, wire::kMapPrivate), 0, 2);
       }},
      {"cannot be replayed",
       [](WorkloadWriter& w) {
         add_map(w, Op::kMmap, 4096, 0, kAnonymous | std::uint64_t{wire::kMapFixed} << 32, 0, 2);
       }},
      {"break", [](WorkloadWriter& w) { add_map(w, Op::kBrk, 4096); }},
  };
  for (const auto& c : cases) {
    const Verdict v = verdict_of(1, 2, 0, [&c](WorkloadWriter& w) {
      add_map(w, Op::kMmap, 16384, 0, kAnonymous);
      c.build(w);
    });
    EXPECT_FALSE(v.ok) << c.expected;
    EXPECT_NE(v.message.find(c.expected), std::string::npos) << v.message;
  }
}

TEST(WorkloadValidate, RejectsWhatAReplayCouldNotSurvive) {
  const struct {
    const char* expected;
    std::function<void(WorkloadWriter&)> build;
  } cases[] = {
      {"still holds a block",
       [](WorkloadWriter& w) { add(w, 0, Op::kNew, 1), add(w, 0, Op::kNew, 1); }},
      {"empty slot", [](WorkloadWriter& w) { add(w, 0, Op::kFree, 1); }},
      {"empty slot", [](WorkloadWriter& w) { add(w, 0, Op::kRealloc, 1); }},
      {"empty slot", [](WorkloadWriter& w) { add(w, 0, Op::kMallocUsableSize, 1); }},
      {"empty slot", [](WorkloadWriter& w) { add(w, 0, Op::kRealloc, 1, 9, wire::kOpFailed); }},
      {"out of range", [](WorkloadWriter& w) { add(w, 0, Op::kMalloc, 4); }},
      {"fills slot 0", [](WorkloadWriter& w) { add(w, 0, Op::kMalloc, 0); }},
      {"uses slot 0", [](WorkloadWriter& w) { add(w, 0, Op::kRealloc, 0); }},
      {"failed op has a slot",
       [](WorkloadWriter& w) { add(w, 0, Op::kMalloc, 1, 8, wire::kOpFailed); }},
      {"flags", [](WorkloadWriter& w) { add(w, 0, Op::kMalloc, 1, 8, wire::kOpFromNull); }},
      {"flags", [](WorkloadWriter& w) { add(w, 0, Op::kRealloc, 1, 8, 0x80); }},
      {"flags", [](WorkloadWriter& w) { add(w, 0, Op::kFree, 0, 0, wire::kOpFailed); }},
      {"unknown opcode", [](WorkloadWriter& w) { add(w, 0, static_cast<Op>(40), 1); }},
      {"unknown opcode", [](WorkloadWriter& w) { add(w, 0, static_cast<Op>(120), 1); }},
      {"unknown opcode", [](WorkloadWriter& w) { add(w, 0, Op::kThreadStart, 0, 0); }},
      {"names no other lane", [](WorkloadWriter& w) { ASSERT_TRUE(w.append_wait(0, 0, 1).ok()); }},
      {"names no other lane", [](WorkloadWriter& w) { ASSERT_TRUE(w.append_wait(0, 7, 1).ok()); }},
      {"names no other lane", [](WorkloadWriter& w) { ASSERT_TRUE(w.append_spawn(0, 1).ok()); }},
  };
  for (const auto& c : cases) {
    const Verdict v = verdict_of(1, 1, 0, c.build);
    EXPECT_FALSE(v.ok);
    EXPECT_NE(v.message.find(c.expected), std::string::npos) << v.message;
  }
}

TEST(WorkloadValidate, FindsADeadlock) {
  const Verdict v = verdict_of(2, 1, 0, [](WorkloadWriter& w) {
    ASSERT_TRUE(w.append_spawn(0, 1).ok());
    ASSERT_TRUE(w.append_wait(0, 1, 3).ok());  // lane 1 gets there after its own wait
    ASSERT_TRUE(w.append_wait(1, 0, 4).ok());
  });
  EXPECT_FALSE(v.ok);
  EXPECT_NE(v.message.find("deadlock"), std::string::npos) << v.message;
}

TEST(WorkloadValidate, AWaitForAPositionThatIsNeverPublishedIsADeadlock) {
  for (const bool publish : {false, true}) {
    const Verdict v = verdict_of(2, 2, 2, [publish](WorkloadWriter& w) {
      ASSERT_TRUE(w.append_spawn(0, 1).ok());
      add(w, 0, Op::kMalloc, 1);
      if (publish) {
        ASSERT_EQ(w.publish(0, 2), 2u);
      }
      ASSERT_TRUE(w.append_wait(1, 0, 2).ok());
      add(w, 1, Op::kMalloc, 2);
      ASSERT_EQ(w.publish(1, 3), 3u);
      ASSERT_TRUE(w.append_wait(0, 1, 3).ok());
    });
    EXPECT_EQ(v.ok, publish) << v.message;
  }
}

TEST(WorkloadValidate, ALaneThatNobodySpawnsIsAnError) {
  const Verdict v = verdict_of(2, 1, 0, [](WorkloadWriter&) {});
  EXPECT_FALSE(v.ok);
  EXPECT_NE(v.message.find("never started"), std::string::npos) << v.message;
}

TEST(WorkloadValidate, ThreadsOfALaneFollowOneAnother) {
  for (const bool wait : {false, true}) {
    TempFile temp;
    auto writer = WorkloadWriter::create(temp.path());
    WorkloadWriter& w = *writer;
    w.add_lane();
    w.add_lane();
    ASSERT_TRUE(w.append_spawn(0, 1).ok());
    ASSERT_TRUE(w.append_exit(1).ok());
    const std::uint64_t first_end = w.position(1);
    if (wait) {
      ASSERT_TRUE(w.append_wait(0, 1, first_end).ok());
    }
    ASSERT_TRUE(w.append_spawn(0, 1).ok());
    add(w, 1, Op::kMalloc, 1);
    ASSERT_TRUE(w.append_exit(1).ok());
    ASSERT_TRUE(w.append_exit(0).ok());
    WorkloadWriter::Totals totals;
    totals.slots = totals.end_live_blocks = 1;
    totals.threads = {{.thread = 0, .lane = 0, .first_word = 0, .end_word = w.position(0)},
                      {.thread = 1, .lane = 1, .first_word = 0, .end_word = first_end},
                      {.thread = 2, .lane = 1, .first_word = first_end, .end_word = w.position(1)}};
    ASSERT_TRUE(w.finish(totals).ok());
    auto file = WorkloadFile::open(temp.path());
    ASSERT_TRUE(file.ok()) << file.error().to_string();
    Status status = file->validate();
    EXPECT_EQ(status.ok(), wait) << status.error().to_string();
  }
}

class HostileHeader : public ::testing::Test {
 protected:
  void SetUp() override {
    auto writer = WorkloadWriter::create(temp_.path());
    writer->add_lane();
    add(*writer, 0, Op::kMalloc, 1);
    ASSERT_TRUE(writer->append_exit(0).ok());
    ASSERT_TRUE(writer->finish(totals_of(*writer, 1, 1, 1)).ok());
    good_ = temp_.read();
  }
  // The field of the error after `value` was written at `offset`; "" when all is well.
  template <typename T>
  std::string field_after(std::uint64_t offset, T value) {
    temp_.write(good_);
    temp_.patch(offset, value);
    auto file = WorkloadFile::open(temp_.path());
    if (!file) return file.error().field;
    Status status = file->validate();
    return status ? "" : status.error().field;
  }
  TempFile temp_;
  std::string good_;
};

TEST_F(HostileHeader, EveryFieldIsCheckedAndNamed) {
  EXPECT_EQ(field_after(offsetof(WorkloadHeader, features), std::uint64_t{1}), "");
  EXPECT_EQ(field_after(0, 'x'), "magic");
  EXPECT_EQ(field_after(offsetof(WorkloadHeader, version), std::uint16_t{2}), "version");
  EXPECT_EQ(field_after(offsetof(WorkloadHeader, complete), std::uint16_t{0}), "complete");
  EXPECT_EQ(field_after(offsetof(WorkloadHeader, required_features), std::uint64_t{1} << 40),
            "required_features");
  EXPECT_EQ(field_after(offsetof(WorkloadHeader, end_mapped_bytes), std::uint64_t{7}),
            "end_mapped_bytes");
  EXPECT_EQ(field_after(offsetof(WorkloadHeader, file_bytes), ~std::uint64_t{0}), "file_bytes");
  EXPECT_EQ(field_after(offsetof(WorkloadHeader, order), std::uint32_t{9}), "order");
  EXPECT_EQ(field_after(offsetof(WorkloadHeader, lanes), std::uint32_t{0}), "lanes");
  EXPECT_EQ(field_after(offsetof(WorkloadHeader, lanes), ~std::uint32_t{0}), "lane_table.count");
  EXPECT_EQ(field_after(offsetof(WorkloadHeader, threads), ~std::uint64_t{0}),
            "thread_table.count");
  EXPECT_EQ(field_after(offsetof(WorkloadHeader, slots), ~std::uint64_t{0}), "slots");
  EXPECT_EQ(field_after(offsetof(WorkloadHeader, ops), std::uint64_t{7}), "ops");
  EXPECT_EQ(field_after(offsetof(WorkloadHeader, ops_by_kind) + 8, std::uint64_t{7}),
            "ops_by_kind");
  EXPECT_EQ(field_after(offsetof(WorkloadHeader, sync_points), std::uint64_t{7}), "sync_points");
  EXPECT_EQ(field_after(offsetof(WorkloadHeader, end_live_blocks), std::uint64_t{7}),
            "end_live_blocks");
  const char* sections[] = {"provenance",   "lane_table", "chunk_table",
                            "thread_table", "live_curve", "rss_curve"};
  for (int i = 0; i < 6; ++i) {
    const std::uint64_t at = offsetof(WorkloadHeader, provenance) + i * 16u;
    EXPECT_EQ(field_after(at + 8, ~std::uint64_t{0} / 2), sections[i]);
    EXPECT_EQ(field_after(at, ~std::uint64_t{0} / 2), sections[i]);
  }
}

TEST_F(HostileHeader, EveryTruncationIsAnErrorAndNoCrash) {
  for (std::size_t n = good_.size(); n-- > 0;) {
    ASSERT_EQ(::truncate(temp_.path().c_str(), static_cast<off_t>(n)), 0);
    auto file = WorkloadFile::open(temp_.path());
    EXPECT_FALSE(file.ok()) << n;
  }
}

TEST_F(HostileHeader, EveryFlippedByteIsSurvived) {
  for (std::size_t i = 0; i < good_.size(); ++i) {
    for (const unsigned char flip : {0x01, 0x80, 0xff}) {
      temp_.patch(i, static_cast<char>(good_[i] ^ flip));
      auto file = WorkloadFile::open(temp_.path());
      if (file) (void)file->validate().ok();
    }
    temp_.patch(i, good_[i]);
  }
}

TEST(OpCursor, RefusesWhatReachesBeyondTheEnd) {
  const std::uint64_t words[3] = {wire::wide_op_word(Op::kMalloc, 3, 0, 1), 1, 2};
  EXPECT_TRUE(decode(words, words + 3));
  EXPECT_FALSE(decode(words, words + 2));
  EXPECT_FALSE(decode(words, words));
  const std::uint64_t no_length = wire::wide_op_word(Op::kMalloc, 0, 0, 1);
  EXPECT_FALSE(decode(&no_length, &no_length + 1));
}

}  // namespace
}  // namespace alloctape::formats
