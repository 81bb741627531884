// Event blocks of one stream -> the payload of a packed block: words apart into columns, pointers
// replaced by how they could be guessed (pack_model.h), each column compressed by zstd. Lossless
// for any words whatever.
//
// 20 to 50 ns a word on one core at level 3 (docs/performance.md).
// Thread safety: an object is for one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "formats/result.h"
#include "formats/wire/packed_layout.h"

struct ZSTD_CCtx_s;

namespace alloctape::formats {

inline constexpr int kDefaultPackLevel = 3, kMaxPackLevel = 19;
inline constexpr std::uint32_t kDefaultPackedParts = 16;

// One block as it was: what its header told, and its words, which are read in place.
struct RawBlock {
  std::uint64_t sequence = 0;
  std::uint64_t first_stamp = 0;
  std::uint32_t thread = 0;
  std::uint32_t words = 0;
  const std::uint64_t* data = nullptr;
};

// What is in some words, without decoding their pointers.
struct WordSurvey {
  std::uint64_t events = 0;                                       // meta events included
  std::uint64_t first_stamp = ~std::uint64_t{0}, last_stamp = 0;  // smallest and largest
  std::uint32_t first_thread = ~0u, last_thread = 0;              // likewise

  void add(const RawBlock& block);
};

class BlockPacker {
 public:
  explicit BlockPacker(int level = kDefaultPackLevel);
  ~BlockPacker();
  BlockPacker(const BlockPacker&) = delete;
  BlockPacker& operator=(const BlockPacker&) = delete;

  // Whether these blocks can go into one packed block.
  static bool fit(std::size_t blocks, std::uint64_t words) {
    return blocks >= 1 && blocks <= wire::kMaxPackedParts && words <= wire::kMaxPackedWords;
  }
  // The payload; valid until the next call. REQUIRES: fit(), and that the blocks are consecutive
  // blocks of one stream.
  Result<std::span<const std::byte>> pack(std::span<const RawBlock> blocks);
  const WordSurvey& survey() const { return survey_; }  // of what was packed last

 private:
  struct Columns;
  class Encoder;
  Status append_column(const std::uint8_t* data, std::uint32_t bytes, wire::PackedColumn& column);

  int level_;
  ZSTD_CCtx_s* context_;
  std::unique_ptr<Columns> columns_;
  WordSurvey survey_;
  std::vector<std::byte> payload_;
};

}  // namespace alloctape::formats
