// Notes, rings, resets and marks: what came to the format after its first version.
#include "formats/heap_walk.h"
#include "temp_trace.h"

namespace alloctape::formats::test {
namespace {

constexpr std::uint64_t kA = 0x555555560000, kB = kA + 4096;
constexpr std::uint64_t kFirstBlock = wire::kTraceHeaderBytes;

Event with_old_usable(Event e, std::uint64_t usable) {
  e.notes |= kNoteOldUsable;
  e.old_usable = usable;
  return e;
}

// A trace of one event block with just these words.
std::string trace_of(const std::vector<std::uint64_t>& words, std::uint64_t first_stamp = 0) {
  TempPath path;
  write_trace(path.str(), {});
  std::string bytes = read_bytes(path.str());
  bytes.resize(kFirstBlock);
  wire::BlockHeader header{};
  header.magic = wire::kBlockMagic;
  header.type = wire::BlockType::kEvents;
  header.payload_bytes = words.size() * 8;
  header.first_stamp = first_stamp;
  bytes.append(reinterpret_cast<const char*>(&header), sizeof header);
  bytes.append(reinterpret_cast<const char*>(words.data()), words.size() * 8);
  bytes.resize((bytes.size() + 63) / 64 * 64);
  return bytes;
}

std::vector<std::string> events_of(const std::string& bytes, std::vector<Error>* errors = nullptr) {
  TempPath path;
  write_bytes(path.str(), bytes);
  const TraceFile file = open_trace(path.str());
  EXPECT_TRUE(file.warnings().empty());
  std::vector<std::string> all;
  for (std::uint32_t i = 0; i < file.streams().size(); ++i) {
    for (const Event& e : decode(file, i, errors)) all.push_back(describe(e));
  }
  return all;
}

std::vector<std::uint64_t> wide_malloc() {
  return {wire::wide_word(wire::Op::kMalloc, 3, 0, wire::kFieldPointer | wire::kFieldSize, 1), kA,
          24};
}
std::uint64_t compact(wire::Kind kind) {
  return wire::compact_word(kind, 1, 8, wire::window_slot(kA), kA);
}

TEST(TraceNotes, BelongToTheNextEventOfWhateverForm) {
  const std::uint64_t usable = wire::note_word(wire::Note::kUsable, 40);
  const std::uint64_t old_usable = wire::note_word(wire::Note::kOldUsable, wire::kNoteMax);
  const std::uint64_t duration = wire::note_word(wire::Note::kDuration, 7);
  std::vector<std::uint64_t> words{usable, duration};
  for (const std::uint64_t word : wide_malloc()) words.push_back(word);
  words.insert(
      words.end(),
      {compact(wire::Kind::kMalloc), old_usable, wire::time_word(100), compact(wire::Kind::kFree),
       usable, old_usable, compact(wire::Kind::kReallocFrom), compact(wire::Kind::kReallocTo),
       duration, wire::compact_word(wire::Kind::kNull, 1, 5, 0, 0), compact(wire::Kind::kFree)});
  const auto events = events_of(trace_of(words));
  ASSERT_EQ(events.size(), 6u);
  EXPECT_TRUE(events[0].ends_with("value=0 usable=40 duration=7")) << events[0];
  EXPECT_TRUE(events[1].ends_with("value=0")) << events[1];
  EXPECT_TRUE(events[2].ends_with("value=0 old_usable=17592186044415")) << events[2];
  EXPECT_NE(events[2].find("stamp=103"), std::string::npos) << events[2];
  EXPECT_TRUE(events[3].ends_with("value=0 usable=40 old_usable=17592186044415")) << events[3];
  EXPECT_TRUE(events[4].ends_with("value=0 duration=7")) << events[4];
  EXPECT_TRUE(events[5].ends_with("value=0")) << events[5];
}

TEST(TraceNotes, UnknownOnesArePassedOverAndTheLastOfTwoCounts) {
  std::vector<std::uint64_t> words = wide_malloc();
  const auto unknown = wire::note_word(static_cast<wire::Note>(127), 1);
  const auto far_unknown = static_cast<std::uint64_t>(wire::Kind::kNull) | std::uint64_t{0xffff}
                                                                               << wire::kSizeAt;
  words.insert(words.end(),
               {unknown, wire::note_word(wire::Note::kOldUsable, 1), far_unknown,
                wire::note_word(wire::Note::kOldUsable, 2), compact(wire::Kind::kFree)});
  const auto events = events_of(trace_of(words));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_TRUE(events[1].ends_with("old_usable=2")) << events[1];
}

TEST(TraceNotes, AboutAnEventOfALaterVersionAreDropped) {
  std::vector<std::uint64_t> words = wide_malloc();
  words.insert(words.end(), {wire::note_word(wire::Note::kUsable, 9),
                             wire::wide_word(static_cast<wire::Op>(77), 1, 0, 0, 0),
                             compact(wire::Kind::kFree)});
  const auto events = events_of(trace_of(words));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_TRUE(events[1].ends_with("value=0")) << events[1];
}

TEST(TraceNotes, WithoutAnEventInTheirBlockMeanNothing) {
  std::vector<std::uint64_t> words = wide_malloc();
  words.push_back(wire::note_word(wire::Note::kUsable, 9));
  std::string bytes = trace_of(words);
  // The next block of the stream starts without them.
  std::string second = trace_of(wide_malloc()).substr(kFirstBlock);
  store_at(second, offsetof(wire::BlockHeader, sequence), std::uint64_t{1});
  const auto events = events_of(bytes + second);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_TRUE(events[1].ends_with("value=0")) << events[1];
}

TEST(TraceNotes, AMillionInARowTakeNoStack) {
  std::vector<std::uint64_t> words(1 << 20, wire::note_word(wire::Note::kUsable, 9));
  for (std::size_t i = 0; i < words.size(); i += 2) words[i] = wire::time_word(1);
  for (const std::uint64_t word : wide_malloc()) words.push_back(word);
  EXPECT_EQ(events_of(trace_of(words)).size(), 1u);
}

TEST(TraceNotes, MakeTheFileRequireThem) {
  TempPath plain, noted;
  write_trace(plain.str(), {{0, acquire(1, kA, 8)}});
  write_trace(noted.str(), {{0, with_old_usable(release(1, kA), 8)}});
  EXPECT_EQ(open_trace(plain.str()).header().required_features, 0u);
  EXPECT_EQ(open_trace(noted.str()).header().required_features, wire::kRequiresNotes);
}

TEST(TraceEvents, AreCountedInTheirBlocks) {
  TempPath path;
  TraceWriter::Options options;
  options.block_words = 20;
  std::vector<StreamEvent> events;
  for (unsigned i = 0; i < 100; ++i) events.push_back({0, acquire(i + 1, kA + 64 * i, 8)});
  write_trace(path.str(), events, options);
  const TraceFile file = open_trace(path.str());
  std::uint64_t counted = 0;
  for (const BlockRef& block : file.streams()[0]) {
    counted += load_at<std::uint64_t>(read_bytes(path.str()),
                                      block.offset + offsetof(wire::BlockHeader, events));
  }
  EXPECT_EQ(counted, 100u);
}

// ---- the ring

// Two streams by turns, `rounds` blocks each, in a ring of four slots.
std::string ring_trace(unsigned rounds) {
  TempPath path;
  TraceWriter::Options options;
  options.block_words = 20;
  options.ring_bytes = 4 * wire::kRingSlotBytes;
  std::vector<StreamEvent> events;
  std::uint64_t stamp = 0;
  for (unsigned i = 0; i < rounds; ++i) {
    for (std::uint32_t stream : {0u, 1u}) {
      for (unsigned k = 0; k < 18; ++k) {  // a little more than a block
        Event e = acquire(++stamp, kA + (stream + 1) * (1 << 20) + 64 * (i * 18 + k), 8);
        e.thread = ThreadIndex{stream};
        events.push_back({stream, e});
      }
    }
  }
  write_trace(path.str(), events, options, {}, {{stamp + 1, 0, "end"}});
  return read_bytes(path.str());
}

TEST(TraceRing, KeepsTheLastBlocksAndCountsTheOthers) {
  TempPath path;
  write_bytes(path.str(), ring_trace(10));
  const TraceFile file = open_trace(path.str());
  EXPECT_TRUE(file.warnings().empty()) << file.warnings()[0].to_string();
  EXPECT_TRUE(file.header().features & wire::kFeatureRing);
  ASSERT_EQ(file.streams().size(), 2u);
  EXPECT_GT(file.streams()[0].front().sequence, 0u);
  std::uint64_t kept = 0, blocks = 0;
  for (std::uint32_t i : {0u, 1u}) {
    kept += decode(file, i).size();
    blocks += file.streams()[i].size();
  }
  EXPECT_EQ(blocks, 4u);
  EXPECT_GT(kept, 0u);
  EXPECT_EQ(kept + file.overwritten_events(), 10u * 2 * 18);
  EXPECT_EQ(file.overwritten_blocks() + 4, file.header().ring_next);
  ASSERT_EQ(file.marks().size(), 1u);
  HeapVisitor ignore;
  EXPECT_EQ(HeapWalk(file).run(ignore).events, kept);
}

TEST(TraceRing, PassesOverASlotThatWasHalfOverwrittenWithoutComplaint) {
  const std::string whole = ring_trace(10);
  TempPath intact_path;
  write_bytes(intact_path.str(), whole);
  for (unsigned slot = 0; slot < 4; ++slot) {
    std::string bytes = whole;
    // As the tracer does it: the magic first, then the payload, the new header last.
    const std::size_t at = kFirstBlock + slot * wire::kRingSlotBytes;
    store_at(bytes, at, std::uint32_t{0});
    for (std::size_t i = 64; i < 4096; ++i) bytes[at + i] = static_cast<char>(i * 7 + 1);
    TempPath path;
    write_bytes(path.str(), bytes);
    const TraceFile file = open_trace(path.str());
    // What stands before a gap goes too, and counts as overwritten: all that is left of a stream is
    // the end of it.
    std::size_t blocks = 0;
    for (const auto& stream : file.streams()) {
      blocks += stream.size();
      for (std::size_t i = 1; i < stream.size(); ++i) {
        EXPECT_EQ(stream[i].sequence, stream[i - 1].sequence + 1);
      }
    }
    const TraceFile intact = open_trace(intact_path.str());
    EXPECT_EQ(blocks + file.overwritten_blocks() + 1, 4 + intact.overwritten_blocks());
    EXPECT_TRUE(file.warnings().empty());
  }
}

TEST(TraceRing, CutAtAnySlotGivesWhatIsThere) {
  const std::string whole = ring_trace(10);
  for (std::size_t size = kFirstBlock; size < whole.size(); size += 4099) {
    TempPath path;
    write_bytes(path.str(), whole.substr(0, size));
    const TraceFile file = open_trace(path.str());
    std::vector<Error> errors;
    for (std::uint32_t i = 0; i < file.streams().size(); ++i) decode(file, i, &errors);
    EXPECT_TRUE(errors.empty());
  }
}

TEST(TraceRing, ARegionThatCannotBeOneIsScannedLikeTheRest) {
  for (const auto& [field, value] : {std::pair{offsetof(wire::TraceHeader, ring_offset), 4097ull},
                                     {offsetof(wire::TraceHeader, ring_offset), 64ull},
                                     {offsetof(wire::TraceHeader, ring_bytes), 65537ull}}) {
    std::string bytes = ring_trace(10);
    store_at(bytes, field, static_cast<std::uint64_t>(value));
    TempPath path;
    write_bytes(path.str(), bytes);
    const TraceFile file = open_trace(path.str());
    ASSERT_EQ(file.warnings().size(), 1u);
    EXPECT_EQ(file.warnings()[0].field, "ring_offset");
    EXPECT_EQ(file.streams().size(), 2u);
  }
}

// ---- reset

TEST(TraceReset, EventsFromBeforeItDoNotExist) {
  std::vector<StreamEvent> events;
  std::vector<std::string> all;
  for (unsigned i = 0; i < 200; ++i) {
    Event e = i % 2 ? release(10 * i, kA) : acquire(10 * i, kA, 8 + i);
    if (i % 5 == 0) e.notes = kNoteUsable, e.usable = 100 + i;
    e.thread = ThreadIndex{i < 100 ? 0u : 1u};
    if (i == 100) {
      Event start = make_event(wire::Op::kThreadStart, 10 * i);
      start.thread = ThreadIndex{1};
      events.push_back({0, start});
    }
    events.push_back({0, e});
  }
  for (const StreamEvent& e : events) all.push_back(describe(e.event));
  for (const std::uint64_t reset : {0, 1, 10, 495, 1000, 1005, 1990, 1991, 5000}) {
    for (const std::uint32_t block_words : {20u, 8192u}) {
      for (const bool staged : {false, true}) {
        TempPath path;
        TraceWriter::Options options;
        options.block_words = block_words;
        options.stage_tails = staged;
        options.reset_stamp = reset;
        write_trace(path.str(), events, options);
        std::vector<std::string> want;
        for (const StreamEvent& e : events) {
          if (e.event.stamp >= reset) want.push_back(describe(e.event));
        }
        EXPECT_EQ(events_of(read_bytes(path.str())), want) << reset << ' ' << block_words;
        const TraceFile file = open_trace(path.str());
        if (block_words == 20 && reset > 500) {
          EXPECT_LT(file.event_words(), 190u);
        }
        HeapVisitor ignore;
        EXPECT_EQ(HeapWalk(file).run(ignore).events, want.size());
      }
    }
  }
}

TEST(TraceReset, CorruptWordsBeforeItAreStillFound) {
  std::vector<std::uint64_t> words = wide_malloc();
  words.push_back(0);
  std::string bytes = trace_of(words);
  store_at(bytes, offsetof(wire::TraceHeader, reset_stamp), std::uint64_t{1000});
  std::vector<Error> errors;
  EXPECT_TRUE(events_of(bytes, &errors).empty());
  EXPECT_EQ(errors.size(), 1u);
}

// ---- marks

TEST(TraceMarks, ComeSortedByTimeWithTheirText) {
  TempPath path;
  write_trace(path.str(), {{0, acquire(1, kA, 8)}}, {}, {},
              {{300, 0, "third"}, {100, 7, ""}, {200, 0, std::string("\xff\n") + "zweit\xc3\xa9"}});
  const TraceFile file = open_trace(path.str());
  EXPECT_TRUE(file.warnings().empty());
  ASSERT_EQ(file.marks().size(), 3u);
  EXPECT_EQ(file.marks()[0].tid, 7u);
  EXPECT_EQ(file.marks()[0].text, "");
  EXPECT_EQ(file.marks()[1].text, "\xff\nzweit\xc3\xa9");
  EXPECT_EQ(file.marks()[2].stamp, 300u);
}

TEST(TraceMarks, WithLengthsThatCannotBeAreCut) {
  TempPath path;
  write_trace(path.str(), {}, {}, {}, {{1, 0, std::string(2000, 'x')}, {2, 0, "short"}});
  std::string bytes = read_bytes(path.str());
  const std::size_t second = bytes.rfind("short") - sizeof(wire::MarkEntry);
  store_at(bytes, second + offsetof(wire::MarkEntry, bytes), ~std::uint32_t{0});
  write_bytes(path.str(), bytes);
  const TraceFile file = open_trace(path.str());
  ASSERT_EQ(file.marks().size(), 2u);
  EXPECT_EQ(file.marks()[0].text.size(), wire::kMaxMarkBytes);
  EXPECT_EQ(file.marks()[1].text, "short");
  EXPECT_EQ(file.warnings().size(), 2u);
  // A block too small for its entry.
  store_at(bytes, second - sizeof(wire::BlockHeader) + offsetof(wire::BlockHeader, payload_bytes),
           std::uint64_t{8});
  write_bytes(path.str(), bytes);
  EXPECT_EQ(open_trace(path.str()).marks().size(), 1u);
}

}  // namespace
}  // namespace alloctape::formats::test
