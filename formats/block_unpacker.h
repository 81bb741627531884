// The payload of a packed block -> the words of the blocks that went into it.
//
// The payload is hostile until proven otherwise: what it claims is checked against limits before
// memory is taken, and a checksum tells whether the words are those that were packed. Memory: at
// most 1 MiB of words, and 5 MiB of columns while unpacking, of which a real block touches a fifth.
// Thread safety: an object is for one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "formats/result.h"
#include "formats/wire/packed_layout.h"

namespace alloctape::formats {

// What the head of a payload tells, checked.
struct PackedHead {
  wire::PackedHeader header;
  std::vector<wire::PackedPart> parts;
  std::array<wire::PackedColumn, wire::kColumns> columns;
  std::size_t data_at = 0;  // offset of the columns' data in the payload
};

// `parts`: BlockHeader.blocks. Offsets in errors are offsets in the payload.
Result<PackedHead> read_packed_head(std::span<const std::byte> payload, std::uint32_t parts);

class BlockUnpacker {
 public:
  BlockUnpacker();
  ~BlockUnpacker();
  BlockUnpacker(const BlockUnpacker&) = delete;
  BlockUnpacker& operator=(const BlockUnpacker&) = delete;

  // Leaves the words of all parts, one behind the other, in `words`.
  Status unpack(std::span<const std::byte> payload, const PackedHead& head,
                std::vector<std::uint64_t>& words);

 private:
  struct Scratch;
  std::unique_ptr<Scratch> scratch_;
};

}  // namespace alloctape::formats
