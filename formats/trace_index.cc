#include "formats/trace_index.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "formats/wire/packed_layout.h"

namespace alloctape::formats {

namespace {

constexpr std::uint64_t kMaxPayload = std::uint64_t{1} << 30;

// A header of this type whose payload is wholly in the file.
std::optional<wire::BlockHeader> whole_block(const MappedFile& file, std::uint64_t offset) {
  wire::BlockHeader block;
  if (offset % wire::kBlockAlign != 0 || offset > file.size() ||
      file.size() - offset < sizeof block) {
    return std::nullopt;
  }
  std::memcpy(&block, file.data() + offset, sizeof block);
  if (block.magic != wire::kBlockMagic || block.payload_bytes > kMaxPayload ||
      block.payload_bytes > file.size() - offset - sizeof block) {
    return std::nullopt;
  }
  return block;
}

bool plausible(const wire::IndexEntry& e, std::uint64_t header_bytes, std::uint64_t index_offset) {
  if (e.offset % wire::kBlockAlign != 0 || e.offset < header_bytes || e.offset >= index_offset ||
      e.words == 0 || e.first_stamp > e.last_stamp || e.first_thread > e.last_thread) {
    return false;
  }
  // 0 blocks: an event block that is not packed.
  if (e.blocks == 0) return e.words <= (index_offset - e.offset) / sizeof(std::uint64_t);
  return e.blocks <= wire::kMaxPackedParts && e.words <= wire::kMaxPackedWords &&
         e.sequence <= ~std::uint64_t{0} - e.blocks;
}

}  // namespace

TraceIndex read_index(const MappedFile& file, const wire::TraceHeader& header) {
  TraceIndex index;
  if (header.index_offset < header.header_bytes) return index;
  const auto block = whole_block(file, header.index_offset);
  if (!block || block->type != wire::BlockType::kIndex ||
      block->payload_bytes % sizeof(wire::IndexEntry) != 0 || block->payload_bytes == 0) {
    return index;
  }
  index.entries.resize(block->payload_bytes / sizeof(wire::IndexEntry));
  std::memcpy(index.entries.data(), file.data() + header.index_offset + sizeof *block,
              block->payload_bytes);
  std::uint64_t last = 0;
  index.first_block = header.index_offset;
  const wire::IndexEntry* before = nullptr;
  for (const wire::IndexEntry& e : index.entries) {
    const bool in_order = before == nullptr || e.stream > before->stream ||
                          (e.stream == before->stream &&
                           e.sequence >= before->sequence + std::max(before->blocks, 1u));
    if (!in_order || !plausible(e, header.header_bytes, header.index_offset)) return {};
    index.first_block = std::min(index.first_block, e.offset);
    last = std::max(last, e.offset);
    before = &e;
  }
  const auto last_block = whole_block(file, last);
  if (!last_block) return {};
  index.end_of_blocks = last + sizeof *last_block + last_block->payload_bytes;
  if (index.end_of_blocks > header.index_offset) return {};
  return index;
}

}  // namespace alloctape::formats
