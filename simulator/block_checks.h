// What `--verify` holds against an allocator, as it lies in shared memory.
#pragma once

#include <atomic>
#include <cstdint>

namespace alloctape::simulator {

enum class Fault : std::uint32_t {
  kNone,
  kOverlap,       // the new block shares bytes with one that is live; other, other_size: that one
  kAlignment,     // wanted: the alignment that was due
  kNotZero,       // calloc: at: offset of the first byte that is not zero; found: that byte
  kUsableSize,    // found: what malloc_usable_size says, below `size`
  kContents,      // a block no longer holds what was written to it: at, found, wanted: the byte
  kMovedContents  // realloc returned a block that does not hold what the old one held: the same
};

struct FoundFault {
  Fault fault;
  std::uint32_t op;  // opcode; 0: found at the end of the run
  std::uint32_t lane;
  std::uint32_t reserved;
  std::uint64_t op_index;  // API calls of the lane before it
  std::uint64_t position;  // word in the lane
  std::uint64_t slot, size, address;
  std::uint64_t at, wanted, found;
  std::uint64_t other_slot, other_size, other_address;
};

inline constexpr std::uint32_t kKeptFaults = 32;

struct FaultList {
  std::atomic<std::uint32_t> count;          // of all; the first kKeptFaults are kept
  std::atomic<std::uint64_t> blocks, bytes;  // checked at their end
  FoundFault kept[kKeptFaults];
};

}  // namespace alloctape::simulator
