// Packed traces as files: what readers see of them, the index, seeking, damage.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <numeric>
#include <random>

#include "formats/heap_walk.h"
#include "formats/trace_packer.h"
#include "tests/unit/random_program.h"
#include "tests/unit/temp_trace.h"

namespace alloctape::formats::test {
namespace {

// Threads that allocate and free for a while, in small blocks, so that there are many.
void write_busy_trace(const std::string& path, unsigned events, bool stage_tails = false,
                      std::uint32_t seed = 1, unsigned threads = 4) {
  ProgramOptions program;
  program.seed = seed;
  program.events = events;
  program.most_threads = threads;
  program.thread_change_percent = threads == 1 ? 0 : 1;
  TraceWriter::Options options;
  options.block_words = 64;
  options.stage_tails = stage_tails;
  options.metadata.executable = "/bin/busy";
  write_trace(path, ProgramMaker(program).make().trace, options, {{1, 4096, 8192}, {7, 1, 2}});
}

PackTotals pack_file(const std::string& from, const std::string& to, PackOptions options = {}) {
  const TraceFile trace = open_trace(from);
  const int fd = ::open(to.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600);
  auto totals = write_packed(trace, fd, options);
  ::close(fd);
  if (!totals.ok()) throw std::runtime_error(totals.error().to_string());
  return *totals;
}

std::vector<std::string> story(const TraceFile& trace) {
  std::vector<std::string> lines;
  for (std::uint32_t s = 0; s < trace.streams().size(); ++s) {
    lines.push_back(fmt::format("stream {}", trace.stream_number(StreamIndex{s})));
    for (const Event& e : decode(trace, s)) lines.push_back(describe(e));
  }
  return lines;
}
std::vector<std::string> story(const std::string& path) { return story(open_trace(path)); }

wire::TraceHeader header_of(const std::string& bytes) {
  return load_at<wire::TraceHeader>(bytes, 0);
}

// The same trace, to be found by its headers alone.
std::string without_index(std::string bytes) {
  store_at<std::uint64_t>(bytes, offsetof(wire::TraceHeader, index_offset), 0);
  return bytes;
}

TEST(PackedTrace, TellsTheSameStory) {
  for (std::uint32_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(seed);
    TempPath raw, packed, plain;
    write_busy_trace(raw.str(), 3000, seed % 2, seed);
    const PackTotals totals = pack_file(raw.str(), packed.str());
    const TraceFile before = open_trace(raw.str()), after = open_trace(packed.str());
    EXPECT_EQ(story(before), story(after));
    EXPECT_EQ(before.event_words(), after.event_words());
    EXPECT_EQ(before.dropped_events(), after.dropped_events());
    EXPECT_EQ(after.metadata().executable, "/bin/busy");
    EXPECT_EQ(after.rss().size(), 2u);
    EXPECT_TRUE(after.warnings().empty());
    EXPECT_FALSE(after.truncated());
    EXPECT_LT(after.file_bytes(), before.file_bytes());
    EXPECT_EQ(totals.bytes_after, after.file_bytes());

    PackOptions unpack;
    unpack.unpack = true;
    pack_file(packed.str(), plain.str(), unpack);
    const TraceFile again = open_trace(plain.str());
    EXPECT_EQ(story(again), story(before));
    EXPECT_EQ(again.header().required_features & wire::kRequiresPacked, 0u);
    ASSERT_EQ(again.streams().size(), before.streams().size());
    for (std::size_t s = 0; s < again.streams().size(); ++s) {
      ASSERT_EQ(again.streams()[s].size(), before.streams()[s].size());
      for (std::size_t b = 0; b < again.streams()[s].size(); ++b) {
        const BlockRef &x = again.streams()[s][b], &y = before.streams()[s][b];
        EXPECT_EQ(x.sequence, y.sequence);
        EXPECT_EQ(x.first_stamp, y.first_stamp);
        EXPECT_EQ(x.thread, y.thread);
        ASSERT_EQ(x.words, y.words);
        EXPECT_EQ(std::memcmp(x.data, y.data, std::size_t{x.words} * 8), 0);
      }
    }
  }
}

TEST(PackedTrace, CountsTheEventsThatAWalkDelivers) {
  TempPath raw, packed;
  write_busy_trace(raw.str(), 5000, true);
  const PackTotals totals = pack_file(raw.str(), packed.str());
  const TraceFile trace = open_trace(packed.str());
  HeapVisitor visitor;
  EXPECT_EQ(HeapWalk(trace).run(visitor).events, totals.events);
}

TEST(PackedTrace, PackingAgainCopiesWhatIsPacked) {
  TempPath raw, once, twice, harder;
  write_busy_trace(raw.str(), 3000);
  pack_file(raw.str(), once.str());
  const PackTotals totals = pack_file(once.str(), twice.str());
  EXPECT_EQ(totals.packed_blocks, 0u);
  EXPECT_GT(totals.copied_blocks, 0u);
  EXPECT_EQ(read_bytes(once.str()), read_bytes(twice.str()));
  PackOptions options;
  options.repack = true;
  options.level = 12;
  pack_file(once.str(), harder.str(), options);
  EXPECT_EQ(story(harder.str()), story(raw.str()));
}

TEST(PackedTrace, IndexAndScanFindTheSame) {
  TempPath raw, packed, scanned;
  write_busy_trace(raw.str(), 8000);
  pack_file(raw.str(), packed.str());
  ASSERT_NE(header_of(read_bytes(packed.str())).index_offset, 0u);
  write_bytes(scanned.str(), without_index(read_bytes(packed.str())));
  const TraceFile a = open_trace(packed.str()), b = open_trace(scanned.str());
  ASSERT_EQ(a.streams().size(), b.streams().size());
  for (std::size_t s = 0; s < a.streams().size(); ++s) {
    ASSERT_EQ(a.streams()[s].size(), b.streams()[s].size());
    for (std::size_t i = 0; i < a.streams()[s].size(); ++i) {
      const BlockRef &x = a.streams()[s][i], &y = b.streams()[s][i];
      EXPECT_EQ(x.offset, y.offset);
      EXPECT_EQ(x.sequence, y.sequence);
      EXPECT_EQ(x.blocks, y.blocks);
      EXPECT_EQ(x.words, y.words);
      EXPECT_EQ(x.first_stamp, y.first_stamp);
      EXPECT_EQ(x.last_stamp, y.last_stamp);
      EXPECT_EQ(x.thread, y.thread);
      EXPECT_EQ(x.last_thread, y.last_thread);
    }
  }
  EXPECT_EQ(story(a), story(b));
  EXPECT_EQ(a.rss().size(), b.rss().size());
}

TEST(PackedTrace, OnlyBlocksOfTheRangeAreUnpacked) {
  TempPath raw, packed;
  write_busy_trace(raw.str(), 40000, false, 5, 1);
  pack_file(raw.str(), packed.str());
  const TraceFile trace = open_trace(packed.str());
  ASSERT_EQ(trace.streams().size(), 1u);
  const auto& blocks = trace.streams()[0];
  ASSERT_GE(blocks.size(), 20u);
  const BlockRef& wanted = blocks[blocks.size() / 2];
  BlockRange range;
  range.first_stamp = wanted.first_stamp + 1;
  range.last_stamp = wanted.last_stamp - 1;
  const auto in_range = [&](const Event& e) {
    return e.stamp >= range.first_stamp && e.stamp <= range.last_stamp;
  };
  std::vector<std::string> all, part;
  for (const Event& e : decode(trace, 0)) {
    if (in_range(e)) all.push_back(describe(e));
  }
  StreamDecoder decoder(trace, StreamIndex{0}, range);
  for (Event e; decoder.next(e);) {
    if (in_range(e)) part.push_back(describe(e));
  }
  EXPECT_EQ(decoder.error(), nullptr);
  EXPECT_EQ(part, all);
  EXPECT_FALSE(all.empty());
  EXPECT_EQ(decoder.blocks_unpacked(), 1u);
  EXPECT_EQ(decoder.words_done(), trace.event_words());

  BlockRange nobody;
  nobody.first_thread = nobody.last_thread = 77;
  StreamDecoder none(trace, StreamIndex{0}, nobody);
  Event e;
  EXPECT_FALSE(none.next(e));
  EXPECT_EQ(none.blocks_unpacked(), 0u);
}

// What `record` leaves behind when it is killed: packed blocks in front of, between or behind the
// raw ones that they stand for, which may be there still, or half there, or holes.
TEST(PackedTrace, APackedBlockSilencesWhatItCovers) {
  TempPath raw, both;
  write_busy_trace(raw.str(), 3000, true, 3);
  const TraceFile trace = open_trace(raw.str());
  const std::vector<std::string> expected = story(trace);
  std::mt19937 random(1);
  for (int round = 0; round < 20; ++round) {
    std::string bytes = read_bytes(raw.str());
    BlockPacker packer;
    for (std::size_t s = 0; s < trace.streams().size(); ++s) {
      const auto& blocks = trace.streams()[s];
      for (std::size_t i = 0; i + 1 < blocks.size();) {
        const std::size_t count = 1 + random() % std::min<std::size_t>(blocks.size() - 1 - i, 9);
        std::vector<RawBlock> group;
        for (std::size_t k = i; k < i + count; ++k) {
          const BlockRef& b = blocks[k];
          group.push_back({b.sequence, b.first_stamp, b.thread, b.words, b.data});
          if (random() % 2) continue;
          // Punched: a hole, or only the words are gone.
          const std::size_t keep = random() % 2 ? 64 : 0;
          std::memset(bytes.data() + b.offset + keep, 0, 64 + b.words * 8 - keep);
        }
        auto payload = packer.pack(group);
        ASSERT_TRUE(payload.ok());
        wire::BlockHeader header{};
        header.magic = wire::kBlockMagic;
        header.type = wire::BlockType::kPacked;
        header.payload_bytes = payload->size();
        header.stream = trace.stream_number(StreamIndex{static_cast<std::uint32_t>(s)});
        header.sequence = blocks[i].sequence;
        header.blocks = static_cast<std::uint32_t>(count);
        bytes.resize((bytes.size() + 63) / 64 * 64);
        bytes.append(reinterpret_cast<const char*>(&header), sizeof header);
        bytes.append(reinterpret_cast<const char*>(payload->data()), payload->size());
        i += count + random() % 3;
      }
    }
    write_bytes(both.str(), bytes);
    const TraceFile result = open_trace(both.str());
    EXPECT_EQ(story(result), expected) << round;
    EXPECT_TRUE(result.warnings().empty());
    TempPath packed;
    pack_file(both.str(), packed.str());
    EXPECT_EQ(story(packed.str()), expected) << round;
  }
}

TEST(PackedTrace, ADamagedBlockIsReportedAndTheOthersStay) {
  TempPath raw, packed;
  write_busy_trace(raw.str(), 40000, false, 5, 1);
  pack_file(raw.str(), packed.str());
  const TraceFile whole = open_trace(packed.str());
  const BlockRef victim = whole.streams()[0][3];
  std::string bytes = read_bytes(packed.str());
  bytes[victim.offset + 64 + sizeof(wire::PackedHeader) + 700] ^= 1;
  write_bytes(packed.str(), bytes);
  std::vector<Error> errors;
  const TraceFile trace = open_trace(packed.str());
  const auto events = decode(trace, 0, &errors);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_GE(*errors[0].offset, victim.offset);
  EXPECT_EQ(errors[0].path, packed.str());
  EXPECT_GT(events.size(), decode(whole, 0, &errors).size() / 2);
}

TEST(PackedTrace, TruncationKeepsTheBlocksThatAreWhole) {
  TempPath raw, packed, cut;
  write_busy_trace(raw.str(), 20000, false, 5, 1);
  pack_file(raw.str(), packed.str());
  const std::string bytes = read_bytes(packed.str());
  const TraceFile whole = open_trace(packed.str());
  const auto& blocks = whole.streams()[0];
  for (std::size_t i = 1; i < blocks.size(); i += 3) {
    write_bytes(cut.str(), bytes.substr(0, blocks[i].offset + 100));
    const TraceFile trace = open_trace(cut.str());
    EXPECT_TRUE(trace.truncated());
    ASSERT_EQ(trace.streams().size(), 1u);
    EXPECT_EQ(trace.streams()[0].size(), i);
    EXPECT_EQ(trace.event_words(),
              std::accumulate(blocks.begin(), blocks.begin() + static_cast<long>(i), 0ull,
                              [](auto n, const BlockRef& b) { return n + b.words; }));
    decode(trace, 0);
  }
}

TEST(PackedTrace, ALyingIndexIsNotFollowedOrFoundOut) {
  TempPath raw, packed, changed;
  write_busy_trace(raw.str(), 20000);
  pack_file(raw.str(), packed.str());
  const std::string bytes = read_bytes(packed.str());
  const std::uint64_t index = header_of(bytes).index_offset + sizeof(wire::BlockHeader);
  const auto expected = story(packed.str());
  // Nonsense: the blocks are found by their headers.
  const auto entry = load_at<wire::IndexEntry>(bytes, index);
  const auto with = [&](auto change) {
    wire::IndexEntry e = entry;
    change(e);
    std::string copy = bytes;
    store_at(copy, index, e);
    write_bytes(changed.str(), copy);
    return changed.str();
  };
  EXPECT_EQ(story(with([](auto& e) { e.offset += 8; })), expected);
  EXPECT_EQ(story(with([](auto& e) { e.offset = ~0ull - 63; })), expected);
  EXPECT_EQ(story(with([](auto& e) { e.words = 1ull << 40; })), expected);
  EXPECT_EQ(story(with([](auto& e) { e.blocks = 1000; })), expected);
  EXPECT_EQ(story(with([](auto& e) { e.stream = ~0u; })), expected);
  EXPECT_EQ(story(with([](auto& e) { e.first_stamp = ~0ull; })), expected);
  // Lies that only the block can disprove: an error where it is read.
  std::vector<Error> errors;
  decode(open_trace(with([](auto& e) { e.words -= 1; })), 0, &errors);
  EXPECT_EQ(errors.size(), 1u);
  // The block itself is found in front of those of the index, and then counts.
  EXPECT_EQ(story(with([](auto& e) { e.offset += 64; })), expected);
  // Any bytes at all: no crash.
  std::mt19937_64 random(3);
  for (int i = 0; i < 300; ++i) {
    std::string copy = bytes;
    for (int k = 0; k < 4; ++k) {
      copy[index - 64 + random() % (copy.size() - index + 64)] = static_cast<char>(random());
    }
    write_bytes(changed.str(), copy);
    const TraceFile trace = open_trace(changed.str());
    std::vector<Error> ignored;
    for (std::uint32_t s = 0; s < trace.streams().size(); ++s) decode(trace, s, &ignored);
  }
}

TEST(PackedTrace, ATraceWithoutEventsCanBePacked) {
  TempPath raw, packed;
  write_trace(raw.str(), {});
  const PackTotals totals = pack_file(raw.str(), packed.str());
  EXPECT_EQ(totals.events, 0u);
  EXPECT_TRUE(open_trace(packed.str()).streams().empty());
}

TEST(PackedTrace, ManyStreamsMakeSmallBlocks) {
  EXPECT_EQ(packed_block_words(1), wire::kMaxPackedWords);
  EXPECT_EQ(packed_block_words(64), wire::kMaxPackedWords);
  EXPECT_LE(packed_block_words(1000) * 1000 * 8, std::uint64_t{80} << 20);
}

}  // namespace
}  // namespace alloctape::formats::test
