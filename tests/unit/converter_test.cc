// What the converter makes of each kind of event, and what it leaves on disk.
#include "converter/converter.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "converter/summary_text.h"
#include "formats/workload_cursor.h"
#include "formats/workload_file.h"
#include "tests/unit/random_program.h"
#include "tests/unit/temp_trace.h"

namespace alloctape::converter {
namespace {

using formats::Event;
using formats::OpView;
using formats::ThreadIndex;
using formats::TraceWriter;
using formats::WorkloadFile;
using formats::test::acquire;
using formats::test::make_event;
using formats::test::release;
using formats::test::resize;
using formats::test::StreamEvent;
using formats::test::TempPath;
using wire::Op;

constexpr std::uint64_t kA = 0x7f0000000000, kB = kA + 0x1000, kC = kA + 0x2000;

Event of_thread(Event e, std::uint32_t thread) {
  e.thread = ThreadIndex{thread};
  return e;
}
Event failed(Event e) {
  e.path |= wire::kPathFailed;
  e.pointer = 0;
  return e;
}

struct Converted {
  ConvertSummary summary;
  std::optional<WorkloadFile> file;
  std::vector<std::vector<OpView>> lanes;  // the last is the prologue
  std::string provenance;

  // API ops of a lane.
  std::vector<OpView> calls(std::size_t lane) const {
    std::vector<OpView> result;
    for (const OpView& op : lanes[lane]) {
      if (wire::is_api_op(op.op)) result.push_back(op);
    }
    return result;
  }
  std::vector<OpView> prologue() const { return lanes.back(); }
};

Converted converted(const std::vector<StreamEvent>& events, ConvertOptions options = {},
                    const TraceWriter::Options& trace_options = {},
                    const std::vector<wire::RssSample>& rss = {}) {
  TempPath trace, workload(".awl");
  formats::test::write_trace(trace.str(), events, trace_options, rss);
  auto summary = convert(formats::test::open_trace(trace.str()), workload.str(), options);
  if (!summary) throw std::runtime_error(summary.error().to_string());
  Converted c{*summary, {}, {}, {}};
  auto file = WorkloadFile::open(workload.str());
  if (!file) throw std::runtime_error(file.error().to_string());
  formats::Status status = file->validate();
  if (!status) throw std::runtime_error(status.error().to_string());
  c.file = *file;
  c.provenance = file->provenance();
  for (const wire::LaneEntry& entry : file->lanes()) {
    auto& lane = c.lanes.emplace_back();
    for (const auto& chunk : file->chunks().subspan(entry.first_chunk, entry.chunks)) {
      const auto words = file->words(chunk);
      const std::uint64_t* end = words.data() + words.size();
      for (const std::uint64_t* p = words.data(); p < end; p += lane.back().words) {
        lane.push_back(formats::decode(p, end));
        if (!lane.back()) throw std::runtime_error("undecodable op");
      }
    }
  }
  return c;
}

TEST(Converter, TurnsCallsIntoOpsWithRecycledSlots) {
  const Converted c = converted({{0, acquire(1000, kA, 10)},
                                 {0, release(2000, kA)},
                                 {0, acquire(3000, kA, 20)},
                                 {0, acquire(4000, kB, 30)},
                                 {0, resize(5000, 5001, kB, kC, 40)}});
  const auto calls = c.calls(0);
  ASSERT_EQ(calls.size(), 5u);
  EXPECT_EQ(calls[2].slot, calls[0].slot);
  EXPECT_EQ(calls[4].slot, calls[3].slot);
  EXPECT_EQ(calls[4].op, Op::kRealloc);
  EXPECT_EQ(calls[4].flags, 0);
  EXPECT_EQ(c.summary.slots, 2u);
  EXPECT_EQ(c.summary.peak_live_bytes, 60u);
  EXPECT_EQ(c.summary.end_live_blocks, 2u);
  EXPECT_EQ(c.summary.sync_points, 0u);
}

TEST(Converter, CountsWhatHasNoBlock) {
  Event overflow = failed(make_event(Op::kCalloc, 3000, 0, ~std::uint64_t{0}));
  overflow.count = std::uint64_t{1} << 40;
  overflow.value = std::uint64_t{1} << 41;  // the element size
  const Converted c = converted({{0, release(1000, 0)},
                                 {0, failed(acquire(2000, 0, 1ull << 60))},
                                 {0, overflow},
                                 {0, make_event(Op::kMallocUsableSize, 4000, 0)},
                                 {0, resize(5000, 5000, 0, kA, 10)},
                                 {0, failed(resize(6000, 6000, kA, 0, 1ull << 60))},
                                 {0, resize(7000, 7000, kA, 0, 0)}});
  EXPECT_EQ(c.summary.null_releases, 1u);
  EXPECT_EQ(c.summary.null_queries, 1u);
  EXPECT_EQ(c.summary.failed_calls, 3u);
  EXPECT_EQ(c.summary.reallocs_from_null, 1u);
  EXPECT_EQ(c.summary.reallocs_to_zero, 1u);
  EXPECT_EQ(c.summary.ops, 7u);
  EXPECT_EQ(c.summary.end_live_blocks, 0u);
  const auto calls = c.calls(0);
  EXPECT_EQ(calls[1].flags, wire::kOpFailed);
  EXPECT_EQ(calls[2].count, std::uint64_t{1} << 40);
  EXPECT_EQ(calls[2].size, std::uint64_t{1} << 41);
  EXPECT_EQ(calls[2].requested_bytes(), ~std::uint64_t{0});
  EXPECT_EQ(calls[4].flags, wire::kOpFromNull);
  EXPECT_EQ(calls[5].flags, wire::kOpFailed);
  EXPECT_EQ(calls[5].slot, calls[4].slot);
  EXPECT_EQ(calls[6].flags, wire::kOpFreesBlock);
}

TEST(Converter, PutsBlocksFromBeforeTheRecordingIntoThePrologue) {
  Event query = make_event(Op::kMallocUsableSize, 1000, kA);
  query.value = 104;
  Event sized = make_event(Op::kDeleteSizedAligned, 4000, kC, 24);
  sized.alignment = 64;
  const Converted c = converted({{0, query},
                                 {0, query},
                                 {0, release(2000, kA)},
                                 {0, resize(3000, 3000, kB, kB, 500)},
                                 {0, sized}});
  EXPECT_EQ(c.summary.prologue_blocks, 3u);
  EXPECT_EQ(c.summary.order.unseen_releases, 3u);
  EXPECT_EQ(c.summary.order.unseen_queries, 2u);
  ASSERT_EQ(c.prologue().size(), 3u);
  EXPECT_EQ(c.prologue()[0].size, 104u);  // what the allocator said
  EXPECT_EQ(c.prologue()[1].size, 16u);   // nothing is known
  EXPECT_EQ(c.prologue()[2].size, 64u);   // a size class that the aligned delete will expect
  const auto calls = c.calls(0);
  EXPECT_EQ(calls[0].slot, calls[2].slot);
  // They count from the resize that told a size.
  EXPECT_EQ(c.summary.peak_live_bytes, 500u);
  EXPECT_EQ(c.summary.end_live_blocks, 1u);
  EXPECT_EQ(c.summary.ops, 5u);
}

Event sized(Event e, std::uint64_t old_usable) {
  e.notes |= formats::kNoteOldUsable;
  e.old_usable = old_usable;
  return e;
}

TEST(Converter, BlocksWhoseReleaseTellsTheirSizeAreLiveFromTheStart) {
  Event sized_delete = sized(release(40, kC), 56);
  sized_delete.op = Op::kDeleteSized;
  sized_delete.size = 41;
  const Converted c = converted({{0, acquire(10, kA, 100)},
                                 {0, sized(release(20, kB), 1000)},
                                 {0, sized(resize(30, 31, 0x5000, 0x6000, 500), 264)},
                                 {0, sized_delete},
                                 {0, release(50, 0x7000)}});
  EXPECT_EQ(c.summary.prologue_blocks, 4u);
  EXPECT_EQ(c.summary.prologue_unknown_blocks, 1u);
  EXPECT_EQ(c.summary.prologue_bytes, 1000u + 264 + 41);
  ASSERT_EQ(c.prologue().size(), 4u);
  const std::uint64_t sizes[] = {1000, 264, 41, 16};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(c.prologue()[i].size, sizes[i]);
    EXPECT_EQ(c.prologue()[i].flags, i < 3 ? wire::kOpSizeKnown : 0);
  }
  const wire::WorkloadHeader& h = c.file->header();
  EXPECT_EQ(h.prologue_blocks, 4u);
  EXPECT_EQ(h.peak_live_bytes, 100u + 1305);
  EXPECT_EQ(h.peak_live_blocks, 4u);
  EXPECT_EQ(h.end_live_bytes, 600u);
  EXPECT_EQ(h.end_live_blocks, 2u);
  EXPECT_EQ(c.file->live_curve().back().bytes, 600u);
}

TEST(Converter, FreesWhatWasFreedInAPauseWhereItsAddressIsUsedAgain) {
  Event array = acquire(10, kA, 100);
  array.op = Op::kNewArray;
  const Converted c = converted({{0, array},
                                 {0, make_event(Op::kPause, 20)},
                                 {0, make_event(Op::kResume, 30)},
                                 {0, acquire(40, kA, 7)}});
  EXPECT_EQ(c.summary.freed_in_gaps, 1u);
  EXPECT_EQ(c.summary.lost_blocks, 0u);
  EXPECT_EQ(c.summary.slots, 1u);
  EXPECT_EQ(c.summary.end_live_bytes, 7u);
  const auto calls = c.calls(0);
  ASSERT_EQ(calls.size(), 3u);
  EXPECT_EQ(calls[1].op, Op::kDeleteArray);
  EXPECT_EQ(c.summary.ops, c.file->header().ops);
}

// Recordings of random programs that began late, by several threads: the walk and the conversion
// agree about what was live.
TEST(Converter, AWorkloadOfALateRecordingHoldsWhatTheRecordingTells) {
  for (std::uint32_t seed = 0; seed < 40; ++seed) {
    formats::test::ProgramOptions program;
    program.seed = seed;
    program.events = 400;
    std::vector<StreamEvent> late;
    const auto whole = formats::test::ProgramMaker(program).make().trace;
    for (std::size_t i = whole.size() / (2 + seed % 3); i < whole.size(); ++i) {
      late.push_back(whole[i]);
      const wire::OpClass op_class = wire::op_class(late.back().event.op);
      if (op_class == wire::OpClass::kRelease || op_class == wire::OpClass::kResize) {
        late.back().event = sized(late.back().event, 24 + seed * 16);
      }
    }
    for (const auto order : {wire::SyncOrder::kSerial, wire::SyncOrder::kBounded}) {
      ConvertOptions options;
      options.order = order;
      TempPath trace;
      formats::test::write_trace(trace.str(), late);
      formats::HeapVisitor ignore;
      const formats::WalkTotals totals =
          formats::HeapWalk(formats::test::open_trace(trace.str())).run(ignore);
      const Converted c = converted(late, options);
      EXPECT_EQ(c.summary.peak_live_bytes, totals.live.peak_bytes);
      EXPECT_EQ(c.summary.peak_live_blocks, totals.live.peak_blocks);
      EXPECT_EQ(c.summary.end_live_bytes, totals.live.bytes);
      EXPECT_EQ(c.summary.end_live_blocks, totals.live.blocks);
      EXPECT_EQ(c.summary.prologue_bytes, totals.prologue.bytes);
      EXPECT_GT(totals.prologue.blocks, 0u);
      std::uint64_t known_bytes = 0;
      for (const OpView& op : c.prologue()) known_bytes += op.flags != 0 ? op.size : 0;
      EXPECT_EQ(known_bytes, totals.prologue.bytes);
    }
  }
}

TEST(Converter, AHandOverOfManyBlocksNeedsOneSyncPoint) {
  std::vector<StreamEvent> events;
  std::uint64_t now = 1000;
  events.push_back({0, of_thread(make_event(Op::kThreadStart, now++), 0)});
  events.push_back({1, of_thread(make_event(Op::kThreadStart, now++), 1)});
  constexpr int kRounds = 20;
  for (int round = 0; round < kRounds; ++round) {
    for (std::uint64_t i = 0; i < 64; ++i) {
      events.push_back({0, of_thread(acquire(now += 20, kA + i * 64, 64), 0)});
    }
    for (std::uint64_t i = 0; i < 64; ++i) {
      events.push_back({1, of_thread(release(now += 20, kA + i * 64), 1)});
    }
  }
  ConvertOptions options;
  options.order = wire::SyncOrder::kCausal;
  const Converted c = converted(events, options);
  EXPECT_EQ(c.summary.order.unrepairable, 0u);
  EXPECT_LE(c.summary.sync_points, kRounds + 3u);
  EXPECT_GE(c.summary.sync_points, 1u * kRounds);
}

TEST(Converter, ThreadsThatFollowOneAnotherShareALane) {
  std::vector<StreamEvent> events;
  std::uint64_t now = 1000;
  events.push_back({0, of_thread(make_event(Op::kThreadStart, now), 0)});
  for (std::uint32_t thread = 1; thread <= 50; ++thread) {
    events.push_back({0, of_thread(acquire(now += 20'000, kA + thread * 64, 8), 0)});
    events.push_back({1, of_thread(make_event(Op::kThreadStart, now += 20'000), thread)});
    events.push_back({1, of_thread(release(now += 20'000, kA + thread * 64), thread)});
    events.push_back({1, of_thread(make_event(Op::kThreadEnd, now += 20'000), thread)});
  }
  const Converted c = converted(events);
  EXPECT_EQ(c.summary.threads, 51u);
  EXPECT_EQ(c.summary.lanes, 2u);
  EXPECT_EQ(c.summary.unended_threads, 1u);
  EXPECT_EQ(c.file->lanes()[1].threads, 50u);
  for (const wire::ThreadEntry& thread : c.file->threads()) {
    EXPECT_EQ(thread.ops, thread.thread == 0 ? 50u : 1u);
    EXPECT_LE(thread.start_ns, thread.end_ns);
  }
}

TEST(Converter, AThreadWhoseEndWasNotRecordedStaysToTheLastOp) {
  const Converted c = converted({{0, of_thread(make_event(Op::kThreadStart, 1000), 0)},
                                 {1, of_thread(make_event(Op::kThreadStart, 2000), 1)},
                                 {1, of_thread(acquire(3000, kA, 8), 1)},
                                 {0, of_thread(acquire(90'000, kB, 8), 0)}});
  EXPECT_EQ(c.summary.unended_threads, 2u);
  const auto& lane = c.lanes[1];
  ASSERT_GE(lane.size(), 3u);
  EXPECT_EQ(lane.back().op, Op::kExit);
  EXPECT_EQ(lane[lane.size() - 2].op, Op::kWait);
}

TEST(Converter, EventsAfterThreadEndStillBelongToTheThread) {
  Event late = of_thread(release(5000, kA), 1);
  late.path |= wire::kPathLate;
  const Converted c = converted({{0, of_thread(make_event(Op::kThreadStart, 1000), 0)},
                                 {1, of_thread(make_event(Op::kThreadStart, 2000), 1)},
                                 {1, of_thread(acquire(3000, kA, 8), 1)},
                                 {1, of_thread(make_event(Op::kThreadEnd, 4000), 1)},
                                 {2, late},
                                 {0, of_thread(acquire(90'000, kB, 8), 0)}});
  EXPECT_EQ(c.calls(1).size(), 2u);
  EXPECT_EQ(c.lanes[1].back().op, Op::kExit);
  EXPECT_EQ(c.summary.late_ops, 0u);
  EXPECT_EQ(c.file->threads()[1].ops, 2u);
}

TEST(Converter, AnEmptyTraceIsAWorkloadThatDoesNothing) {
  const Converted c = converted({});
  EXPECT_EQ(c.summary.ops, 0u);
  EXPECT_EQ(c.summary.lanes, 1u);
  EXPECT_EQ(c.summary.threads, 1u);
}

TEST(Converter, AnAddressThatIsAcquiredTwiceLosesItsFirstBlock) {
  const Converted c = converted(
      {{0, acquire(1000, kA, 10)}, {0, acquire(50'000, kA, 20)}, {0, release(90'000, kA)}});
  EXPECT_EQ(c.summary.order.unrepairable, 1u);
  EXPECT_EQ(c.summary.lost_blocks, 1u);
  EXPECT_EQ(c.summary.end_live_blocks, 1u);  // the replay holds it to the end
  EXPECT_FALSE(summary_warnings(c.summary).empty());
}

TEST(Converter, MarksRecordedTimeAndCarriesTheRssCurve) {
  std::vector<StreamEvent> events;
  for (std::uint64_t i = 0; i < 100; ++i) {
    events.push_back({0, acquire(1'000'000 + i * 50'000, kA + i * 64, 8)});
  }
  const Converted c = converted(events, {}, {}, {{500'000, 111, 0}, {3'000'000, 222, 0}});
  std::uint64_t marks = 0, last = 0;
  for (const OpView& op : c.lanes[0]) {
    if (op.op != Op::kTime) continue;
    EXPECT_GE(op.size, last + 100'000);
    last = op.size;
    ++marks;
  }
  EXPECT_EQ(marks, 49u);
  EXPECT_EQ(c.summary.recorded_ns, 99u * 50'000);
  ASSERT_EQ(c.file->rss_curve().size(), 2u);
  EXPECT_EQ(c.file->rss_curve()[0].ns, 0u);
  EXPECT_EQ(c.file->rss_curve()[1].bytes, 222u);
  EXPECT_EQ(c.file->rss_curve()[1].ops, 41u);
  ASSERT_FALSE(c.file->live_curve().empty());
  EXPECT_EQ(c.file->live_curve().back().ops, 100u);
  EXPECT_EQ(c.file->live_curve().back().bytes, 800u);
}

TEST(Converter, ProvenanceNamesNoDirectoriesAndNoArguments) {
  TraceWriter::Options trace;
  trace.metadata.executable = "/opt/secret/bin/server";
  trace.metadata.command_line = {"server", "--password=hunter2"};
  trace.metadata.working_directory = "/home/someone";
  trace.metadata.allocator_path = "/usr/lib/libjemalloc.so.2";
  const Converted c = converted({{0, acquire(1000, kA, 10)}}, {}, trace);
  const auto json = nlohmann::json::parse(c.provenance);
  EXPECT_EQ(json["program"], "server");
  EXPECT_EQ(json["recorded_allocator"], "libjemalloc.so.2");
  EXPECT_EQ(json["order"], "bounded");
  for (const char* secret : {"secret", "hunter2", "someone", "/usr"}) {
    EXPECT_EQ(c.provenance.find(secret), std::string::npos) << secret;
  }
}

TEST(Converter, TheSummaryAsJsonHasItsSchema) {
  ConvertSummary summary;
  summary.ops = 4;
  summary.sync_points = 1;
  const auto json = nlohmann::json::parse(summary_json(summary, {}, "a.atrace", "a.awl"));
  EXPECT_EQ(json["schema"], "alloctape.convert/1");
  EXPECT_EQ(json["sync_points_per_op"], 0.25);
  EXPECT_EQ(json["live"]["peak_bytes"], 0);
  EXPECT_NE(summary_text(summary, {}, "a.atrace", "a.awl").find("0.2500 per op"),
            std::string::npos);
}

class ConverterOutput : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = ::testing::TempDir() + "/alloctape-out-" + std::to_string(::getpid());
    std::filesystem::create_directories(directory_);
    formats::test::write_trace(trace_.str(), {{0, acquire(1000, kA, 10)}});
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::size_t files() const {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(directory_), {}));
  }
  formats::Result<ConvertSummary> run(const std::string& output) {
    return convert(formats::test::open_trace(trace_.str()), output, {});
  }
  TempPath trace_;
  std::string directory_;
};

TEST_F(ConverterOutput, ReplacesWhatWasThereAndLeavesNothingElse) {
  const std::string target = directory_ + "/x.awl";
  formats::test::write_bytes(target, "old");
  EXPECT_TRUE(run(target).ok());
  EXPECT_TRUE(WorkloadFile::open(target).ok());
  EXPECT_EQ(files(), 1u);
}

TEST_F(ConverterOutput, FollowsASymbolicLink) {
  const std::string target = directory_ + "/x.awl", link = directory_ + "/link";
  formats::test::write_bytes(target, "old");
  ASSERT_EQ(::symlink(target.c_str(), link.c_str()), 0);
  EXPECT_TRUE(run(link).ok());
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_TRUE(WorkloadFile::open(target).ok());
}

TEST_F(ConverterOutput, RefusesDevicesAndDirectoriesAndMissingDirectories) {
  for (const std::string& target :
       {std::string("/dev/null"), directory_, directory_ + "/missing/x.awl"}) {
    auto result = run(target);
    ASSERT_FALSE(result.ok()) << target;
    EXPECT_NE(result.error().to_string().find(target), std::string::npos)
        << result.error().to_string();
  }
  EXPECT_EQ(files(), 0u);
  struct stat st {};
  ASSERT_EQ(::stat("/dev/null", &st), 0);
  EXPECT_TRUE(S_ISCHR(st.st_mode));
}

}  // namespace
}  // namespace alloctape::converter
