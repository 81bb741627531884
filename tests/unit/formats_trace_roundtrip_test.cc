// What is written comes back: every op, compact and wide, in every kind of block.
#include <random>

#include "temp_trace.h"

namespace alloctape::formats::test {
namespace {

constexpr std::uint64_t kHeap = 0x555555560000, kMmap = 0x7f1234560000;

std::vector<Event> round_trip(const std::vector<Event>& events, TraceWriter::Options options = {}) {
  TempPath path;
  std::vector<StreamEvent> on_stream;
  for (const Event& e : events) on_stream.push_back({0, e});
  write_trace(path.str(), on_stream, options);
  const TraceFile file = open_trace(path.str());
  EXPECT_TRUE(file.warnings().empty());
  EXPECT_FALSE(file.truncated());
  return file.streams().empty() ? std::vector<Event>{} : decode(file, 0);
}

void expect_same(const std::vector<Event>& got, const std::vector<Event>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(describe(got[i]), describe(want[i])) << "event " << i;
  }
}

// An event of any op of a trace, with arguments that such a call can have.
Event random_event(std::mt19937_64& random, std::uint64_t& stamp, std::uint32_t& thread) {
  static const std::vector<wire::Op> ops = [] {
    std::vector<wire::Op> all;
    for (int op = 1; op < 112; ++op) {
      if (wire::op_class(static_cast<wire::Op>(op)) != wire::OpClass::kInvalid) {
        all.push_back(static_cast<wire::Op>(op));
      }
    }
    return all;
  }();
  const auto chance = [&](int percent) { return random() % 100 < static_cast<unsigned>(percent); };
  const auto pointer = [&]() -> std::uint64_t {
    const std::uint64_t base = chance(50) ? kHeap : chance(90) ? kMmap : random() >> 16;
    return (base + random() % (chance(80) ? 1 << 20 : 1ull << 33)) & (chance(95) ? ~7ull : ~0ull);
  };
  Event e;
  e.op = chance(70) ? static_cast<wire::Op>(1 + random() % 5) : ops[random() % ops.size()];
  stamp += chance(90) ? random() % 3000 : random() % (1ull << 40);
  const auto& traits = wire::traits(e.op);
  switch (traits.op_class) {
    case wire::OpClass::kAcquire:
      e.pointer = pointer();
      break;
    case wire::OpClass::kRelease:
    case wire::OpClass::kQuery:
      e.pointer = chance(10) ? 0 : pointer();
      if (traits.op_class == wire::OpClass::kQuery) e.value = e.pointer ? random() % 100'000 : 0;
      break;
    case wire::OpClass::kResize:
      e.old_pointer = chance(20) ? 0 : pointer();
      e.pointer = chance(20) ? e.old_pointer : pointer();
      break;
    default:
      break;
  }
  e.release_stamp = stamp;
  if (traits.op_class == wire::OpClass::kResize && e.old_pointer != e.pointer &&
      e.old_pointer != 0) {
    stamp += random() % (chance(90) ? 100 : 1 << 20);
  }
  e.stamp = stamp;
  if (e.release_stamp == 0) e.release_stamp = e.stamp;
  if (traits.op_class != wire::OpClass::kResize) e.release_stamp = e.stamp;
  if (traits.takes_size) e.size = chance(90) ? random() % 5000 : random() >> 8;
  if (traits.takes_alignment) e.alignment = 1ull << (random() % 20);
  if (chance(10)) e.path |= wire::kPathOtherArena;
  if (chance(3)) e.path |= wire::kPathMapped;
  if (chance(3)) e.path |= wire::kPathGrew;
  if (traits.op_class == wire::OpClass::kAcquire && chance(2)) {
    e.path |= wire::kPathFailed;
    e.pointer = 0;
  }
  if (traits.takes_count && chance(5)) {
    e.count = 3;
    e.value = random() % 1000;
    e.size = e.count * e.value;
  }
  if (traits.op_class == wire::OpClass::kResize && e.pointer != 0 && e.old_pointer != 0 &&
      e.pointer != e.old_pointer) {
    e.path |= wire::kPathMoved;
  }
  if (e.op == wire::Op::kThreadStart) {
    thread = static_cast<std::uint32_t>(random() % 100);
    e.value = random() % 30000;
  }
  e.thread = ThreadIndex{thread};
  if (wire::op_class(e.op) != wire::OpClass::kMeta && chance(1)) {
    e.path |= wire::kPathLate;
    e.thread = ThreadIndex{static_cast<std::uint32_t>(random() % 1000)};
  }
  return e;
}

// What could be told about any event.
void add_random_notes(std::mt19937_64& random, Event& e) {
  const auto value = [&] { return random() >> (20 + random() % 44) & wire::kNoteMax; };
  if (random() % 100 < 40) e.notes |= kNoteUsable, e.usable = value();
  if (random() % 100 < 20) e.notes |= kNoteOldUsable, e.old_usable = value();
  if (random() % 100 < 40) e.notes |= kNoteDuration, e.duration_ticks = value();
}

TEST(TraceRoundTrip, GivesBackRandomEventsOfEveryOp) {
  for (const std::uint32_t block_words : {15u, 64u, 8192u}) {
    for (const bool staged : {false, true}) {
      std::mt19937_64 random(block_words + staged);
      std::vector<Event> events;
      std::uint64_t stamp = 1000;
      std::uint32_t thread = 7;
      for (int i = 0; i < 20'000; ++i) {
        events.push_back(random_event(random, stamp, thread));
        if (block_words == 64) add_random_notes(random, events.back());
      }
      TraceWriter::Options options;
      options.block_words = block_words;
      options.stage_tails = staged;
      expect_same(round_trip(events, options), events);
    }
  }
}

TEST(TraceRoundTrip, SpendsOneWordOnCommonCallsOfAWarmWindow) {
  std::vector<Event> events{acquire(10, kHeap, 24)};
  for (unsigned i = 1; i < 1000; ++i) {
    events.push_back(i % 2 ? release(10 + i, kHeap) : acquire(10 + i, kHeap, 24));
  }
  TempPath path;
  std::vector<StreamEvent> on_stream;
  for (const Event& e : events) on_stream.push_back({0, e});
  write_trace(path.str(), on_stream);
  EXPECT_EQ(open_trace(path.str()).event_words(), 999u + 3u);  // the first is wide: pointer, size
}

TEST(TraceRoundTrip, ReallocThatMovedTakesTwoWordsAndKeepsBothStamps) {
  std::vector<Event> events{acquire(10, kHeap, 24), acquire(20, kMmap, 24),
                            resize(30, 42, kHeap, kMmap + 64, 100)};
  events.back().path = wire::kPathMoved;
  TempPath path;
  write_trace(path.str(), {{0, events[0]}, {0, events[1]}, {0, events[2]}});
  const TraceFile file = open_trace(path.str());
  EXPECT_EQ(file.event_words(), 3u + 3u + 2u);
  expect_same(decode(file, 0), events);
}

TEST(TraceRoundTrip, AnOverflowingProductSaturatesAndKeepsCountAndElementSize) {
  Event e = make_event(wire::Op::kCalloc, 5, 0, ~0ull);
  e.count = 1ull << 40;
  e.value = 1ull << 40;
  e.path = wire::kPathFailed;
  const auto got = round_trip({e});
  expect_same(got, {e});
}

TEST(TraceRoundTrip, AStampThatFallsIsKept) {
  expect_same(round_trip({acquire(100, kHeap, 8), release(90, kHeap)}),
              {acquire(100, kHeap, 8), release(90, kHeap)});
}

TEST(TraceRoundTrip, KeepsThreadsThatShareAStreamApart) {
  std::vector<Event> events;
  for (std::uint32_t thread = 0; thread < 5; ++thread) {
    Event start = make_event(wire::Op::kThreadStart, thread * 100);
    start.thread = ThreadIndex{thread};
    start.value = 4000 + thread;
    Event call = acquire(thread * 100 + 10, kHeap + thread * 64, 32);
    call.thread = ThreadIndex{thread};
    Event end = make_event(wire::Op::kThreadEnd, thread * 100 + 20);
    end.thread = ThreadIndex{thread};
    events.insert(events.end(), {start, call, end});
  }
  expect_same(round_trip(events), events);
}

TEST(TraceRoundTrip, RefusesAnotherThreadWithoutThreadStart) {
  TempPath path;
  auto writer = TraceWriter::create(path.str(), {});
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE(writer->append(StreamIndex{0}, acquire(1, kHeap, 8)).ok());
  Event other = acquire(2, kHeap + 16, 8);
  other.thread = ThreadIndex{1};
  const Status status = writer->append(StreamIndex{0}, other);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().field, "thread");
}

TEST(TraceRoundTrip, KeepsMetadataAndRssSamples) {
  TraceWriter::Options options;
  options.pid = 77;
  options.parent_pid = 76;
  options.clock_kind = wire::ClockKind::kTsc;
  options.clock_shift = 3;
  options.ticks_per_second = 2'000'000'000;
  options.features = wire::kFeatureStrictOrder;
  auto& m = options.metadata;
  m.executable = "/usr/bin/program";
  m.command_line = {"program", "", "--flag=1"};
  m.working_directory = "/tmp";
  m.preload = "libjemalloc.so.2";
  m.allocator_path = "/usr/lib/libjemalloc.so.2";
  m.allocator_build_id = "00ff";
  m.tracer_version = "0.1.0";
  m.options = "strict=1";
  m.host_kernel = "6.1.0";
  TempPath path;
  write_trace(path.str(), {}, options, {{30, 2, 3}, {10, 5, 6}});
  const TraceFile file = open_trace(path.str());
  EXPECT_EQ(file.header().pid, 77u);
  EXPECT_EQ(file.header().features, wire::kFeatureStrictOrder);
  EXPECT_EQ(file.metadata().executable, m.executable);
  EXPECT_EQ(file.metadata().command_line, m.command_line);
  EXPECT_EQ(file.metadata().working_directory, m.working_directory);
  EXPECT_EQ(file.metadata().preload, m.preload);
  EXPECT_EQ(file.metadata().allocator_path, m.allocator_path);
  EXPECT_EQ(file.metadata().allocator_build_id, m.allocator_build_id);
  EXPECT_EQ(file.metadata().tracer_version, m.tracer_version);
  EXPECT_EQ(file.metadata().options, m.options);
  EXPECT_EQ(file.metadata().host_kernel, m.host_kernel);
  ASSERT_EQ(file.rss().size(), 2u);
  EXPECT_EQ(file.rss()[0].ticks, 10u);  // sorted
  EXPECT_EQ(file.rss()[1].anon_bytes, 2u);
  EXPECT_EQ(file.to_ns(1000), 4000u);  // 1000 << 3 ticks of half a nanosecond
  EXPECT_EQ(file.ns_to_units(10'000), 2500u);
  EXPECT_TRUE(file.streams().empty());
}

}  // namespace
}  // namespace alloctape::formats::test
