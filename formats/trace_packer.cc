#include "formats/trace_packer.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <vector>

#include <fmt/format.h>

#include "formats/wire/event_word.h"

namespace alloctape::formats {

namespace {

// What readers hold of all streams together, in words (64 MiB).
constexpr std::uint64_t kUnpackedWords = std::uint64_t{8} << 20;
// A block of the tracer's is never larger.
constexpr std::uint64_t kLeastWords = wire::kRingSlotBytes / sizeof(std::uint64_t);

constexpr std::uint64_t align_up(std::uint64_t n) {
  return (n + wire::kBlockAlign - 1) / wire::kBlockAlign * wire::kBlockAlign;
}

// Blocks one behind the other, through a buffer. The first error stays.
class BlockWriter {
 public:
  explicit BlockWriter(int fd) : fd_(fd) { buffer_.reserve(kBufferBytes); }

  std::uint64_t offset() const { return offset_; }
  void write(const void* data, std::uint64_t bytes) {
    const auto* from = static_cast<const char*>(data);
    offset_ += bytes;
    while (bytes != 0) {
      const std::size_t n = std::min<std::uint64_t>(bytes, kBufferBytes - buffer_.size());
      buffer_.insert(buffer_.end(), from, from + n);
      from += n;
      bytes -= n;
      if (buffer_.size() == kBufferBytes) flush();
    }
  }
  void write_block(const wire::BlockHeader& header, const void* payload) {
    write(&header, sizeof header);
    write(payload, header.payload_bytes);
    static const char zeros[wire::kBlockAlign] = {};
    write(zeros, align_up(offset_) - offset_);
  }
  void rewrite(std::uint64_t at, const void* data, std::uint64_t bytes) {
    flush();
    put(static_cast<const char*>(data), bytes, at);
  }
  void flush() {
    put(buffer_.data(), buffer_.size(), flushed_);
    flushed_ += buffer_.size();
    buffer_.clear();
  }
  int error() const { return error_; }

 private:
  static constexpr std::size_t kBufferBytes = 1 << 20;
  void put(const char* data, std::uint64_t bytes, std::uint64_t at) {
    while (bytes != 0 && error_ == 0) {
      const ssize_t n = ::pwrite(fd_, data, bytes, static_cast<off_t>(at));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        error_ = n < 0 ? errno : ENOSPC;
        return;
      }
      data += n;
      at += static_cast<std::uint64_t>(n);
      bytes -= static_cast<std::uint64_t>(n);
    }
  }

  int fd_;
  int error_ = 0;
  std::vector<char> buffer_;
  std::uint64_t offset_ = 0, flushed_ = 0;
};

// Blocks of one stream that become one block.
struct Group {
  std::uint32_t stream;
  const BlockRef* first;
  std::size_t count;
  std::uint64_t first_stamp;
};

class TracePacker {
 public:
  TracePacker(const TraceFile& trace, int fd, const PackOptions& options)
      : trace_(trace), options_(options), writer_(fd), packer_(options.level) {}

  Result<PackTotals> run() {
    const wire::TraceHeader& old = trace_.header();
    // The whole header page, with what later versions may keep behind the fields known here.
    writer_.write(trace_.data(), std::min<std::uint64_t>(old.header_bytes, trace_.file_bytes()));
    for (const OtherBlock& other : trace_.other_blocks()) copy_other(other);
    // In order of time, so that reading all streams side by side reads the file from front to back.
    for (const Group& group : make_groups()) {
      if (const Status status = write_group(group); !status) return status.error();
      if (writer_.error() != 0) return write_error();
      if (options_.progress) options_.progress(totals_.words);
      if (options_.cancelled && options_.cancelled()) {
        return Error{ErrorCode::kIo, "told to stop", {}, {}, {}};
      }
    }
    finish(old);
    if (writer_.error() != 0) return write_error();
    totals_.bytes_before = trace_.file_bytes();
    totals_.bytes_after = writer_.offset();
    return totals_;
  }

 private:
  Error write_error() const {
    return {ErrorCode::kIo,
            fmt::format("cannot write: {}", std::strerror(writer_.error())),
            {},
            {},
            {}};
  }

  void copy_other(const OtherBlock& other) {
    wire::BlockHeader header;
    std::memcpy(&header, trace_.data() + other.offset, sizeof header);
    header.payload_bytes = other.payload_bytes;  // what is there of it
    writer_.write_block(header, trace_.data() + other.offset + sizeof header);
  }

  std::vector<Group> make_groups() const {
    std::vector<Group> groups;
    const std::uint64_t most_words = packed_block_words(trace_.streams().size());
    for (std::size_t s = 0; s < trace_.streams().size(); ++s) {
      const auto& blocks = trace_.streams()[s];
      const std::uint32_t stream = trace_.stream_number(StreamIndex{static_cast<std::uint32_t>(s)});
      for (std::size_t i = 0; i < blocks.size();) {
        const BlockRef* first = &blocks[i];
        std::uint64_t words = first->words;
        std::size_t count = 1;
        if (!first->packed() && !options_.unpack) {
          for (; i + count < blocks.size() && count < kDefaultPackedParts; ++count) {
            const BlockRef& next = blocks[i + count];
            words += next.words;
            if (next.packed() || words > most_words ||
                next.sequence != first[count - 1].sequence + 1) {
              break;
            }
          }
        }
        groups.push_back({stream, first, count, first->first_stamp});
        i += count;
      }
    }
    std::stable_sort(groups.begin(), groups.end(),
                     [](const Group& a, const Group& b) { return a.first_stamp < b.first_stamp; });
    return groups;
  }

  Status write_group(const Group& group) {
    const BlockRef& first = *group.first;
    if (first.packed() && !options_.repack && !options_.unpack) {
      copy_packed(group.stream, first);
      return Nothing{};
    }
    raw_.clear();
    if (first.packed()) {
      if (const Status status = trace_.unpack(first, unpacked_); !status) return status.error();
      const std::uint64_t* data = unpacked_.words.data();
      for (std::size_t i = 0; i < unpacked_.parts.size(); ++i) {
        const wire::PackedPart& part = unpacked_.parts[i];
        raw_.push_back({first.sequence + i, part.first_stamp, part.thread, part.words, data});
        data += part.words;
      }
    } else {
      for (const BlockRef* b = group.first; b != group.first + group.count; ++b) {
        raw_.push_back({b->sequence, b->first_stamp, b->thread, whole_words(*b), b->data});
      }
    }
    std::uint64_t words = 0;
    for (const RawBlock& block : raw_) words += block.words;
    if (options_.unpack || !BlockPacker::fit(raw_.size(), words)) {
      for (const RawBlock& block : raw_) write_raw(group.stream, block);
      return Nothing{};
    }
    auto payload = packer_.pack(raw_);
    if (!payload) return payload.error();
    wire::BlockHeader header = block_header(wire::BlockType::kPacked, group.stream, raw_.front());
    header.payload_bytes = payload->size();
    header.blocks = static_cast<std::uint32_t>(raw_.size());
    header.events = packer_.survey().events;
    add_to_index(header, packer_.survey(), words);
    writer_.write_block(header, payload->data());
    ++totals_.packed_blocks;
    release(group);
    return Nothing{};
  }

  // Where the end of the file cut a record, its beginning is no part of what the trace tells.
  std::uint32_t whole_words(const BlockRef& block) const {
    if (block.offset + sizeof(wire::BlockHeader) + 8 * (std::uint64_t{block.words} + 1) <=
        trace_.file_bytes()) {
      return block.words;
    }
    std::uint32_t at = 0, last = 0;
    while (at < block.words) {
      last = at;
      const std::uint64_t word = block.data[at];
      at += wire::word_kind(word) == wire::Kind::kWide ? std::max(1u, wire::wide_words(word)) : 1;
    }
    const bool half = at > block.words || (block.words != 0 && wire::word_kind(block.data[last]) ==
                                                                   wire::Kind::kReallocFrom);
    return half ? last : block.words;
  }

  static wire::BlockHeader block_header(wire::BlockType type, std::uint32_t stream,
                                        const RawBlock& first) {
    wire::BlockHeader header{};
    header.magic = wire::kBlockMagic;
    header.type = type;
    header.stream = stream;
    header.thread = first.thread;
    header.sequence = first.sequence;
    header.first_stamp = first.first_stamp;
    return header;
  }

  void add_to_index(const wire::BlockHeader& header, const WordSurvey& survey,
                    std::uint64_t words) {
    totals_.events += header.events;
    totals_.words += words;
    if (words == 0) return;  // says nothing, and is nothing to readers
    index_.push_back({writer_.offset(), std::min(survey.first_stamp, survey.last_stamp),
                      survey.last_stamp, header.sequence, header.events, words, header.stream,
                      header.blocks, std::min(survey.first_thread, survey.last_thread),
                      survey.last_thread});
  }

  void write_raw(std::uint32_t stream, const RawBlock& block) {
    WordSurvey survey;
    survey.add(block);
    wire::BlockHeader header = block_header(wire::BlockType::kEvents, stream, block);
    header.payload_bytes = std::uint64_t{block.words} * sizeof(std::uint64_t);
    header.events = survey.events;
    add_to_index(header, survey, block.words);
    writer_.write_block(header, block.data);
    ++totals_.raw_blocks;
  }

  void copy_packed(std::uint32_t stream, const BlockRef& block) {
    wire::BlockHeader header;
    std::memcpy(&header, trace_.data() + block.offset, sizeof header);
    const std::uint64_t payload_at = block.offset + sizeof header;
    header.stream = stream;
    header.payload_bytes = std::min(header.payload_bytes, trace_.file_bytes() - payload_at);
    WordSurvey survey;
    survey.first_stamp = block.first_stamp;
    survey.last_stamp = block.last_stamp;
    survey.first_thread = block.thread;
    survey.last_thread = block.last_thread;
    add_to_index(header, survey, block.words);
    writer_.write_block(header, trace_.data() + payload_at);
    ++totals_.copied_blocks;
    trace_.release_pages(block);
  }

  void release(const Group& group) {
    for (const BlockRef* b = group.first; b != group.first + group.count; ++b) {
      trace_.release_pages(*b);
    }
  }

  void finish(const wire::TraceHeader& old) {
    wire::TraceHeader header = old;
    header.index_offset = 0;
    header.required_features &= ~std::uint64_t{wire::kRequiresPacked};
    if (!options_.unpack) {
      header.required_features |= wire::kRequiresPacked;
      std::sort(index_.begin(), index_.end(), [](const auto& a, const auto& b) {
        return a.stream != b.stream ? a.stream < b.stream : a.sequence < b.sequence;
      });
      header.index_offset = index_.empty() ? 0 : writer_.offset();
      wire::BlockHeader block{};
      block.magic = wire::kBlockMagic;
      block.type = wire::BlockType::kIndex;
      block.payload_bytes = index_.size() * sizeof(wire::IndexEntry);
      if (!index_.empty()) writer_.write_block(block, index_.data());
    }
    header.file_end = writer_.offset();
    header.released_bytes = 0;
    header.dropped_events = trace_.dropped_events();  // those of the staging extents too
    header.ring_offset = header.ring_bytes = 0;       // its blocks lie elsewhere now
    writer_.rewrite(0, &header, sizeof header);
  }

  const TraceFile& trace_;
  const PackOptions& options_;
  BlockWriter writer_;
  BlockPacker packer_;
  UnpackedBlock unpacked_;
  std::vector<RawBlock> raw_;
  std::vector<wire::IndexEntry> index_;
  PackTotals totals_;
};

}  // namespace

std::uint64_t packed_block_words(std::uint64_t streams) {
  return std::clamp<std::uint64_t>(kUnpackedWords / std::max<std::uint64_t>(streams, 1),
                                   kLeastWords, wire::kMaxPackedWords);
}

Result<PackTotals> write_packed(const TraceFile& trace, int fd, const PackOptions& options) {
  return TracePacker(trace, fd, options).run();
}

}  // namespace alloctape::formats
