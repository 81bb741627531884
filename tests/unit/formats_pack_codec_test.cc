// The codec of packed blocks: any words come back as they were, and any bytes are refused in peace.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <sstream>

#include "formats/block_packer.h"
#include "formats/block_unpacker.h"
#include "formats/wire/event_word.h"
#include "tests/unit/document_text.h"

namespace alloctape::formats {
namespace {

using Words = std::vector<std::uint64_t>;

std::vector<RawBlock> as_blocks(const std::vector<Words>& parts) {
  std::vector<RawBlock> blocks;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    blocks.push_back({i, 1000 * i, static_cast<std::uint32_t>(i % 3),
                      static_cast<std::uint32_t>(parts[i].size()), parts[i].data()});
  }
  return blocks;
}

std::vector<std::byte> pack(const std::vector<Words>& parts, int level = kDefaultPackLevel) {
  BlockPacker packer(level);
  const auto blocks = as_blocks(parts);
  auto payload = packer.pack(blocks);
  EXPECT_TRUE(payload.ok());
  return {payload->begin(), payload->end()};
}

Status unpack(const std::vector<std::byte>& payload, std::uint32_t parts, Words& words) {
  auto head = read_packed_head(payload, parts);
  if (!head) return head.error();
  BlockUnpacker unpacker;
  return unpacker.unpack(payload, *head, words);
}

void expect_round_trip(const std::vector<Words>& parts) {
  const auto payload = pack(parts);
  Words words, all;
  const Status status = unpack(payload, static_cast<std::uint32_t>(parts.size()), words);
  ASSERT_TRUE(status.ok()) << status.error().to_string();
  for (const Words& part : parts) all.insert(all.end(), part.begin(), part.end());
  EXPECT_EQ(words, all);
  auto head = read_packed_head(payload, static_cast<std::uint32_t>(parts.size()));
  for (std::size_t i = 0; i < parts.size(); ++i) {
    EXPECT_EQ(head->parts[i].words, parts[i].size());
    EXPECT_EQ(head->parts[i].first_stamp, 1000 * i);
    EXPECT_EQ(head->parts[i].thread, i % 3);
  }
}

// Words as a tracer writes them: an allocator that reuses what was released last, wide records,
// time words, notes, calls with NULL; and now and then one that no tracer would write.
class WordMaker {
 public:
  explicit WordMaker(std::uint32_t seed) : random_(seed) {}

  Words make(std::size_t count) {
    Words words;
    while (words.size() < count) {
      switch (below(20)) {
        case 0:
          wide(words);
          break;
        case 1:
          words.push_back(wire::note_word(static_cast<wire::Note>(below(3) ? 112 + below(5) : 0),
                                          random_() >> (20 + below(44))));
          break;
        case 2:
          words.push_back(wire::compact_word(wire::Kind::kNull, below(100),
                                             below(10) ? below(48) : random_() & 0xffff, 0, 0));
          break;
        case 3:
          if (below(4) == 0) words.push_back(below(2) ? random_() : random_() & ~15ull);
          break;
        case 4:
        case 5:
          resize(words);
          break;
        default:
          below(2) ? acquire(words) : release(words);
      }
    }
    words.resize(count);
    return words;
  }

 private:
  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  std::uint64_t delta() { return below(3) ? 0 : random_() & (below(4) ? 0xff : 0x3fff); }
  void put(Words& words, unsigned kind, std::uint64_t size, std::uint64_t pointer) {
    words.push_back(wire::compact_word(static_cast<wire::Kind>(kind), delta(), size,
                                       wire::window_slot(pointer), pointer));
  }
  std::uint64_t new_pointer(std::uint64_t size) {
    auto& recent = free_[size / 16 % 64];
    if (!recent.empty() && below(10)) {
      const std::uint64_t p = recent.back();
      recent.pop_back();
      return p;
    }
    fresh_ += (size + 23) / 16 * 16;
    return fresh_;
  }
  void acquire(Words& words) {
    constexpr unsigned kKinds[] = {1, 2, 5, 8, 9};
    const std::uint64_t size = below(8) ? below(64) * 24 : random_() & 0xffff;
    live_.push_back({new_pointer(size), size});
    put(words, kKinds[below(5)], size, live_.back().first);
  }
  std::pair<std::uint64_t, std::uint64_t> pick() {
    if (live_.empty() || below(30) == 0) return {random_() & 0x7fff'ffff'fff8, 40};
    const std::size_t i = below(live_.size());
    const auto block = live_[i];
    live_[i] = live_.back();
    live_.pop_back();
    free_[block.second / 16 % 64].push_back(block.first);
    return block;
  }
  void release(Words& words) {
    constexpr unsigned kKinds[] = {3, 10, 11, 12, 13, 7};
    const auto [pointer, size] = pick();
    const unsigned kind = kKinds[below(6)];
    const bool sized = kind == 7 || kind >= 12;
    put(words, kind, sized && below(9) ? size & 0xffff : below(50) ? 0 : 7, pointer);
  }
  void resize(Words& words) {
    const auto [pointer, size] = pick();
    if (below(2)) {
      put(words, 6, below(2000), pointer);
    } else {
      put(words, 4, 0, pointer);
      put(words, 5, size & 0xffff, new_pointer(size));
    }
  }
  void wide(Words& words) {
    const auto fields = static_cast<unsigned>(random_() & (below(3) ? 0x3ff : 0xffff));
    const unsigned count = below(10) ? 1 + static_cast<unsigned>(std::popcount(fields)) % 15
                                     : static_cast<unsigned>(below(16));
    words.push_back(wire::wide_word(static_cast<wire::Op>(below(120)), count,
                                    below(3) ? 0 : random_() & 0xffff, fields, delta()));
    for (unsigned i = 1; i < count; ++i) {
      words.push_back(below(2) ? below(100) : fresh_ + below(1000) * 8);
    }
  }

  std::mt19937_64 random_;
  std::uint64_t fresh_ = 0x5555'5555'0000;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> live_;
  std::vector<std::uint64_t> free_[64];
};

TEST(PackCodec, GivesBackWhatATracerWrites) {
  for (std::uint32_t seed = 1; seed <= 60; ++seed) {
    WordMaker maker(seed);
    std::vector<Words> parts;
    for (unsigned i = 0; i <= seed % 7; ++i) parts.push_back(maker.make(seed * seed % 3000));
    SCOPED_TRACE(seed);
    expect_round_trip(parts);
  }
}

TEST(PackCodec, GivesBackAFullGroup) {
  WordMaker maker(7);
  std::vector<Words> parts;
  for (int i = 0; i < 16; ++i) parts.push_back(maker.make(wire::kMaxPackedWords / 16));
  expect_round_trip(parts);
}

TEST(PackCodec, GivesBackRandomWords) {
  for (std::uint32_t seed = 1; seed <= 60; ++seed) {
    std::mt19937_64 random(seed);
    Words words(1 + random() % 2000);
    // Few different bits too, so that kinds, windows and sizes meet.
    for (auto& w : words) w = seed % 2 ? random() : random() & random() & random();
    SCOPED_TRACE(seed);
    expect_round_trip({words});
    for (auto& w : words) w = random() % 16 | (random() % 4) << 38;
    expect_round_trip({words, {}, words});
  }
}

TEST(PackCodec, GivesBackNothingAndZeros) {
  expect_round_trip({{}});
  expect_round_trip({Words(300, 0)});
  expect_round_trip({Words(300, 1), Words(700, 3)});
  Words deltas;
  for (std::uint64_t i = 0; i < 2000; ++i) {
    deltas.push_back(wire::compact_word(wire::Kind::kFree, i % 254 == 0 ? 255 + i : 0, 0, 0, 0));
  }
  expect_round_trip({deltas});
}

TEST(PackCodec, EveryLevelGivesTheSameWords) {
  WordMaker maker(3);
  const std::vector<Words> parts = {maker.make(5000), maker.make(100)};
  Words words, first;
  ASSERT_TRUE(unpack(pack(parts, 1), 2, first).ok());
  for (const int level : {2, 3, 9, kMaxPackLevel}) {
    ASSERT_TRUE(unpack(pack(parts, level), 2, words).ok());
    EXPECT_EQ(words, first);
  }
}

TEST(PackCodec, RefusesEveryPrefixOfAPayload) {
  WordMaker maker(11);
  const auto payload = pack({maker.make(400), maker.make(300)});
  for (std::size_t length = 0; length < payload.size(); ++length) {
    Words words;
    const Status status =
        unpack({payload.begin(), payload.begin() + static_cast<long>(length)}, 2, words);
    ASSERT_FALSE(status.ok()) << length;
    EXPECT_FALSE(status.error().message.empty());
  }
}

TEST(PackCodec, AChangedByteIsFoundOrHarmless) {
  WordMaker maker(12);
  const std::vector<Words> parts = {maker.make(700)};
  const auto payload = pack(parts);
  std::mt19937_64 random(1);
  for (int i = 0; i < 4000; ++i) {
    auto changed = payload;
    changed[random() % changed.size()] ^= static_cast<std::byte>(1u << random() % 8);
    Words words;
    if (unpack(changed, 1, words).ok()) {
      EXPECT_EQ(words, parts[0]);
    }
  }
}

TEST(PackCodec, RefusesMoreThanThereCanBe) {
  WordMaker maker(13);
  const auto payload = pack({maker.make(100)});
  const auto with = [&](std::size_t at, std::uint32_t value) {
    auto changed = payload;
    std::memcpy(changed.data() + at, &value, sizeof value);
    auto head = read_packed_head(changed, 1);
    return head.ok() ? std::string() : head.error().field;
  };
  const std::size_t columns = sizeof(wire::PackedHeader) + sizeof(wire::PackedPart);
  EXPECT_EQ(with(offsetof(wire::PackedHeader, words), wire::kMaxPackedWords + 1), "words");
  EXPECT_EQ(with(offsetof(wire::PackedHeader, words), 99), "words");
  EXPECT_EQ(with(offsetof(wire::PackedHeader, encoding), 99), "encoding");
  EXPECT_EQ(with(columns, 7), "method");
  EXPECT_EQ(with(columns + 4, 101), "unpacked_bytes");
  EXPECT_EQ(with(columns + 8, 1u << 31), "method");
  for (const std::uint32_t parts : {0u, 2u, wire::kMaxPackedParts + 1, ~0u}) {
    EXPECT_FALSE(read_packed_head(payload, parts).ok()) << parts;
  }
}

TEST(PackCodec, ReuseOfReleasedBlocksCostsLittle) {
  Words words;
  // Malloc and free of the same few sizes: what most programs do most of the time.
  for (std::uint64_t i = 0; i < 20000; ++i) {
    const std::uint64_t pointer = 0x5555'5555'0010 + i / 2 % 5 * 64;
    words.push_back(wire::compact_word(i % 2 ? wire::Kind::kFree : wire::Kind::kMalloc, 0,
                                       i % 2 ? 0 : 40 + i / 2 % 5, 2, pointer));
  }
  EXPECT_LT(pack({words}).size(), words.size() / 20);
}

TEST(PackCodec, DoesWhatTheDocumentSays) {
  std::ifstream in(ALLOCTAPE_TRACE_DOCUMENT);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  Words words;
  std::map<unsigned, std::vector<std::uint8_t>> columns;
  std::uint64_t checksum = 0;
  for (const std::string& line : lines_between(text, "```packed", "```")) {
    std::istringstream parts(line);
    std::string name;
    parts >> name >> std::hex;
    if (name == "checksum") parts >> checksum;
    unsigned column = 0;
    if (name == "column") parts >> std::dec >> column >> std::hex, parts.ignore(1);
    std::vector<std::uint8_t> bytes;
    for (unsigned byte; name != "#" && parts >> byte;)
      bytes.push_back(static_cast<std::uint8_t>(byte));
    if (name == "column") columns[column] = bytes;
    if (name == "word") {
      ASSERT_EQ(bytes.size(), 8u);
      words.push_back(0);
      std::memcpy(&words.back(), bytes.data(), 8);
    }
  }
  ASSERT_EQ(words.size(), 4u);
  const auto payload = pack({words});
  auto head = read_packed_head(payload, 1);
  ASSERT_TRUE(head.ok());
  EXPECT_EQ(head->header.checksum, checksum);
  std::size_t at = head->data_at;
  for (unsigned c = 0; c < wire::kColumns; ++c) {
    const wire::PackedColumn& column = head->columns[c];
    std::vector<std::uint8_t> bytes(column.unpacked_bytes);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<std::uint8_t>(
          payload[at + (column.method == wire::ColumnMethod::kRepeat ? 0 : i)]);
    }
    EXPECT_EQ(bytes, columns[c]) << "column " << c;
    at += column.stored_bytes;
  }
}

TEST(WordSurvey, TellsEventsTimesAndThreads) {
  const std::uint64_t p = 0x5555'5555'0010;
  const Words words = {
      wire::wide_word(wire::Op::kThreadStart, 3, 0, wire::kFieldThread | wire::kFieldTid, 5),
      7,
      999,
      wire::time_word(100'000),
      wire::compact_word(wire::Kind::kMalloc, 10, 24, 2, p),
      wire::compact_word(wire::Kind::kReallocFrom, 1, 0, 2, p),
      wire::compact_word(wire::Kind::kReallocTo, 2, 48, 2, p + 64),
      wire::note_word(wire::Note::kOldUsable, 56),
      wire::compact_word(wire::Kind::kFree, 3, 0, 2, p)};
  WordSurvey survey;
  survey.add({0, 1000, 4, static_cast<std::uint32_t>(words.size()), words.data()});
  EXPECT_EQ(survey.events, 4u);  // thread start, malloc, realloc, free
  EXPECT_EQ(survey.first_stamp, 1005u);
  EXPECT_EQ(survey.last_stamp, 101'021u);
  EXPECT_EQ(survey.first_thread, 4u);
  EXPECT_EQ(survey.last_thread, 7u);
}

}  // namespace
}  // namespace alloctape::formats
