// Files that are cut, torn, tampered with, from a later version, or no traces at all.
#include <sys/stat.h>

#include <random>

#include "formats/heap_walk.h"
#include "temp_trace.h"

namespace alloctape::formats::test {
namespace {

constexpr std::uint64_t kA = 0x555555560000;
constexpr std::size_t kFirstBlock = wire::kTraceHeaderBytes;

// A trace of one stream with `events` calls, in blocks of 20 words.
std::string small_trace(unsigned events, bool staged = false, const TraceMetadata& metadata = {}) {
  TempPath path;
  TraceWriter::Options options;
  options.block_words = 20;
  options.stage_tails = staged;
  options.metadata = metadata;
  std::vector<StreamEvent> list;
  for (unsigned i = 0; i < events; ++i) {
    list.push_back({0, i % 2 ? release(10 * i, kA) : acquire(10 * i, kA, i)});
  }
  write_trace(path.str(), list, options);
  return read_bytes(path.str());
}

// Appends a block as the tracer lays it out.
void append_block(std::string& bytes, wire::BlockHeader header,
                  const std::vector<std::uint64_t>& words, std::uint64_t capacity_words = 0) {
  header.magic = wire::kBlockMagic;
  header.payload_bytes = std::max<std::uint64_t>(words.size(), capacity_words) * 8;
  bytes.resize((bytes.size() + 63) / 64 * 64);
  const std::size_t at = bytes.size();
  bytes.resize((at + sizeof header + header.payload_bytes + 63) / 64 * 64);
  store_at(bytes, at, header);
  std::memcpy(bytes.data() + at + sizeof header, words.data(), words.size() * 8);
}
wire::BlockHeader block(wire::BlockType type, std::uint32_t stream, std::uint64_t sequence,
                        wire::StagingState state = wire::StagingState::kFree) {
  wire::BlockHeader h{};
  h.type = type;
  h.stream = stream;
  h.sequence = sequence;
  h.staging_state = state;
  return h;
}
std::uint64_t wide_malloc(std::vector<std::uint64_t>& words, std::uint64_t pointer) {
  words.push_back(
      wire::wide_word(wire::Op::kMalloc, 3, 0, wire::kFieldPointer | wire::kFieldSize, 1));
  words.push_back(pointer);
  words.push_back(0);  // a size of zero: words inside a record may be zero
  return pointer;
}
std::string empty_trace() { return small_trace(0); }

struct Opened {
  std::unique_ptr<TempPath> path = std::make_unique<TempPath>();
  std::optional<TraceFile> file;
  std::optional<Error> error;
};
Opened open_bytes(const std::string& bytes) {
  Opened o;
  write_bytes(o.path->str(), bytes);
  auto result = TraceFile::open(o.path->str());
  if (result.ok()) {
    o.file = *result;
  } else {
    o.error = result.error();
  }
  return o;
}
Error error_of(const std::string& bytes) {
  const Opened o = open_bytes(bytes);
  EXPECT_TRUE(o.error.has_value());
  return o.error.value_or(Error{});
}

TEST(TraceFile, SaysWhatIsWrongWithTheHeader) {
  const std::string good = small_trace(4);
  const auto tampered = [&](std::size_t at, auto value) {
    std::string bytes = good;
    store_at(bytes, at, value);
    return error_of(bytes);
  };
  EXPECT_EQ(error_of("#!/bin/sh\n").code, ErrorCode::kNotThisFormat);
  EXPECT_EQ(error_of("").code, ErrorCode::kTruncated);
  EXPECT_EQ(error_of(good.substr(0, 5)).code, ErrorCode::kTruncated);
  EXPECT_EQ(error_of(good.substr(0, 383)).code, ErrorCode::kTruncated);
  const Error version = tampered(offsetof(wire::TraceHeader, version), std::uint16_t{2});
  EXPECT_EQ(version.code, ErrorCode::kUnsupportedVersion);
  EXPECT_EQ(version.field, "version");
  EXPECT_EQ(version.offset, 8u);
  EXPECT_EQ(tampered(offsetof(wire::TraceHeader, required_features), 1ull << 63).field,
            "required_features");
  EXPECT_EQ(tampered(offsetof(wire::TraceHeader, header_bytes), 65u).field, "header_bytes");
  EXPECT_EQ(tampered(offsetof(wire::TraceHeader, header_bytes), ~0u).field, "header_bytes");
  EXPECT_EQ(tampered(offsetof(wire::TraceHeader, clock_shift), 64u).field, "clock_shift");
  EXPECT_EQ(tampered(offsetof(wire::TraceHeader, clock_kind), 9u).field, "clock_kind");
  EXPECT_TRUE(open_bytes(good).file.has_value());
}

TEST(TraceFile, RefusesWhatIsNoRegularFile) {
  EXPECT_EQ(TraceFile::open("/").error().code, ErrorCode::kIo);
  EXPECT_EQ(TraceFile::open("/dev/null").error().code, ErrorCode::kIo);
  EXPECT_EQ(TraceFile::open("/no/such/file").error().path, "/no/such/file");
  TempPath fifo;
  ASSERT_EQ(::mkfifo(fifo.str().c_str(), 0600), 0);
  EXPECT_EQ(TraceFile::open(fifo.str()).error().code, ErrorCode::kIo);
}

TEST(TraceFile, ErrorsNameFileOffsetAndField) {
  const Error e{ErrorCode::kCorrupt, "bad", "x.atrace", 12, "size"};
  EXPECT_EQ(e.to_string(), "x.atrace: bad (offset 12, field size)");
  EXPECT_EQ((Error{ErrorCode::kIo, "gone", "x", {}, {}}).to_string(), "x: gone");
}

TEST(TraceFile, CutAtEveryByteGivesAPrefixOrAnError) {
  for (const bool staged : {false, true}) {
    TraceMetadata metadata;
    metadata.executable = "/bin/true";
    metadata.command_line = {"true", "x"};
    const std::string whole = small_trace(60, staged, metadata);
    const Opened reference = open_bytes(whole);
    const std::vector<Event> all = decode(*reference.file, 0);
    ASSERT_EQ(all.size(), 60u);
    std::size_t last = 0;
    for (std::size_t size = 0; size <= whole.size(); ++size) {
      const Opened cut = open_bytes(whole.substr(0, size));
      if (size < sizeof(wire::TraceHeader)) {
        ASSERT_TRUE(cut.error.has_value());
        ASSERT_EQ(cut.error->code, ErrorCode::kTruncated);
        continue;
      }
      ASSERT_TRUE(cut.file.has_value()) << cut.error->to_string();
      if (size < kFirstBlock) {
        ASSERT_TRUE(cut.file->truncated());
      }
      if (cut.file->streams().empty()) continue;
      const std::vector<Event> some = decode(*cut.file, 0);
      ASSERT_GE(some.size(), last);
      ASSERT_LE(some.size(), all.size());
      last = some.size();
      for (std::size_t i = 0; i < some.size(); ++i) ASSERT_EQ(describe(some[i]), describe(all[i]));
      HeapVisitor ignore;
      ASSERT_EQ(HeapWalk(*cut.file).run(ignore).corrupt_blocks, 0u);
    }
    EXPECT_EQ(last, all.size());
  }
}

TEST(TraceFile, TakesTheStagedTailUpToTheFirstUnpublishedRecord) {
  std::string bytes = empty_trace();
  std::vector<std::uint64_t> words;
  wide_malloc(words, kA);
  words.push_back(wire::compact_word(wire::Kind::kFree, 1, 0, wire::window_slot(kA), kA));
  words.push_back(0);   // a record whose first word has not been stored yet,
  words.push_back(kA);  // though its others have
  append_block(bytes, block(wire::BlockType::kStaging, 0, 0, wire::StagingState::kActive), words,
               64);
  const Opened o = open_bytes(bytes);
  ASSERT_EQ(o.file->streams().size(), 1u);
  EXPECT_EQ(o.file->streams()[0][0].words, 4u);
  EXPECT_EQ(decode(*o.file, 0).size(), 2u);
  EXPECT_TRUE(o.file->warnings().empty());
}

TEST(TraceFile, PrefersTheStagedWordsToAHalfWrittenCopy) {
  std::vector<std::uint64_t> words;
  for (int i = 0; i < 5; ++i) wide_malloc(words, kA + 64u * static_cast<unsigned>(i));
  std::vector<std::uint64_t> half = words;
  std::fill(half.begin() + 6, half.end(), 0);
  for (const bool copy_first : {false, true}) {
    std::string bytes = empty_trace();
    if (copy_first) append_block(bytes, block(wire::BlockType::kEvents, 0, 0), half);
    append_block(bytes, block(wire::BlockType::kStaging, 0, 0, wire::StagingState::kActive), words);
    if (!copy_first) append_block(bytes, block(wire::BlockType::kEvents, 0, 0), half);
    const Opened o = open_bytes(bytes);
    EXPECT_EQ(decode(*o.file, 0).size(), 5u);
    EXPECT_TRUE(o.file->warnings().empty());
  }
}

TEST(TraceFile, IgnoresTheWordsOfFlushedAndFreeExtentsButCountsWhatTheyDropped) {
  std::string bytes = empty_trace();
  store_at(bytes, offsetof(wire::TraceHeader, dropped_events), std::uint64_t{3});
  std::vector<std::uint64_t> words;
  wide_malloc(words, kA);
  for (const auto state : {wire::StagingState::kFlushed, wire::StagingState::kFree}) {
    wire::BlockHeader h = block(wire::BlockType::kStaging, 0, 0, state);
    h.dropped_events = 5;
    append_block(bytes, h, words);
  }
  append_block(bytes, block(wire::BlockType::kEvents, 0, 0), words);
  const Opened o = open_bytes(bytes);
  EXPECT_EQ(decode(*o.file, 0).size(), 1u);
  EXPECT_EQ(o.file->dropped_events(), 13u);
}

TEST(TraceFile, StepsOverHolesAndUnknownBlocks) {
  std::string bytes = empty_trace();
  bytes.resize(bytes.size() + 100 * 4096);
  append_block(bytes, block(static_cast<wire::BlockType>(77), 0, 0), {1, 2, 3});
  std::vector<std::uint64_t> words;
  wide_malloc(words, kA);
  append_block(bytes, block(wire::BlockType::kEvents, 0, 0), words);
  const Opened o = open_bytes(bytes);
  EXPECT_EQ(decode(*o.file, 0).size(), 1u);
  EXPECT_TRUE(o.file->warnings().empty());
  EXPECT_FALSE(o.file->truncated());
}

TEST(TraceFile, FindsTheNextBlockAfterJunk) {
  std::string bytes = empty_trace();
  bytes += std::string(640, 'x');
  std::vector<std::uint64_t> words;
  wide_malloc(words, kA);
  append_block(bytes, block(wire::BlockType::kEvents, 0, 0), words);
  const Opened o = open_bytes(bytes);
  EXPECT_EQ(decode(*o.file, 0).size(), 1u);
  ASSERT_EQ(o.file->warnings().size(), 1u);
  EXPECT_EQ(o.file->warnings()[0].offset, kFirstBlock);
  EXPECT_EQ(o.file->warnings()[0].field, "magic");
}

TEST(TraceFile, ReportsGapsAndDuplicates) {
  std::string bytes = empty_trace();
  std::vector<std::uint64_t> words;
  wide_malloc(words, kA);
  append_block(bytes, block(wire::BlockType::kEvents, 4, 0), words);
  append_block(bytes, block(wire::BlockType::kEvents, 4, 2), words);
  append_block(bytes, block(wire::BlockType::kEvents, 4, 2), words);
  append_block(bytes, block(wire::BlockType::kEvents, 9, 0), words);
  const Opened o = open_bytes(bytes);
  ASSERT_EQ(o.file->streams().size(), 2u);  // numbers 4 and 9
  EXPECT_EQ(decode(*o.file, 0).size(), 2u);
  EXPECT_EQ(o.file->warnings().size(), 2u);
  EXPECT_EQ(o.file->warnings()[0].field, "sequence");
}

TEST(TraceFile, CorruptionEndsTheBlockNotTheStream) {
  const std::uint64_t corrupt[] = {
      0,                                                               // empty among events
      wire::wide_word(wire::Op::kFree, 0, 0, 0, 0),                    // no words
      wire::wide_word(wire::Op::kFree, 1, 0, wire::kFieldPointer, 0),  // more fields than words
      wire::wide_word(wire::Op::kFree, 9, 0, wire::kFieldPointer, 0),  // past the end
      wire::compact_word(wire::Kind::kFree, 0, 0, 3, kA),              // window never set
      wire::compact_word(wire::Kind::kReallocFrom, 0, 0, wire::window_slot(kA),
                         kA),                               // no second half
      wire::compact_word(wire::Kind::kNull, 0, 50, 0, 0),  // unknown function
  };
  for (const std::uint64_t word : corrupt) {
    std::string bytes = empty_trace();
    std::vector<std::uint64_t> words;
    wide_malloc(words, kA);
    words.push_back(word);
    append_block(bytes, block(wire::BlockType::kEvents, 0, 0), words);
    words.pop_back();
    append_block(bytes, block(wire::BlockType::kEvents, 0, 1), words);
    const Opened o = open_bytes(bytes);
    std::vector<Error> errors;
    EXPECT_EQ(decode(*o.file, 0, &errors).size(), 2u);
    ASSERT_EQ(errors.size(), 1u) << word;
    EXPECT_EQ(errors[0].code, ErrorCode::kCorrupt);
    EXPECT_EQ(errors[0].offset, kFirstBlock + sizeof(wire::BlockHeader) + 3 * 8);
    HeapVisitor ignore;
    const WalkTotals totals = HeapWalk(*o.file).run(ignore);
    EXPECT_EQ(totals.corrupt_blocks, 1u);
    EXPECT_FALSE(totals.first_corruption.empty());
    EXPECT_EQ(totals.events, 2u);
  }
}

TEST(TraceFile, SkipsOpcodesAndFieldsOfLaterVersionsAndKeepsTheirTime) {
  std::string bytes = empty_trace();
  std::vector<std::uint64_t> words;
  wide_malloc(words, kA);  // time 1
  words.push_back(
      wire::wide_word(static_cast<wire::Op>(200), 4, 0, wire::kFieldPointer | 1 << 14, 7));
  words.insert(words.end(), {0x7f0000000000, 0x1234, 0x5678});
  // A field of a later version behind the known ones.
  words.push_back(wire::wide_word(wire::Op::kFree, 3, 0, wire::kFieldPointer | 1 << 12, 2));
  words.insert(words.end(), {kA, 99});
  // The unknown record's pointer has entered the window table like any other.
  words.push_back(wire::compact_word(wire::Kind::kMalloc, 1, 8, wire::window_slot(0x7f0000000000),
                                     0x7f0000000040));
  append_block(bytes, block(wire::BlockType::kEvents, 0, 0), words);
  const Opened o = open_bytes(bytes);
  const auto events = decode(*o.file, 0);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[1].op, wire::Op::kFree);
  EXPECT_EQ(events[1].stamp, 10u);
  EXPECT_EQ(events[1].fields, wire::kFieldPointer);
  EXPECT_EQ(events[2].pointer, 0x7f0000000040u);
  EXPECT_EQ(events[2].stamp, 11u);
}

TEST(TraceFile, OpsThatSteerReplaysAreUnknownInATrace) {
  std::string bytes = empty_trace();
  append_block(bytes, block(wire::BlockType::kEvents, 0, 0),
               {wire::wide_word(wire::Op::kWait, 1, 0, 0, 1)});
  EXPECT_TRUE(decode(*open_bytes(bytes).file, 0).empty());
}

TEST(TraceFile, DerivesTheClockRateFromTheAnchors) {
  std::string bytes = empty_trace();
  store_at(bytes, offsetof(wire::TraceHeader, clock_kind), wire::ClockKind::kTsc);
  store_at(bytes, offsetof(wire::TraceHeader, ticks_per_second), std::uint64_t{0});
  store_at(bytes, offsetof(wire::TraceHeader, start_ticks), std::uint64_t{1000});
  store_at(bytes, offsetof(wire::TraceHeader, start_monotonic_ns), std::uint64_t{500});
  store_at(bytes, offsetof(wire::TraceHeader, last_ticks), std::uint64_t{4000});
  store_at(bytes, offsetof(wire::TraceHeader, last_monotonic_ns), std::uint64_t{1500});
  const Opened o = open_bytes(bytes);
  EXPECT_DOUBLE_EQ(o.file->ticks_per_second(), 3e9);
  EXPECT_EQ(o.file->to_ns(4000), 1000u);
  EXPECT_EQ(o.file->to_ns(10), 0u);  // before the start
  EXPECT_EQ(o.file->ns_to_units(1000), 3000u);
}

TEST(TraceFile, MetadataThatLiesAboutItsLengthIsLeftOut) {
  TraceMetadata metadata;
  metadata.executable = "/bin/true";
  metadata.host_kernel = "6.1";
  std::string bytes = small_trace(0, false, metadata);
  // The second entry: behind the block header and the first entry (8 + 9 bytes, padded to 24).
  store_at(bytes, kFirstBlock + 64 + 24 + 4, std::uint32_t{0xfffffff0});
  const Opened o = open_bytes(bytes);
  EXPECT_EQ(o.file->metadata().executable, "/bin/true");
  EXPECT_EQ(o.file->metadata().host_kernel, "");
  EXPECT_EQ(o.file->warnings().size(), 1u);
}

TEST(TraceFile, SurvivesRandomDamage) {
  const std::string good = small_trace(200, true);
  std::mt19937_64 random(7);
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = good;
    const int changes = 1 + static_cast<int>(random() % 8);
    for (int i = 0; i < changes; ++i) {
      const std::size_t at = random() % 2 ? random() % 384 : random() % bytes.size();
      bytes[at] = random() % 3 ? static_cast<char>(random()) : static_cast<char>(1 << random() % 8);
    }
    const Opened o = open_bytes(bytes);
    if (!o.file) continue;
    HeapVisitor ignore;
    const WalkTotals totals = HeapWalk(*o.file).run(ignore);
    ASSERT_LE(totals.events, o.file->event_words());
  }
}

}  // namespace
}  // namespace alloctape::formats::test
