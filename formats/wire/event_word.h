// How one event becomes one 64-bit word, or a few: the bit layouts, drawn once.
// Specification: docs/formats/trace.md, sections "Compact words" and "Wide records".
//
// Part of the tracee-safe ground floor: header-only, no library, no allocation, no exceptions.
#pragma once

#include <cstdint>

#include "formats/wire/opcodes.h"

namespace alloctape::wire {

// A word of an event block.
//
//   63                      38 37    34 33           18 17          4 3    0
//  +--------------------------+--------+---------------+-------------+------+
//  | offset of pointer / 8    | window | size          | time delta  | kind |   compact, kind 1..14
//  |                     (26) |    (4) |          (16) |        (14) |  (4) |
//  +--------------------------+--------+---------------+-------------+------+
//
//   63            48 47        32 31        16 15   12 11           4 3    0
//  +----------------+------------+------------+-------+--------------+------+
//  | time delta     | field mask | path bits  | words | opcode       |  15  |   wide, first word
//  |           (16) |       (16) |       (16) |   (4) |          (8) |  (4) |
//  +----------------+------------+------------+-------+--------------+------+
//
// Kind 0 is the word zero: nothing was written here (yet). Times are in clock units: raw ticks
// shifted right by the header's clock_shift.
enum class Kind : std::uint8_t {
  kEmpty = 0,
  kMalloc = 1,
  kCalloc = 2,  // size is the product of the arguments
  kFree = 3,
  kReallocFrom = 4,  // first half of a realloc that moved: old pointer, time before the call
  kReallocTo = 5,    // second half, or alone: realloc(NULL, size)
  kReallocSame = 6,  // realloc that returned its argument
  kUsableSize = 7,   // size is the answer
  kNew = 8,
  kNewArray = 9,
  kDelete = 10,
  kDeleteArray = 11,
  kDeleteSized = 12,
  kDeleteArraySized = 13,
  kNull = 14,  // the size field holds the opcode of a call whose pointer was NULL, or a Note
  kWide = 15,
};

inline constexpr int kTimeBits = 14, kSizeBits = 16, kWindowBits = 4, kOffsetBits = 26;
inline constexpr int kTimeAt = 4, kSizeAt = 18, kWindowAt = 34, kOffsetAt = 38;
// Sizes below 32 KiB stand as they are; larger ones that are multiples of 16 up to 557,040 are
// scaled.
inline constexpr std::uint64_t kExactSizeLimit = 0x8000, kSizeGrain = 16;
inline constexpr std::uint64_t kScaledSizeLimit = kExactSizeLimit + kExactSizeLimit * kSizeGrain;
inline constexpr int kOffsetShift = 3;                           // pointers are multiples of 8
inline constexpr int kWindowShift = kOffsetBits + kOffsetShift;  // a window is 512 MiB
inline constexpr int kWindows = 1 << kWindowBits;
inline constexpr int kWideTimeBits = 16;

// Pointers are coded against a small table of 512 MiB windows, direct-mapped: three bits from the
// address just above the window and one that tells the mmap half of the address space from the heap
// half. Adjacent windows never collide below 4 GiB, and the two halves never do.
constexpr unsigned window_slot(std::uint64_t pointer) {
  return static_cast<unsigned>(((pointer >> kWindowShift) & 7) | (((pointer >> 45) & 1) << 3));
}
// What a window remembers: which 512 MiB, and whether its blocks belong to another glibc arena than
// the main one, so that this path bit costs nothing in the word.
constexpr std::uint64_t window_tag(std::uint64_t pointer, bool other_arena) {
  return (pointer >> kWindowShift) << 1 | (other_arena ? 1u : 0u);
}
inline constexpr std::uint64_t kNoWindow = ~std::uint64_t{0};

// Path: what is known about how the allocator served the call.
enum Path : std::uint16_t {
  kPathMapped = 1 << 0,      // the block is a mapping of its own (glibc's chunk bit)
  kPathOtherArena = 1 << 1,  // not glibc's main arena
  kPathGrew = 1 << 2,        // the program break is higher than at this stream's last acquire
  kPathMoved = 1 << 3,       // realloc returned another address
  kPathFailed = 1 << 4,      // the call failed; nothing was acquired, nothing released
  kPathBootstrap = 1 << 5,   // served by the tracer itself, before the allocator could be found
  kPathLate = 1 << 6,  // on the shared stream of threads that had ended; field thread tells whose
};

// Fields of a wide record, one word each, in the order of their bits.
enum Field : std::uint16_t {
  kFieldStamp = 1 << 0,         // absolute time; the time delta is then 0
  kFieldReleaseStamp = 1 << 1,  // absolute time before the call (realloc)
  kFieldPointer = 1 << 2,       // acquired, released or queried
  kFieldOldPointer = 1 << 3,    // the argument of realloc
  kFieldSize = 1 << 4,          // requested; the element size where kFieldCount is present
  kFieldCount = 1 << 5,
  kFieldAlignment = 1 << 6,
  kFieldThread = 1 << 7,  // thread index
  kFieldTid = 1 << 8,     // the kernel's thread id
  kFieldValue = 1 << 9,   // the answer of malloc_usable_size
};
inline constexpr int kFieldCountKnown = 10;
inline constexpr int kMaxWideWords = 15;

// `size_field`: encode_size(size), or what else the kind keeps there.
constexpr std::uint64_t compact_word(Kind kind, std::uint64_t time_delta, std::uint64_t size_field,
                                     unsigned window, std::uint64_t pointer) {
  const std::uint64_t offset = (pointer >> kOffsetShift) & ((std::uint64_t{1} << kOffsetBits) - 1);
  return static_cast<std::uint64_t>(kind) | time_delta << kTimeAt | size_field << kSizeAt |
         static_cast<std::uint64_t>(window) << kWindowAt | offset << kOffsetAt;
}
constexpr std::uint64_t wide_word(Op op, unsigned words, unsigned path, unsigned fields,
                                  std::uint64_t time_delta) {
  return static_cast<std::uint64_t>(Kind::kWide) | static_cast<std::uint64_t>(op) << 4 |
         static_cast<std::uint64_t>(words) << 12 | static_cast<std::uint64_t>(path) << 16 |
         static_cast<std::uint64_t>(fields) << 32 | time_delta << 48;
}

constexpr Kind word_kind(std::uint64_t w) { return static_cast<Kind>(w & 15); }
constexpr std::uint64_t compact_time(std::uint64_t w) {
  return w >> kTimeAt & ((1u << kTimeBits) - 1);
}
// The size field as it stands; decode_size tells the size.
constexpr std::uint64_t compact_size(std::uint64_t w) {
  return w >> kSizeAt & ((1u << kSizeBits) - 1);
}
constexpr bool size_has_code(std::uint64_t size) {
  return size < kExactSizeLimit || (size < kScaledSizeLimit && size % kSizeGrain == 0);
}
// REQUIRES: size_has_code(size)
constexpr std::uint64_t encode_size(std::uint64_t size) {
  return size < kExactSizeLimit ? size : kExactSizeLimit | (size - kExactSizeLimit) / kSizeGrain;
}
constexpr std::uint64_t decode_size(std::uint64_t field) {
  return field < kExactSizeLimit ? field
                                 : kExactSizeLimit + (field & (kExactSizeLimit - 1)) * kSizeGrain;
}

// A note is no event: a word of kind kNull ahead of the event that it tells something about, in the
// same block. What it tells takes the bits of the time delta (the low ones) and of window and
// offset. Readers pass over notes they do not know; one with no event behind it means nothing.
enum class Note : std::uint8_t {
  kTime = 0,      // clock units that pass before the event: more than its own time delta can hold
  kUsable = 112,  // usable bytes of the block acquired, or of a resize's result
  kOldUsable = 113,  // usable bytes, before the call, of the block released or resized
  kDuration = 114,   // raw ticks (not shifted) that the call took
};
inline constexpr unsigned kNoteFirst = 112;  // above the opcodes that kNull words can hold
inline constexpr int kNoteBits = kTimeBits + kWindowBits + kOffsetBits;
inline constexpr std::uint64_t kNoteMax = (std::uint64_t{1} << kNoteBits) - 1;
// REQUIRES: value <= kNoteMax
constexpr std::uint64_t note_word(Note note, std::uint64_t value) {
  return static_cast<std::uint64_t>(Kind::kNull) | (value & ((1u << kTimeBits) - 1)) << kTimeAt |
         static_cast<std::uint64_t>(note) << kSizeAt | (value >> kTimeBits) << kWindowAt;
}
constexpr std::uint64_t note_value(std::uint64_t w) {
  return (w >> kTimeAt & ((1u << kTimeBits) - 1)) | (w >> kWindowAt) << kTimeBits;
}
inline constexpr int kTimeWordBits = kNoteBits;
constexpr std::uint64_t time_word(std::uint64_t time_delta) {
  return note_word(Note::kTime, time_delta);
}
constexpr std::uint64_t time_word_delta(std::uint64_t w) { return note_value(w); }
constexpr unsigned compact_window(std::uint64_t w) { return w >> kWindowAt & (kWindows - 1); }
constexpr std::uint64_t compact_offset(std::uint64_t w) { return (w >> kOffsetAt) << kOffsetShift; }
constexpr std::uint8_t wide_op(std::uint64_t w) { return w >> 4 & 0xff; }
constexpr unsigned wide_words(std::uint64_t w) { return w >> 12 & 15; }
constexpr unsigned wide_path(std::uint64_t w) { return w >> 16 & 0xffff; }
constexpr unsigned wide_fields(std::uint64_t w) { return w >> 32 & 0xffff; }
constexpr std::uint64_t wide_time(std::uint64_t w) { return w >> 48; }

// The compact kind of a call, or kWide where it has none.
constexpr Kind compact_kind(Op op) {
  switch (op) {
    case Op::kMalloc:
      return Kind::kMalloc;
    case Op::kCalloc:
      return Kind::kCalloc;
    case Op::kFree:
      return Kind::kFree;
    case Op::kMallocUsableSize:
      return Kind::kUsableSize;
    case Op::kNew:
      return Kind::kNew;
    case Op::kNewArray:
      return Kind::kNewArray;
    case Op::kDelete:
      return Kind::kDelete;
    case Op::kDeleteArray:
      return Kind::kDeleteArray;
    case Op::kDeleteSized:
      return Kind::kDeleteSized;
    case Op::kDeleteArraySized:
      return Kind::kDeleteArraySized;
    default:
      return Kind::kWide;
  }
}
// The call of a compact kind; kNone for kinds that are no call by themselves.
constexpr Op compact_op(Kind kind) {
  switch (kind) {
    case Kind::kMalloc:
      return Op::kMalloc;
    case Kind::kCalloc:
      return Op::kCalloc;
    case Kind::kFree:
      return Op::kFree;
    case Kind::kReallocFrom:
    case Kind::kReallocTo:
    case Kind::kReallocSame:
      return Op::kRealloc;
    case Kind::kUsableSize:
      return Op::kMallocUsableSize;
    case Kind::kNew:
      return Op::kNew;
    case Kind::kNewArray:
      return Op::kNewArray;
    case Kind::kDelete:
      return Op::kDelete;
    case Kind::kDeleteArray:
      return Op::kDeleteArray;
    case Kind::kDeleteSized:
      return Op::kDeleteSized;
    case Kind::kDeleteArraySized:
      return Op::kDeleteArraySized;
    default:
      return Op::kNone;
  }
}

}  // namespace alloctape::wire
