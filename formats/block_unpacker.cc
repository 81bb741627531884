#include "formats/block_unpacker.h"

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

Error corrupt(std::string message, std::uint64_t offset, const char* field) {
  return {ErrorCode::kCorrupt, std::move(message), {}, offset, field};
}

constexpr unsigned at(Column c) { return static_cast<unsigned>(c); }

// A word takes at most kColumnBytesPerWord of a column, and each column has room for that many
// times the words that are asked for: so nothing is read beyond the columns, whatever the op bytes
// say, and one comparison at the end tells whether they were right.
class WordDecoder {
 public:
  WordDecoder(std::array<const std::uint8_t*, wire::kColumns>& in, detail::PackModel& model,
              std::uint64_t* blocks)
      : in_(in), model_(model), blocks_(blocks) {}

  // False: these columns were not made by a packer.
  bool decode(std::uint64_t* word, std::uint64_t* const end) {
    while (word != end) {
      const std::uint8_t op = take(Column::kOp);
      std::uint64_t w = op & 15u;
      switch (static_cast<Kind>(op & 15)) {
        case Kind::kMalloc:
        case Kind::kCalloc:
        case Kind::kReallocTo:
        case Kind::kNew:
        case Kind::kNewArray: {
          w |= take_time() << wire::kTimeAt;
          const std::uint32_t size = take16(Column::kSizeLow, Column::kSizeHigh);
          std::uint32_t key = 0;
          if (!take_acquire(size, key)) return false;
          *word++ = w | std::uint64_t{size} << wire::kSizeAt | pointer_bits(key, op);
          break;
        }
        case Kind::kFree:
        case Kind::kReallocFrom:
        case Kind::kDelete:
        case Kind::kDeleteArray:
          w |= take_time() << wire::kTimeAt;
          if (!take_release()) return false;
          *word++ = w | pointer_bits(released_.key, op);
          forget();
          break;
        case Kind::kDeleteSized:
        case Kind::kDeleteArraySized: {
          w |= take_time() << wire::kTimeAt;
          if (!take_release()) return false;
          const bool kept = take(Column::kSizeKept) != 0;
          const std::uint32_t size =
              kept ? released_.size : take16(Column::kSizeLow, Column::kSizeHigh);
          *word++ = w | std::uint64_t{size} << wire::kSizeAt | pointer_bits(released_.key, op);
          forget();
          break;
        }
        case Kind::kReallocSame:
        case Kind::kUsableSize: {
          w |= take_time() << wire::kTimeAt;
          const std::uint32_t size = take16(Column::kSizeLow, Column::kSizeHigh);
          if (!take_release()) return false;
          if (released_.known && static_cast<Kind>(op & 15) == Kind::kReallocSame) {
            blocks_[released_.number] = std::uint64_t{released_.key} << 16 | size;
          }
          *word++ = w | std::uint64_t{size} << wire::kSizeAt | pointer_bits(released_.key, op);
          break;
        }
        case Kind::kNull:
          if (op == wire::kPackedNull) {
            w |= std::uint64_t{take(Column::kNullCode)} << wire::kSizeAt;
            w |= take_time() << wire::kTimeAt;
            *word++ = w;
          } else if (op == wire::kPackedNote) {
            *word++ = take_note();
          } else {
            return false;
          }
          break;
        case Kind::kEmpty:
          if (op != wire::kPackedRaw) return false;
          *word++ = take_bytes<8>(Column::kRaw);
          break;
        case Kind::kWide: {
          if (op != wire::kPackedWide) return false;
          const unsigned words = take_wide(word, static_cast<std::uint64_t>(end - word));
          if (words == 0) return false;
          word += words;
          break;
        }
      }
    }
    return true;
  }

 private:
  std::uint8_t take(Column c) { return *in_[at(c)]++; }
  std::uint32_t take16(Column low, Column high) {
    const std::uint32_t value = take(low);
    return value | std::uint32_t{take(high)} << 8;
  }
  template <int bytes>
  std::uint64_t take_bytes(Column c) {
    std::uint64_t value = 0;
    std::memcpy(&value, in_[at(c)], bytes);
    in_[at(c)] += bytes;
    return value;
  }

  std::uint64_t take_time() {
    if (zeros_ != 0) {
      --zeros_;
      return 0;
    }
    if (!due_) {
      const std::uint32_t zeros = take(Column::kZeros);
      due_ = zeros != wire::kZerosMark;
      if (zeros != 0) {
        zeros_ = zeros - 1;
        return 0;
      }
    }
    due_ = false;
    const std::uint64_t delta = take(Column::kTime);
    return delta != wire::kLongTimeMark ? delta : take_bytes<2>(Column::kLongTime);
  }

  // The window is in the op byte; a guessed pointer of another window is a packer's mistake, which
  // the checksum brings to light.
  static std::uint64_t pointer_bits(std::uint32_t key, std::uint8_t op) {
    const std::uint64_t offset = key & ((1u << wire::kOffsetBits) - 1);
    return offset << wire::kOffsetAt | static_cast<std::uint64_t>(op >> 4) << wire::kWindowAt;
  }
  void acquired(std::uint32_t key, std::uint32_t size) {
    blocks_[++acquires_] = std::uint64_t{key} << 16 | size;
  }
  std::uint32_t take_offset(Column low, Column high) {
    const auto value = static_cast<std::uint32_t>(take_bytes<2>(low) | take_bytes<2>(high) << 16);
    return model_.last_unguessed += value;
  }

  bool take_acquire(std::uint32_t size, std::uint32_t& key) {
    const std::uint8_t code = take(Column::kAcquire);
    if (code < wire::kRecentBlocks) {
      key = model_.take(detail::size_class(size), code);
    } else {
      if (code > wire::kAcquireOffset) return false;
      key = code == wire::kAcquireNext
                ? model_.next_fresh
                : take_offset(Column::kAcquireOffsetLow, Column::kAcquireOffsetHigh);
      model_.next_fresh = key + detail::block_stride(size);
    }
    acquired(key, size);
    return true;
  }

  struct Block {
    bool known = false;
    std::uint32_t key = 0, number = 0, size = 0;
  };
  bool take_release() {
    const std::uint8_t code = take(Column::kRelease);
    released_.known = code != wire::kReleaseOffset;
    if (!released_.known) {
      released_.key = take_offset(Column::kReleaseOffsetLow, Column::kReleaseOffsetHigh);
      return true;
    }
    std::uint32_t number = acquires_ + 1;
    if (code < wire::kReleaseNear) {
      number = model_.last_release + code - wire::kNearBias;
    } else if (code == wire::kReleaseAge) {
      number -= take16(Column::kAgeLow, Column::kAgeHigh);
    } else {
      number -= code - wire::kShortAgeBias;
    }
    if (number - 1 >= acquires_) return false;  // 1 .. acquires_
    model_.last_release = released_.number = number;
    released_.key = static_cast<std::uint32_t>(blocks_[number] >> 16);
    released_.size = static_cast<std::uint32_t>(blocks_[number] & 0xffff);
    return true;
  }
  void forget() {
    if (released_.known) model_.release(detail::size_class(released_.size), released_.key);
  }

  std::uint64_t take_note() {
    const auto note = static_cast<wire::Note>(take(Column::kNullCode));
    std::uint64_t value = 0;
    switch (note) {
      case wire::Note::kUsable:
      case wire::Note::kOldUsable:
        value = take16(Column::kUsableLow, Column::kUsableHigh);
        break;
      case wire::Note::kDuration:
        value = take16(Column::kDurationLow, Column::kDurationHigh);
        break;
      default:
        value = take16(Column::kValueLow, Column::kValueHigh);
    }
    if (value == wire::kValueMark) value = take_bytes<8>(Column::kRaw);
    return wire::note_word(note, value);
  }

  // How many words; 0: more than there is room for.
  unsigned take_wide(std::uint64_t* word, std::uint64_t room) {
    const std::uint64_t head = static_cast<std::uint64_t>(Kind::kWide) |
                               take_bytes<6>(Column::kWideHead) << 4 | take_time() << 48;
    const unsigned words = wire::wide_words(head);
    if (words == 0 || words > room) return 0;
    word[0] = head;
    unsigned fields = wire::wide_fields(head);
    for (unsigned i = 1; i < words; ++i) {
      const unsigned field = fields != 0 ? static_cast<unsigned>(std::countr_zero(fields)) : 16;
      fields &= fields - 1;
      word[i] = model_.last_field[field] += take_bytes<8>(Column::kField);
    }
    if (const auto block = detail::wide_block(word, words); block.known) {
      acquired(block.key, block.size);
    }
    return words;
  }

  std::array<const std::uint8_t*, wire::kColumns>& in_;
  detail::PackModel& model_;
  std::uint64_t* blocks_;  // by number of their acquire: key above 16 bits of size
  std::uint32_t acquires_ = 0;
  std::uint32_t zeros_ = 0;
  bool due_ = false;  // a delta that is not 0 comes behind the zeros
  Block released_;
};

}  // namespace

Result<PackedHead> read_packed_head(std::span<const std::byte> payload, std::uint32_t parts) {
  PackedHead head;
  if (payload.size() < sizeof head.header) {
    return corrupt("a packed block is too short for its header", 0, "payload_bytes");
  }
  std::memcpy(&head.header, payload.data(), sizeof head.header);
  if (head.header.encoding != wire::kPackedEncoding || head.header.columns != wire::kColumns) {
    return Error{ErrorCode::kUnsupportedVersion,
                 fmt::format("a packed block of encoding {} with {} columns, this program reads "
                             "encoding {} with {}",
                             head.header.encoding, head.header.columns, wire::kPackedEncoding,
                             wire::kColumns),
                 {},
                 0,
                 "encoding"};
  }
  if (parts == 0 || parts > wire::kMaxPackedParts) {
    return corrupt(fmt::format("{} cannot be the number of blocks in a packed block", parts), 0,
                   "blocks");
  }
  if (head.header.words > wire::kMaxPackedWords) {
    return corrupt(fmt::format("a packed block of {} words, more than there can be ({})",
                               head.header.words, wire::kMaxPackedWords),
                   offsetof(wire::PackedHeader, words), "words");
  }
  std::size_t next = sizeof head.header;
  head.data_at = next + parts * sizeof(wire::PackedPart) + sizeof head.columns;
  if (payload.size() < head.data_at) {
    return corrupt("a packed block is too short for its tables", next, "payload_bytes");
  }
  head.parts.resize(parts);
  std::memcpy(head.parts.data(), payload.data() + next, parts * sizeof(wire::PackedPart));
  std::uint64_t words = 0;
  for (const wire::PackedPart& part : head.parts) words += part.words;
  if (words != head.header.words) {
    return corrupt("the parts of a packed block do not have as many words as it has", next,
                   "words");
  }
  next += parts * sizeof(wire::PackedPart);
  std::memcpy(head.columns.data(), payload.data() + next, sizeof head.columns);
  std::uint64_t stored = 0;
  for (unsigned c = 0; c < wire::kColumns; ++c) {
    const wire::PackedColumn& column = head.columns[c];
    const std::uint64_t offset = next + c * sizeof column;
    if (column.unpacked_bytes > words * wire::kColumnBytesPerWord[c]) {
      return corrupt(fmt::format("column {} of a packed block has {} bytes, more than its words "
                                 "can need",
                                 c, column.unpacked_bytes),
                     offset, "unpacked_bytes");
    }
    const bool stored_right =
        column.method == wire::ColumnMethod::kStored ? column.stored_bytes == column.unpacked_bytes
        : column.method == wire::ColumnMethod::kRepeat ? column.stored_bytes == 1
                                                       : column.method == wire::ColumnMethod::kZstd;
    if (!stored_right) {
      return corrupt(fmt::format("column {} of a packed block has no valid method and length", c),
                     offset, "method");
    }
    stored += column.stored_bytes;
  }
  if (stored > payload.size() - head.data_at) {
    return corrupt("the columns of a packed block run past its end", next, "stored_bytes");
  }
  return head;
}

struct BlockUnpacker::Scratch {
  ZSTD_DCtx* context = ZSTD_createDCtx();
  std::unique_ptr<std::uint8_t[]> bytes;
  std::size_t room = 0;
  std::vector<std::uint64_t> blocks;
  detail::PackModel model;

  ~Scratch() { ZSTD_freeDCtx(context); }
  // Zeroed by the system, and so touched only as far as it is used.
  void prepare(std::uint64_t words) {
    std::size_t total = 0;
    for (const std::uint8_t per_word : wire::kColumnBytesPerWord) total += words * per_word;
    if (room < total) {
      bytes = std::make_unique<std::uint8_t[]>(total);
      room = total;
    }
    if (blocks.size() < words + 1) blocks.resize(words + 1);
    model.reset();
  }
};

BlockUnpacker::BlockUnpacker() : scratch_(std::make_unique<Scratch>()) {}
BlockUnpacker::~BlockUnpacker() = default;

Status BlockUnpacker::unpack(std::span<const std::byte> payload, const PackedHead& head,
                             std::vector<std::uint64_t>& words) {
  Scratch& s = *scratch_;
  const std::uint64_t count = head.header.words;
  s.prepare(count);
  std::array<const std::uint8_t*, wire::kColumns> in{}, ends{};
  std::uint8_t* to = s.bytes.get();
  std::size_t from = head.data_at;
  for (unsigned c = 0; c < wire::kColumns; ++c) {
    const wire::PackedColumn& column = head.columns[c];
    const std::byte* data = payload.data() + from;
    switch (column.method) {
      case wire::ColumnMethod::kStored:
        if (column.stored_bytes != 0) std::memcpy(to, data, column.stored_bytes);
        break;
      case wire::ColumnMethod::kRepeat:
        std::memset(to, static_cast<int>(*data), column.unpacked_bytes);
        break;
      case wire::ColumnMethod::kZstd: {
        const std::size_t n =
            ZSTD_decompressDCtx(s.context, to, column.unpacked_bytes, data, column.stored_bytes);
        if (ZSTD_isError(n) || n != column.unpacked_bytes) {
          return corrupt(fmt::format("column {} of a packed block cannot be decompressed: {}", c,
                                     ZSTD_isError(n) ? ZSTD_getErrorName(n) : "wrong length"),
                         from, "columns");
        }
        break;
      }
    }
    in[c] = to;
    ends[c] = to + column.unpacked_bytes;
    to += count * wire::kColumnBytesPerWord[c];
    from += column.stored_bytes;
  }
  words.resize(count);
  WordDecoder decoder(in, s.model, s.blocks.data());
  std::uint64_t* word = words.data();
  wire::PackedChecksum checksum;
  bool fine = true;
  for (const wire::PackedPart& part : head.parts) {
    fine = fine && decoder.decode(word, word + part.words);
    word += part.words;
  }
  checksum.add(words.data(), count);
  if (!fine || in != ends || checksum.value() != head.header.checksum) {
    return corrupt("a packed block does not hold the words that its checksum tells of",
                   offsetof(wire::PackedHeader, checksum), "checksum");
  }
  return Nothing{};
}

}  // namespace alloctape::formats
