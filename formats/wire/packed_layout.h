// What lies where in a packed block: event blocks of one stream as compressed columns.
// Specification: docs/formats/trace.md, section "Packed blocks".
//
// Header-only; shared by the packer, the unpacker and the reader's scan.
#pragma once

#include <cstdint>

#include "formats/wire/trace_layout.h"

namespace alloctape::wire {

// A block that is still being written, to become one of another type: passed over by its length.
inline constexpr BlockType kUnfinishedBlock = static_cast<BlockType>(0);

// payload of a packed block:
//
//   PackedHeader | PackedPart[BlockHeader.blocks] | PackedColumn[columns] | the columns' data
inline constexpr std::uint16_t kPackedEncoding = 1;

struct PackedHeader {
  std::uint16_t encoding;  // kPackedEncoding
  std::uint16_t columns;
  std::uint32_t words;        // of all parts, at most kMaxPackedWords
  std::uint64_t first_stamp;  // smallest and largest time of an event in it
  std::uint64_t last_stamp;
  std::uint32_t first_thread, last_thread;  // smallest and largest thread index in it
  std::uint64_t checksum;                   // packed_checksum of all words
};
static_assert(sizeof(PackedHeader) == 40);

// What the header of the raw block told.
struct PackedPart {
  std::uint64_t first_stamp;
  std::uint32_t thread;
  std::uint32_t words;
};
static_assert(sizeof(PackedPart) == 16);

enum class ColumnMethod : std::uint32_t {
  kStored = 0,
  kZstd = 1,    // one zstd frame
  kRepeat = 2,  // one byte, to be repeated
};
struct PackedColumn {
  ColumnMethod method;
  std::uint32_t unpacked_bytes;
  std::uint32_t stored_bytes;
};
static_assert(sizeof(PackedColumn) == 12);

inline constexpr std::uint32_t kMaxPackedParts = 64;
inline constexpr std::uint32_t kMaxPackedWords = 1u << 17;  // 1 MiB when unpacked

// Each word is an op byte and whatever that op takes from the other columns.
enum class Column : std::uint8_t {
  kOp,
  kSizeLow,  // size field, its low and its high byte
  kSizeHigh,
  kAcquire,  // where an acquired pointer was found: AcquireCode
  kRelease,  // which block a released pointer is: ReleaseCode
  kAgeLow,
  kAgeHigh,
  kZeros,  // time deltas of 0 ahead of one that is not
  kTime,   // such a time delta; 255: see kLongTime
  kLongTime,
  kAcquireOffsetLow,  // pointers that nothing predicts, as differences: bits 0-15, 16-31
  kAcquireOffsetHigh,
  kReleaseOffsetLow,
  kReleaseOffsetHigh,
  kSizeKept,  // sized releases: 1 = the size that was acquired
  kNullCode,
  kValueLow,  // of notes about time and of unknown ones
  kValueHigh,
  kUsableLow,
  kUsableHigh,
  kDurationLow,
  kDurationHigh,
  kWideHead,
  kField,  // fields of wide records, as differences
  kRaw,    // words and values that have no other place
};
inline constexpr unsigned kColumns = 25;

// Bytes that one word can take of a column, at most.
inline constexpr std::uint8_t kColumnBytesPerWord[kColumns] = {
    1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 6, 8, 8};

// Op bytes: the word's kind in the low 4 bits, and above them the window; for kNull and kEmpty:
enum PackedOp : std::uint8_t {
  kPackedRaw = 0x00,   // the word stands in kRaw
  kPackedNull = 0x0e,  // a call that was given NULL
  kPackedNote = 0x1e,
  kPackedWide = 0x0f,
};

// An acquired pointer.
enum AcquireCode : std::uint8_t {
  // 0-7: so many blocks of the same size class were released later than the one that is reused
  kRecentBlocks = 8,
  kAcquireNext = 8,  // the block begins where the last one ended that was not a reused one
  kAcquireOffset = 9,
};
// A released, resized or queried pointer.
enum ReleaseCode : std::uint8_t {
  // 0-15: the block acquired -8 .. 7 acquires after the one that was released last
  kReleaseNear = 16,
  // 16-253: the block acquired 1 .. 238 acquires ago
  kReleaseOffset = 254,
  kReleaseAge = 255,  // so many acquires ago as kAgeLow, kAgeHigh tell
};
inline constexpr std::uint32_t kNearBias = 8, kShortAgeBias = kReleaseNear - 1;
inline constexpr std::uint32_t kShortAges = kReleaseOffset - kReleaseNear;

inline constexpr std::uint32_t kLongTimeMark = 255;
inline constexpr std::uint32_t kZerosMark = 255;     // so many zeros, and no delta behind them
inline constexpr std::uint32_t kValueMark = 0xffff;  // the value stands in kRaw

// Four sums side by side, so that it costs next to nothing.
class PackedChecksum {
 public:
  void add(const std::uint64_t* words, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
      std::uint64_t& sum = sums_[at_++ & 3];
      sum = (sum ^ words[i]) * kFactor;
      sum ^= sum >> 32;
    }
  }
  std::uint64_t value() const {
    std::uint64_t all = at_;
    for (const std::uint64_t sum : sums_) all = (all ^ sum) * kFactor, all ^= all >> 29;
    return all;
  }

 private:
  static constexpr std::uint64_t kFactor = 0x9e3779b97f4a7c15;
  std::uint64_t sums_[4] = {};
  std::uint64_t at_ = 0;
};

}  // namespace alloctape::wire
