#include "formats/block_packer.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <fmt/format.h>
#include <zstd.h>

#include "formats/pack_model.h"
#include "formats/wire/event_word.h"

namespace alloctape::formats {

using wire::Column;
using wire::Kind;

namespace {

constexpr unsigned kIndexBits = 16;  // of the table of blocks, at most: 512 KiB
// Below this, compressing saves nothing.
constexpr std::uint32_t kSmallColumn = 32;
// Random bytes cost zstd much time for nothing: a sample tells.
constexpr std::uint32_t kSampleBytes = 4096;

constexpr unsigned at(Column c) { return static_cast<unsigned>(c); }

}  // namespace

// Where the columns are built, one behind the other, each with the room that it could ever need.
struct BlockPacker::Columns {
  std::vector<std::uint8_t> bytes;
  std::array<std::uint8_t*, wire::kColumns> begin{}, end{};
  std::vector<std::uint64_t> index;
  detail::PackModel model;

  void prepare(std::uint64_t words) {
    std::size_t total = 0;
    for (const std::uint8_t per_word : wire::kColumnBytesPerWord) total += words * per_word;
    if (bytes.size() < total) bytes.resize(total);
    std::uint8_t* p = bytes.data();
    for (unsigned c = 0; c < wire::kColumns; ++c) {
      begin[c] = end[c] = p;
      p += words * wire::kColumnBytesPerWord[c];
    }
    index.assign(std::size_t{1} << index_bits(words), 0);
    model.reset();
  }
  static unsigned index_bits(std::uint64_t words) {
    return std::clamp(static_cast<unsigned>(std::bit_width(words)), 8u, kIndexBits);
  }
};

class BlockPacker::Encoder {
 public:
  Encoder(Columns& columns, std::uint64_t words)
      : out_(columns.end),
        model_(columns.model),
        index_(columns.index.data()),
        index_shift_(32 - Columns::index_bits(words)) {}

  void add(const RawBlock& block) {
    const std::uint64_t* word = block.data;
    const std::uint64_t* const end = word + block.words;
    while (word != end) word += encode(word, static_cast<std::uint64_t>(end - word));
  }

  void finish() {
    if (zeros_ != 0) put(Column::kZeros, zeros_);
  }

 private:
  void put(Column c, std::uint64_t byte) { *out_[at(c)]++ = static_cast<std::uint8_t>(byte); }
  void put16(Column low, Column high, std::uint64_t value) {
    put(low, value);
    put(high, value >> 8);
  }
  template <int bytes>
  void put_bytes(Column c, std::uint64_t value) {
    std::memcpy(out_[at(c)], &value, bytes);  // little-endian, as all of the format
    out_[at(c)] += bytes;
  }

  // Returns how many words it took.
  unsigned encode(const std::uint64_t* word, std::uint64_t left) {
    const std::uint64_t w = *word;
    switch (wire::word_kind(w)) {
      case Kind::kMalloc:
      case Kind::kCalloc:
      case Kind::kReallocTo:
      case Kind::kNew:
      case Kind::kNewArray:
        put_op(w);
        put_size(w);
        put_acquire(w);
        return 1;
      case Kind::kFree:
      case Kind::kReallocFrom:
      case Kind::kDelete:
      case Kind::kDeleteArray:
        if (wire::compact_size(w) != 0) return put_raw(w);
        put_op(w);
        put_release(detail::pointer_key(w));
        forget();
        return 1;
      case Kind::kDeleteSized:
      case Kind::kDeleteArraySized: {
        put_op(w);
        put_release(detail::pointer_key(w));
        const bool kept = released_.known && released_.size == wire::compact_size(w);
        put(Column::kSizeKept, kept);
        if (!kept) put_size(w);
        forget();
        return 1;
      }
      case Kind::kReallocSame:
      case Kind::kUsableSize:
        put_op(w);
        put_size(w);
        put_release(detail::pointer_key(w));
        if (released_.known && wire::word_kind(w) == Kind::kReallocSame) {
          remember(released_.key, released_.number, wire::compact_size(w));
        }
        return 1;
      case Kind::kNull:
        put_null(w);
        return 1;
      case Kind::kWide: {
        const unsigned words = wire::wide_words(w);
        if (words == 0 || words > left) return put_raw(w);
        put_wide(word, words);
        return words;
      }
      case Kind::kEmpty:
        break;
    }
    return put_raw(w);
  }

  void put_op(std::uint64_t w) {
    put(Column::kOp, (w & 15) | wire::compact_window(w) << 4);
    put_time(wire::compact_time(w));
  }
  void put_size(std::uint64_t w) {
    put16(Column::kSizeLow, Column::kSizeHigh, wire::compact_size(w));
  }
  unsigned put_raw(std::uint64_t w) {
    put(Column::kOp, wire::kPackedRaw);
    put_bytes<8>(Column::kRaw, w);
    return 1;
  }

  void put_time(std::uint64_t delta) {
    if (delta == 0) {
      if (++zeros_ == wire::kZerosMark) {
        put(Column::kZeros, wire::kZerosMark);
        zeros_ = 0;
      }
      return;
    }
    put(Column::kZeros, zeros_);
    zeros_ = 0;
    if (delta < wire::kLongTimeMark) {
      put(Column::kTime, delta);
    } else {
      put(Column::kTime, wire::kLongTimeMark);
      put_bytes<2>(Column::kLongTime, delta);
    }
  }

  // The block that a pointer belongs to, if it was acquired in these words and is still remembered:
  // an entry is key (30 bits), number of the acquire (18), size field (16).
  struct Block {
    bool known = false;
    std::uint32_t key = 0, number = 0, size = 0;
  };
  std::uint64_t& slot(std::uint32_t key) { return index_[(key * 0x9e3779b1u) >> index_shift_]; }
  void remember(std::uint32_t key, std::uint32_t number, std::uint64_t size) {
    slot(key) = std::uint64_t{key} << 34 | std::uint64_t{number} << 16 | size;
  }
  void acquired(std::uint32_t key, std::uint64_t size) { remember(key, ++acquires_, size); }

  void put_acquire(std::uint64_t w) {
    const std::uint32_t key = detail::pointer_key(w);
    const auto size = static_cast<std::uint32_t>(wire::compact_size(w));
    const unsigned size_class = detail::size_class(size);
    const unsigned depth = model_.find(size_class, key);
    if (depth < wire::kRecentBlocks) {
      model_.take(size_class, depth);
      put(Column::kAcquire, depth);
    } else {
      if (key == model_.next_fresh) {
        put(Column::kAcquire, wire::kAcquireNext);
      } else {
        put(Column::kAcquire, wire::kAcquireOffset);
        put_offset(Column::kAcquireOffsetLow, Column::kAcquireOffsetHigh, key);
      }
      model_.next_fresh = key + detail::block_stride(size);
    }
    acquired(key, size);
  }

  void put_offset(Column low, Column high, std::uint32_t key) {
    const std::uint32_t difference = key - model_.last_unguessed;
    model_.last_unguessed = key;
    put_bytes<2>(low, difference & 0xffff);
    put_bytes<2>(high, difference >> 16);
  }

  // Leaves in released_ which block it was.
  void put_release(std::uint32_t key) {
    const std::uint64_t entry = slot(key);
    released_.key = key;
    released_.number = static_cast<std::uint32_t>(entry >> 16 & 0x3ffff);
    released_.size = static_cast<std::uint32_t>(entry & 0xffff);
    const std::uint32_t age = acquires_ + 1 - released_.number;
    released_.known = entry >> 34 == key && released_.number != 0 && age <= 0xffff;
    if (!released_.known) {
      put(Column::kRelease, wire::kReleaseOffset);
      put_offset(Column::kReleaseOffsetLow, Column::kReleaseOffsetHigh, key);
      return;
    }
    const std::uint32_t near = released_.number - model_.last_release + wire::kNearBias;
    model_.last_release = released_.number;
    if (near < wire::kReleaseNear) {
      put(Column::kRelease, near);
    } else if (age <= wire::kShortAges) {
      put(Column::kRelease, age + wire::kShortAgeBias);
    } else {
      put(Column::kRelease, wire::kReleaseAge);
      put16(Column::kAgeLow, Column::kAgeHigh, age);
    }
  }
  void forget() {
    if (released_.known) model_.release(detail::size_class(released_.size), released_.key);
  }

  void put_null(std::uint64_t w) {
    const std::uint64_t code = wire::compact_size(w);
    if (code > 0xff) {
      put_raw(w);
    } else if (code == 0 || code >= wire::kNoteFirst) {
      put(Column::kOp, wire::kPackedNote);
      put(Column::kNullCode, code);
      put_value(static_cast<wire::Note>(code), wire::note_value(w));
    } else if (w >> wire::kWindowAt != 0) {
      put_raw(w);
    } else {
      put(Column::kOp, wire::kPackedNull);
      put(Column::kNullCode, code);
      put_time(wire::compact_time(w));
    }
  }

  void put_value(wire::Note note, std::uint64_t value) {
    const std::uint64_t low = std::min<std::uint64_t>(value, wire::kValueMark);
    switch (note) {
      case wire::Note::kUsable:
      case wire::Note::kOldUsable:
        put16(Column::kUsableLow, Column::kUsableHigh, low);
        break;
      case wire::Note::kDuration:
        put16(Column::kDurationLow, Column::kDurationHigh, low);
        break;
      default:
        put16(Column::kValueLow, Column::kValueHigh, low);
    }
    if (low == wire::kValueMark) put_bytes<8>(Column::kRaw, value);
  }

  // Everything of the first word but kind and time fits 6 bytes.
  void put_wide(const std::uint64_t* word, unsigned words) {
    put(Column::kOp, wire::kPackedWide);
    put_bytes<6>(Column::kWideHead, *word >> 4 & ((std::uint64_t{1} << 44) - 1));
    put_time(wire::wide_time(*word));
    unsigned fields = wire::wide_fields(*word);
    for (unsigned i = 1; i < words; ++i) {
      const unsigned field = fields != 0 ? static_cast<unsigned>(std::countr_zero(fields)) : 16;
      fields &= fields - 1;
      std::uint64_t& last = model_.last_field[field];
      put_bytes<8>(Column::kField, word[i] - last);
      last = word[i];
    }
    if (const auto block = detail::wide_block(word, words); block.known) {
      acquired(block.key, block.size);
    }
  }

  std::array<std::uint8_t*, wire::kColumns>& out_;
  detail::PackModel& model_;
  std::uint64_t* index_;
  unsigned index_shift_;
  std::uint32_t acquires_ = 0;
  std::uint32_t zeros_ = 0;
  Block released_;
};

BlockPacker::BlockPacker(int level)
    : level_(std::clamp(level, 1, kMaxPackLevel)),
      context_(ZSTD_createCCtx()),
      columns_(std::make_unique<Columns>()) {}

BlockPacker::~BlockPacker() { ZSTD_freeCCtx(context_); }

Result<std::span<const std::byte>> BlockPacker::pack(std::span<const RawBlock> blocks) {
  std::uint64_t words = 0;
  for (const RawBlock& block : blocks) words += block.words;
  columns_->prepare(words);
  survey_ = {};

  wire::PackedHeader header{};
  header.encoding = wire::kPackedEncoding;
  header.columns = wire::kColumns;
  header.words = static_cast<std::uint32_t>(words);
  wire::PackedChecksum checksum;
  Encoder encoder(*columns_, words);
  payload_.resize(sizeof header + blocks.size() * sizeof(wire::PackedPart) +
                  wire::kColumns * sizeof(wire::PackedColumn));
  std::byte* at_part = payload_.data() + sizeof header;
  for (const RawBlock& block : blocks) {
    const wire::PackedPart part{block.first_stamp, block.thread, block.words};
    std::memcpy(at_part, &part, sizeof part);
    at_part += sizeof part;
    survey_.add(block);
    checksum.add(block.data, block.words);
    encoder.add(block);
  }
  encoder.finish();
  header.first_stamp = std::min(survey_.first_stamp, survey_.last_stamp);
  header.last_stamp = survey_.last_stamp;
  header.first_thread = std::min(survey_.first_thread, survey_.last_thread);
  header.last_thread = survey_.last_thread;
  header.checksum = checksum.value();
  std::memcpy(payload_.data(), &header, sizeof header);

  const std::size_t at_columns = sizeof header + blocks.size() * sizeof(wire::PackedPart);
  for (unsigned c = 0; c < wire::kColumns; ++c) {
    wire::PackedColumn column{};
    const auto bytes = static_cast<std::uint32_t>(columns_->end[c] - columns_->begin[c]);
    if (const Status status = append_column(columns_->begin[c], bytes, column); !status) {
      return status.error();
    }
    std::memcpy(payload_.data() + at_columns + c * sizeof column, &column, sizeof column);
  }
  return std::span<const std::byte>(payload_);
}

Status BlockPacker::append_column(const std::uint8_t* data, std::uint32_t bytes,
                                  wire::PackedColumn& column) {
  column.unpacked_bytes = bytes;
  const std::size_t start = payload_.size();
  const auto store = [&](wire::ColumnMethod method, std::uint32_t stored) -> Status {
    column.method = method;
    column.stored_bytes = stored;
    payload_.resize(start + stored);
    if (method != wire::ColumnMethod::kZstd && stored != 0) {
      std::memcpy(payload_.data() + start, data, stored);
    }
    return Nothing{};
  };
  if (bytes > 1 && std::memcmp(data, data + 1, bytes - 1) == 0) {
    return store(wire::ColumnMethod::kRepeat, 1);
  }
  if (bytes < kSmallColumn) return store(wire::ColumnMethod::kStored, bytes);
  const std::size_t bound = ZSTD_compressBound(bytes);
  payload_.resize(start + bound);
  const auto compress = [&](std::uint32_t count, int level) {
    return ZSTD_compressCCtx(context_, payload_.data() + start, bound, data, count, level);
  };
  if (bytes > 4 * kSampleBytes) {
    const std::size_t n = compress(kSampleBytes, 1);
    if (!ZSTD_isError(n) && n >= kSampleBytes) return store(wire::ColumnMethod::kStored, bytes);
  }
  const std::size_t n = compress(bytes, level_);
  if (ZSTD_isError(n)) {
    payload_.resize(start);
    return Error{
        ErrorCode::kIo, fmt::format("zstd cannot compress: {}", ZSTD_getErrorName(n)), {}, {}, {}};
  }
  if (n >= bytes) return store(wire::ColumnMethod::kStored, bytes);
  return store(wire::ColumnMethod::kZstd, static_cast<std::uint32_t>(n));
}

void WordSurvey::add(const RawBlock& block) {
  std::uint64_t stamp = block.first_stamp;
  std::uint32_t thread = block.thread;
  bool first = true;
  const auto take_stamp = [&] {
    first_stamp = std::min(first_stamp, stamp);
    last_stamp = std::max(last_stamp, stamp);
  };
  const auto take_thread = [&](std::uint32_t t) {
    first_thread = std::min(first_thread, t);
    last_thread = std::max(last_thread, t);
  };
  const std::uint64_t* word = block.data;
  const std::uint64_t* const end = word + block.words;
  if (word != end) take_thread(thread);
  bool pair = false;  // the next word is the second half of a realloc
  while (word != end) {
    const std::uint64_t w = *word;
    const Kind kind = wire::word_kind(w);
    unsigned words = 1;
    if (kind == Kind::kWide) {
      words = std::max(1u, wire::wide_words(w));
      if (words > static_cast<std::uint64_t>(end - word)) break;  // corrupt, or cut
      unsigned i = 1;
      const unsigned fields = wire::wide_fields(w);
      if (!first) take_stamp();
      stamp = fields & wire::kFieldStamp && words > 1 ? word[i] : stamp + wire::wide_time(w);
      first = true;  // times may have gone back
      i += static_cast<unsigned>(std::popcount(fields & (wire::kFieldThread - 1u)));
      if (fields & wire::kFieldThread && i < words) {
        const auto t = static_cast<std::uint32_t>(word[i]);
        take_thread(t);
        if (wire::wide_op(w) == static_cast<std::uint8_t>(wire::Op::kThreadStart)) thread = t;
      }
      ++events;
    } else if (kind == Kind::kNull) {
      const std::uint64_t code = wire::compact_size(w);
      const bool note = code == 0 || code >= wire::kNoteFirst;
      if (code == 0) stamp += wire::time_word_delta(w);
      if (!note) stamp += wire::compact_time(w);
      events += !note;
      if (note) {
        ++word;
        continue;  // no event, so no time of one
      }
    } else {
      stamp += wire::compact_time(w);
      events += !(pair && kind == Kind::kReallocTo);
    }
    if (first) {
      take_stamp();
      first = false;
    }
    pair = kind == Kind::kReallocFrom;
    word += words;
  }
  if (!first) take_stamp();
}

}  // namespace alloctape::formats
