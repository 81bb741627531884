// What `stat` counts, on traces and workloads of a few events.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <unordered_map>

#include "analysis/heap_statistics.h"
#include "analysis/histogram.h"
#include "analysis/input.h"
#include "analysis/stat_render.h"
#include "analysis/trace_summary.h"
#include "tests/unit/temp_trace.h"
#include "tests/unit/temp_workload.h"

namespace alloctape::analysis {
namespace {

using formats::Event;
using formats::test::acquire;
using formats::test::make_event;
using formats::test::release;
using formats::test::resize;
using formats::test::StreamEvent;
using formats::test::TempPath;
using wire::Op;

std::size_t at(Op op) { return static_cast<std::size_t>(op); }

Statistics stat_of(const std::vector<StreamEvent>& events,
                   const formats::TraceWriter::Options& options = {}) {
  TempPath path;
  formats::test::write_trace(path.str(), events, options);
  return trace_statistics(open_trace(path.str()), {});
}

Event by_thread(std::uint32_t thread, Event event) {
  event.thread = formats::ThreadIndex{thread};
  return event;
}

TEST(Histograms, BucketsByPowersOfTwoMeetAtTheirEdges) {
  EXPECT_EQ(Log2Histogram::bucket(0), 0u);
  EXPECT_EQ(Log2Histogram::bucket(1), 1u);
  for (std::size_t b = 1; b < Log2Histogram::kBuckets; ++b) {
    EXPECT_EQ(Log2Histogram::bucket(Log2Histogram::lowest(b)), b);
    EXPECT_EQ(Log2Histogram::bucket(Log2Histogram::highest(b)), b);
    EXPECT_EQ(Log2Histogram::highest(b - 1) + 1, Log2Histogram::lowest(b));
  }
  EXPECT_EQ(Log2Histogram::highest(64), ~std::uint64_t{0});
}

TEST(Histograms, DecadesMeetAtTheirEdges) {
  for (std::size_t b = 1; b < DecadeHistogram::kBuckets; ++b) {
    DecadeHistogram h;
    h.add(DecadeHistogram::lowest_ns(b));
    h.add(DecadeHistogram::lowest_ns(b) - 1);
    EXPECT_EQ(h.count[b], 1u) << b;
    EXPECT_EQ(h.count[b - 1], 1u) << b;
  }
  DecadeHistogram h;
  h.add(~std::uint64_t{0});
  EXPECT_EQ(h.count[DecadeHistogram::kBuckets - 1], 1u);
}

TEST(Statistics, OfAnEmptyTraceAreZero) {
  const Statistics s = stat_of({});
  EXPECT_EQ(s.events, 0u);
  EXPECT_EQ(s.duration_ns, 0u);
  EXPECT_EQ(s.threads, 0u);
  const Json json = to_json(s);
  EXPECT_TRUE(json["requested_bytes"]["min"].is_null());
  EXPECT_EQ(json["calls"], Json::object());
}

TEST(Statistics, AnUnseenBlockCountsFromItsResizeOn) {
  const Statistics s = stat_of({{0, release(10, 0x1000)},
                                {0, resize(20, 21, 0x2000, 0x3000, 100)},
                                {0, resize(30, 31, 0x3000, 0x3000, 50)}});
  EXPECT_EQ(s.order.unseen_releases, 2u);
  EXPECT_EQ(s.unseen_resizes, 1u);
  EXPECT_EQ(s.calls[at(Op::kRealloc)], 2u);
  EXPECT_EQ(s.resizes_in_place, 1u);
  EXPECT_EQ(s.requested_total, 150u);
  EXPECT_EQ(s.live.peak_bytes, 100u);
  EXPECT_EQ(s.live.bytes, 50u);
}

TEST(Statistics, FailedAndNullCallsAskForNothing) {
  Event failed = acquire(20, 0, 1 << 30);
  failed.path = wire::kPathFailed;
  Event failed_resize = resize(30, 31, 0x1000, 0, 1 << 30);
  failed_resize.path = wire::kPathFailed;
  const Statistics s =
      stat_of({{0, acquire(10, 0x1000, 8)}, {0, failed}, {0, failed_resize}, {0, release(40, 0)}});
  EXPECT_EQ(s.failed[at(Op::kMalloc)], 1u);
  EXPECT_EQ(s.failed[at(Op::kRealloc)], 1u);
  EXPECT_EQ(s.null[at(Op::kFree)], 1u);
  EXPECT_EQ(s.requested_total, 8u);
  EXPECT_EQ(s.live.bytes, 8u);
  EXPECT_EQ(s.api_events, 4u);
  EXPECT_EQ(s.frees, 0u);
}

TEST(Statistics, ABlockIsTemporaryWhenItsThreadAcquiredNothingMeanwhile) {
  const Statistics s = stat_of({{0, acquire(10, 0x1000, 8)},
                                {0, release(20, 0x1000)},  // temporary
                                {0, acquire(30, 0x1000, 8)},
                                {0, acquire(40, 0x2000, 8)},
                                {0, release(50, 0x1000)},    // not: 0x2000 came between
                                {0, release(60, 0x2000)}});  // temporary
  EXPECT_EQ(s.frees, 3u);
  EXPECT_EQ(s.temporary_blocks, 2u);
  EXPECT_EQ(s.lifetime_ns.count[1], 3u);  // 10, 20 and 20 ns
}

TEST(Statistics, FreesByAnotherThreadAreCounted) {
  const Statistics s = stat_of({{0, by_thread(0, acquire(1000, 0x1000, 8))},
                                {1, by_thread(1, release(2000, 0x1000))},
                                {0, by_thread(0, acquire(3000, 0x1000, 8))},
                                {0, by_thread(0, release(4000, 0x1000))}});
  EXPECT_EQ(s.cross_thread_frees, 1u);
  EXPECT_EQ(s.threads, 2u);
  EXPECT_EQ(s.thread_shares.at(0).calls, 3u);
  EXPECT_EQ(s.thread_shares.at(1).calls, 1u);
}

TEST(Statistics, LifetimesAreInNanosecondsWhateverTheClock) {
  formats::TraceWriter::Options options;
  options.clock_kind = wire::ClockKind::kTsc;
  options.ticks_per_second = 2'000'000'000;
  options.clock_shift = 3;  // a unit is 4 ns
  const Statistics s =
      stat_of({{0, acquire(1000, 0x1000, 8)}, {0, release(1250, 0x1000)}}, options);
  EXPECT_EQ(s.duration_ns, 1000u);
  EXPECT_EQ(s.lifetime_ns.count[3], 1u);  // 1000 ns
}

// Against a model that knows nothing of walks and words.
TEST(Statistics, OfOneThreadAreExact) {
  std::mt19937_64 random(7);
  std::unordered_map<std::uint64_t, std::uint64_t> live;
  std::vector<std::uint64_t> addresses;
  std::vector<StreamEvent> events;
  std::uint64_t bytes = 0, peak = 0, total = 0, peak_blocks = 0, stamp = 0, next = 0x100000;
  for (int i = 0; i < 20000; ++i) {
    stamp += random() % 50;
    const std::uint64_t size = random() % 5000;
    const auto kind = random() % 10;
    if (addresses.empty() || kind < 4) {
      events.push_back({0, acquire(stamp, next, size)});
      live[next] = size;
      addresses.push_back(next);
      next += 8192;
      bytes += size;
      total += size;
    } else {
      const std::size_t pick = random() % addresses.size();
      const std::uint64_t address = addresses[pick];
      if (kind < 8) {
        events.push_back({0, release(stamp, address)});
        bytes -= live[address];
        live.erase(address);
        addresses[pick] = addresses.back();
        addresses.pop_back();
      } else {
        const std::uint64_t target = kind == 8 ? address : next;
        if (kind == 9) next += 8192;
        events.push_back({0, resize(stamp, stamp, address, target, size)});
        bytes = bytes - live[address] + size;
        total += size;
        live.erase(address);
        live[target] = size;
        addresses[pick] = target;
      }
    }
    peak = std::max(peak, bytes);
    peak_blocks = std::max<std::uint64_t>(peak_blocks, live.size());
  }
  const Statistics s = stat_of(events);
  EXPECT_EQ(s.api_events, events.size());
  EXPECT_EQ(s.live.peak_bytes, peak);
  EXPECT_EQ(s.live.bytes, bytes);
  EXPECT_EQ(s.live.blocks, live.size());
  EXPECT_EQ(s.live.peak_blocks, peak_blocks);
  EXPECT_EQ(s.requested_total, total);
  EXPECT_EQ(s.order.unrepairable, 0u);
}

TEST(Statistics, OfAWorkloadComeFromItsOps) {
  formats::testing::TempFile path;
  auto writer = formats::WorkloadWriter::create(path.path());
  ASSERT_TRUE(writer.ok());
  const auto lane = writer->add_lane();
  formats::Op op;
  op.op = Op::kMalloc;
  op.slot = 1;
  op.size = std::uint64_t{5} << 32;  // needs a wide op
  ASSERT_TRUE(writer->append(lane, op).ok());
  op = {.op = Op::kAlignedAlloc, .slot = 2, .size = 64, .alignment = 64};
  ASSERT_TRUE(writer->append(lane, op).ok());
  op = {.op = Op::kMalloc, .flags = wire::kOpFailed, .size = 1000};
  ASSERT_TRUE(writer->append(lane, op).ok());
  op = {.op = Op::kFree};
  ASSERT_TRUE(writer->append(lane, op).ok());
  ASSERT_TRUE(writer->append_exit(lane).ok());
  ASSERT_TRUE(writer->finish(formats::testing::totals_of(*writer, 1, 2, 2)).ok());
  const Statistics s = workload_statistics(open_workload(path.path()), {});
  EXPECT_EQ(s.api_events, 4u);
  EXPECT_EQ(s.requests, 2u);
  EXPECT_EQ(s.requested_total, (std::uint64_t{5} << 32) + 64);
  EXPECT_EQ(s.aligned_requests, 1u);
  EXPECT_EQ(s.failed[at(Op::kMalloc)], 1u);
  EXPECT_EQ(s.null[at(Op::kFree)], 1u);
}

TEST(Summary, CountsThreadsOfSharedStreams) {
  TempPath path;
  formats::test::write_trace(path.str(), {{0, by_thread(0, acquire(10, 0x1000, 8))},
                                          {0, by_thread(1, make_event(Op::kThreadStart, 20))},
                                          {0, by_thread(1, acquire(30, 0x2000, 8))}});
  const DecodedCounts counts = count_events(open_trace(path.str()), {});
  EXPECT_EQ(counts.events, 3u);
  EXPECT_EQ(counts.api_events, 2u);
  EXPECT_EQ(counts.threads, 2u);
  EXPECT_EQ(counts.last_stamp - counts.first_stamp, 20u);
}

TEST(Summary, TimesOfDayAreInUtc) {
  EXPECT_EQ(utc_time(0), "-");
  EXPECT_EQ(utc_time(1'000'000'000'000'000'000), "2001-09-09 01:46:40 UTC");
}

TEST(Input, ControlCharactersDoNotReachTheTerminal) {
  EXPECT_EQ(printable("a\033[31mb\n"), "a\\x1b[31mb\\x0a");
  EXPECT_EQ(printable("grün"), "grün");
}

TEST(Input, WhatIsNoUtf8IsShownByItsBytes) {
  EXPECT_EQ(printable("a\xff\xc3"), "a\\xff\\xc3");
  EXPECT_EQ(printable("\xc0\xaf"), "\\xc0\\xaf");                // longer than need be
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");       // a surrogate
  EXPECT_EQ(printable("\xc2\x9b"), "\\xc2\\x9b");                // steers terminals
  EXPECT_EQ(printable("\xf0\x9f\x8d\x80"), "\xf0\x9f\x8d\x80");  // a four-leaf clover
}

TEST(Histograms, QuantilesAreRightWithinThreePercent) {
  QuantileHistogram h;
  EXPECT_EQ(h.quantile(0.5), 0u);
  for (std::uint64_t i = 1; i <= 100'000; ++i) h.add(i);
  EXPECT_EQ(h.count(), 100'000u);
  EXPECT_DOUBLE_EQ(h.mean(), 50'000.5);
  for (const double share : {0.001, 0.1, 0.5, 0.9, 0.99, 0.999}) {
    const double want = share * 100'000;
    EXPECT_GE(static_cast<double>(h.quantile(share)), want);
    EXPECT_LE(static_cast<double>(h.quantile(share)), want * 1.033 + 1);
  }
  EXPECT_EQ(h.quantile(1), 100'000u);
  QuantileHistogram far;
  far.add(~std::uint64_t{0});
  EXPECT_EQ(far.quantile(0.5), ~std::uint64_t{0});
}

TEST(TraceStatistics, UsableSizesAndDurationsComeFromTheNotes) {
  Event first = acquire(10, 0x1000, 100), second = acquire(20, 0x2000, 28),
        last = release(30, 0x1000);
  first.notes = second.notes = formats::kNoteUsable | formats::kNoteDuration;
  first.usable = 104;
  second.usable = 40;
  first.duration_ticks = 50;
  second.duration_ticks = 150;
  last.notes = formats::kNoteDuration;
  last.duration_ticks = 7;
  const Json json = to_json(stat_of({{0, first}, {0, second}, {0, last}}));
  EXPECT_EQ(json["usable"]["requested_bytes"], 128);
  EXPECT_EQ(json["usable"]["usable_bytes"], 144);
  EXPECT_DOUBLE_EQ(json["usable"]["overhead"].get<double>(), 16.0 / 144);
  EXPECT_EQ(json["usable"]["by_size"].size(), 2u);
  EXPECT_EQ(json["latency"]["malloc"]["count"], 2);
  EXPECT_EQ(json["latency"]["malloc"]["mean_ns"], 100);
  EXPECT_EQ(json["latency"]["malloc"]["max_ns"], 150);
  EXPECT_EQ(json["latency"]["free"]["p50_ns"], 7);
  EXPECT_EQ(json["latency_by_size"].size(), 2u);
  const Json without = to_json(stat_of({{0, acquire(10, 0x1000, 100)}}));
  EXPECT_TRUE(without["usable"].is_null());
  EXPECT_TRUE(without["latency"].is_null());
}

TEST(TraceStatistics, WhatWasSeenOnlyWhenReleasedIsToldApart) {
  Event known = release(20, 0x2000);
  known.notes = formats::kNoteOldUsable;
  known.old_usable = 300;
  const Json json = to_json(stat_of({{0, acquire(10, 0x1000, 100)},
                                     {0, known},
                                     {0, release(30, 0x3000)},
                                     {0, make_event(Op::kPause, 40)},
                                     {0, make_event(Op::kResume, 50)},
                                     {0, acquire(60, 0x1000, 1)}}));
  EXPECT_EQ(json["prologue"]["blocks"], 1);
  EXPECT_EQ(json["prologue"]["bytes"], 300);
  EXPECT_EQ(json["prologue"]["unknown_blocks"], 1);
  EXPECT_EQ(json["prologue"]["share_of_peak"], 0.75);
  EXPECT_EQ(json["order"]["lost_in_gap"], 1);
  EXPECT_EQ(json["live"]["peak_bytes"], 400);
  EXPECT_EQ(json["pauses"], 1);
}

}  // namespace
}  // namespace alloctape::analysis
