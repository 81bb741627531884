// What lies where in a workload file (.awl). Specification: docs/formats/workload.md.
//
// Header-only, no library, no allocation: the replayer reads workloads through this file alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "formats/wire/opcodes.h"

namespace alloctape::wire {

inline constexpr char kWorkloadMagic[8] = {'\x89', 'A', 'W', 'O', 'R', 'K', 'L', '\n'};
inline constexpr std::uint16_t kWorkloadVersion = 1;

// Features a reader must know to replay the workload.
enum WorkloadRequirement : std::uint64_t {
  kWorkloadRequiresMaps = 1 << 0,  // ops of mmap's family occur
};
inline constexpr std::uint64_t kWorkloadRequiredFeatures = kWorkloadRequiresMaps;

enum class SyncOrder : std::uint32_t { kCausal = 1, kBounded = 2, kSerial = 3 };

// Byte offset from the start of the file, and number of entries (bytes, for text).
struct Section {
  std::uint64_t offset;
  std::uint64_t count;
};

struct WorkloadHeader {
  char magic[8];
  std::uint16_t version;
  std::uint16_t complete;  // 1 when the writer finished; anything else: unfinished, not replayable
  std::uint32_t header_bytes;
  std::uint64_t features;
  std::uint64_t required_features;  // WorkloadRequirement
  std::uint64_t file_bytes;
  SyncOrder order;
  std::uint32_t lanes;       // scripts that run side by side; lane 0 is the process's main thread
  std::uint64_t threads;     // recorded threads; those of one lane run one after another
  std::uint64_t slots;       // slot indices are 1 .. slots; 0 is the NULL pointer
  std::uint64_t ops;         // calls, the sum of ops_by_kind
  std::uint64_t sync_points; // wait ops
  std::uint64_t prologue_blocks;   // blocks that lived before the recording began
  std::uint64_t peak_live_bytes;   // requested bytes, in recorded order
  std::uint64_t peak_live_blocks;
  std::uint64_t end_live_bytes;
  std::uint64_t end_live_blocks;
  std::uint64_t recorded_ns;       // first event to last
  Section provenance;  // JSON text: the program's name, the allocator recorded under, conversion
  Section lane_table;    // LaneEntry[lanes + 1]; the last is the prologue
  Section chunk_table;   // ChunkEntry[], by lane, then by first_word
  Section thread_table;  // ThreadEntry[threads]
  Section live_curve;    // CurvePoint[]: live requested bytes in recorded order
  Section rss_curve;     // CurvePoint[]: anonymous RSS of the original process
  // Where header_bytes is 608, as in the first files, it ends with the 48 counts of malloc's API; a
  // reader takes what is not there for 0.
  std::uint64_t ops_by_kind[kMapOpLimit];
  std::uint64_t peak_mapped_bytes;  // of mappings that mmap ops made, in recorded order
  std::uint64_t end_mapped_bytes;
};
static_assert(offsetof(WorkloadHeader, provenance) == 128);
static_assert(sizeof(WorkloadHeader) == 224 + 8 * kMapOpLimit + 16);
inline constexpr std::uint32_t kLeastWorkloadHeaderBytes = 224 + 8 * kApiOpLimit;

struct LaneEntry {
  std::uint64_t first_chunk;  // index into the chunk table
  std::uint64_t chunks;
  std::uint64_t words;
  std::uint64_t threads;
};
struct ChunkEntry {
  std::uint32_t lane;
  std::uint32_t words;       // 1 .. kChunkWords; ops never straddle chunks
  std::uint64_t offset;      // in the file, multiple of 8
  std::uint64_t first_word;  // position of the chunk within its lane
};
struct ThreadEntry {
  std::uint64_t thread;      // index in the trace
  std::uint64_t lane;
  std::uint64_t first_word;  // position in the lane
  std::uint64_t end_word;
  std::uint64_t ops;
  std::uint64_t start_ns;    // since the first event of the recording
  std::uint64_t end_ns;
};
struct CurvePoint {
  std::uint64_t ns;     // recorded time since the first event
  std::uint64_t ops;    // API calls so far, over all threads (0 where unknown)
  std::uint64_t bytes;
};
inline constexpr std::uint32_t kChunkWords = 8192;

// An op is a word, or a word and a few more.
//
//   63                          32 31                     9   8    7   6      0
//  +------------------------------+------------------------+---+-----+---------+
//  | size                    (32) | slot              (23) | 0 | pub | opcode  |   narrow
//  +------------------------------+------------------------+---+-----+---------+
//
//   63                             20 19      12 11    9   8    7   6      0
//  +---------------------------------+----------+-------+---+-----+---------+
//  | slot                       (44) | flags    | words | 1 | pub | opcode  |   wide, first word
//  +---------------------------------+----------+-------+---+-----+---------+
//   second word: size; third word: alignment, or the count of calloc and reallocarray
//
// pub: when this op is done, publish this lane's position (some lane waits for it).
// Position: index, within the lane, of the word after the op. A lane also publishes after the last op
// of every chunk, and at exit.
//
// Ops of mmap's family act on mappings, which have slots like blocks, and are always wide. Their words
// behind the first, in this order:
//
//  mmap     size, offset, prot | flags << 32
//  munmap   length, offset
//  mremap   new size
//  madvise  length, offset, advice
//
//  wait  (wide, 2 words): slot field = the other lane; second word = the position to be passed
//  spawn (narrow): size field = lane to start the next thread of
//  exit  (narrow)
//  time  (wide, 2 words): second word = recorded ns since the first event
inline constexpr std::uint64_t kOpMask = 0x7f;
inline constexpr std::uint64_t kPublishBit = 1 << 7;
inline constexpr std::uint64_t kWideBit = 1 << 8;
inline constexpr int kSlotAt = 9, kNarrowSlotBits = 23, kNarrowSizeAt = 32;
inline constexpr int kOpWordsAt = 9, kOpFlagsAt = 12, kWideSlotAt = 20;

enum OpFlag : std::uint8_t {
  kOpFailed = 1 << 0,      // the recorded call returned nothing; a block it now returns is freed again
  kOpFromNull = 1 << 1,    // realloc(NULL, size) into the slot
  kOpFreesBlock = 1 << 2,  // realloc(p, 0) that released p and returned NULL; munmap: the last part
  kOpInPlace = 1 << 3,     // mmap with MAP_FIXED over a part of the slot's mapping
  kOpSizeKnown = 1 << 4,   // prologue: the size is the block's, not a guess; it counts as live
};

constexpr std::uint64_t narrow_op(Op op, std::uint64_t slot, std::uint64_t size) {
  return static_cast<std::uint64_t>(op) | slot << kSlotAt | size << kNarrowSizeAt;
}
constexpr std::uint64_t wide_op_word(Op op, unsigned words, unsigned flags, std::uint64_t slot) {
  return static_cast<std::uint64_t>(op) | kWideBit | static_cast<std::uint64_t>(words) << kOpWordsAt |
         static_cast<std::uint64_t>(flags) << kOpFlagsAt | slot << kWideSlotAt;
}
constexpr unsigned map_op_words(Op op) {
  return op == Op::kMremap ? 2 : op == Op::kMunmap ? 3 : 4;
}
// What a workload tells of how often it was called; the rest steers.
constexpr bool is_call_op(Op op) { return is_api_op(op) || is_map_op(op); }
constexpr bool fits_narrow(std::uint64_t slot, std::uint64_t size) {
  return slot < (1u << kNarrowSlotBits) && size <= 0xffffffffu;
}
constexpr Op op_of(std::uint64_t w) { return static_cast<Op>(w & kOpMask); }
constexpr bool is_wide(std::uint64_t w) { return w & kWideBit; }
constexpr unsigned op_words(std::uint64_t w) { return is_wide(w) ? w >> kOpWordsAt & 7 : 1; }
constexpr unsigned op_flags(std::uint64_t w) { return is_wide(w) ? w >> kOpFlagsAt & 0xff : 0; }
constexpr std::uint64_t op_slot(std::uint64_t w) {
  return is_wide(w) ? w >> kWideSlotAt : w >> kSlotAt & ((1u << kNarrowSlotBits) - 1);
}
constexpr std::uint64_t narrow_size(std::uint64_t w) { return w >> kNarrowSizeAt; }

}  // namespace alloctape::wire
