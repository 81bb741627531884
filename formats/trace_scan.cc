#include "formats/trace_scan.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <utility>

#include <fmt/format.h>

#include "formats/block_unpacker.h"
#include "formats/trace_index.h"

namespace alloctape::formats {

namespace {

// Limits that keep memory a fraction of the file's size, whatever the file says.
constexpr std::uint64_t kMaxPayload = std::uint64_t{1} << 30;        // larger: not a block header
constexpr std::uint64_t kMaxStagedCopies = std::uint64_t{64} << 20;  // the rest is read in place
constexpr std::uint64_t kMaxMetadataBytes = std::uint64_t{8} << 20;
constexpr std::size_t kMaxArguments = 65536;
constexpr std::size_t kMaxRssSamples = std::size_t{1} << 22;
constexpr std::size_t kMaxMarks = 65536;
constexpr std::size_t kMaxWarnings = 64;
// Each stream of the tracer's has a staging extent of its own, of a page at least; readers keep
// more about a stream than the 128 bytes it could otherwise consist of.
constexpr std::uint64_t kFreeStreams = 1024, kBytesPerStream = 4096;

constexpr std::uint64_t align_up(std::uint64_t n, std::uint64_t to) {
  return (n + to - 1) / to * to;
}

struct Found {
  BlockRef ref;
  std::uint32_t stream;
  bool staged;
};

class Scanner {
 public:
  Scanner(const MappedFile& file, const wire::TraceHeader& header)
      : file_(file),
        at_(header.header_bytes),
        reset_stamp_(header.reset_stamp),
        ring_(header.features & wire::kFeatureRing),
        index_(read_index(file, header)) {
    find_ring(header);
  }

  TraceScan run() {
    scan_blocks(std::min(file_.size(), ring_begin_));
    scan_ring();
    scan_blocks(file_.size());
    check_end();
    read_rss();
    std::stable_sort(scan_.marks.begin(), scan_.marks.end(),
                     [](const TraceMark& a, const TraceMark& b) { return a.stamp < b.stamp; });
    resolve();
    if (unreported_ != 0) {
      scan_.warnings.push_back({ErrorCode::kCorrupt,
                                fmt::format("{} more findings", unreported_),
                                file_.path(),
                                {},
                                {}});
    }
    return std::move(scan_);
  }

 private:
  void warn(std::uint64_t offset, const char* field, std::string message) {
    if (scan_.warnings.size() >= kMaxWarnings) {
      ++unreported_;
      return;
    }
    scan_.warnings.push_back(
        {ErrorCode::kCorrupt, std::move(message), file_.path(), offset, field});
  }

  // A region that cannot be a ring is scanned like the rest.
  void find_ring(const wire::TraceHeader& header) {
    ring_begin_ = ring_end_ = file_.size();
    if (header.ring_offset == 0 && header.ring_bytes == 0) return;
    const bool possible = header.ring_offset >= header.header_bytes &&
                          header.ring_offset % wire::kBlockAlign == 0 &&
                          header.ring_bytes % wire::kRingSlotBytes == 0 &&
                          header.ring_bytes <= ~std::uint64_t{0} - header.ring_offset;
    if (!possible) {
      warn(offsetof(wire::TraceHeader, ring_offset), "ring_offset",
           fmt::format("{} bytes from {} on cannot be a ring", header.ring_bytes,
                       header.ring_offset));
      return;
    }
    ring_begin_ = std::min(header.ring_offset, file_.size());
    ring_end_ = std::min(header.ring_offset + header.ring_bytes, file_.size());
  }

  // From at_ on, which ends at `end` or, after a block that the file's end cuts, beyond it.
  void scan_blocks(std::uint64_t end) {
    while (at_ < end && end - at_ >= sizeof(wire::BlockHeader)) {
      if (at_ == index_.first_block && !index_.empty()) {
        take_index();
        continue;
      }
      wire::BlockHeader header;
      std::memcpy(&header, file_.data() + at_, sizeof header);
      if (header.magic == wire::kBlockMagic && header.payload_bytes <= kMaxPayload &&
          (end == file_.size() || header.payload_bytes <= end - at_ - sizeof header)) {
        take_block(header);
      } else if (!skip_zeros(end)) {
        if (!in_junk_) warn(at_, "magic", "no block starts here; looking for the next one");
        in_junk_ = true;
        at_ += wire::kBlockAlign;
      }
    }
  }

  // A slot holds a block or, where the program died while it was taken again, anything.
  void scan_ring() {
    if (ring_begin_ == ring_end_) return;
    for (std::uint64_t slot = ring_begin_; slot < ring_end_; slot += wire::kRingSlotBytes) {
      const std::uint64_t bytes = std::min(wire::kRingSlotBytes, ring_end_ - slot);
      wire::BlockHeader header;
      if (bytes < sizeof header) {
        scan_.truncated = true;
        break;
      }
      std::memcpy(&header, file_.data() + slot, sizeof header);
      if (header.magic != wire::kBlockMagic || header.type != wire::BlockType::kEvents ||
          header.payload_bytes > wire::kRingSlotBytes - sizeof header) {
        continue;
      }
      at_ = slot;
      take_block(header);
    }
    at_ = ring_end_;
    in_junk_ = false;
  }

  const std::uint64_t* words_at(std::uint64_t offset) const {
    return reinterpret_cast<const std::uint64_t*>(file_.data() + offset);
  }

  // Steps over a hole, 64 bytes at a time; false when there is none here.
  bool skip_zeros(std::uint64_t end) {
    const std::uint64_t start = at_;
    while (end - at_ >= wire::kBlockAlign) {
      const std::uint64_t* w = words_at(at_);
      if ((w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7]) != 0) break;
      at_ += wire::kBlockAlign;
    }
    return at_ != start;
  }

  void take_block(const wire::BlockHeader& header) {
    in_junk_ = false;
    const std::uint64_t payload_at = at_ + sizeof header;
    const std::uint64_t present = std::min(header.payload_bytes, file_.size() - payload_at);
    const bool cut = present < header.payload_bytes;
    if (cut) scan_.truncated = true;
    switch (header.type) {
      case wire::BlockType::kEvents:
      case wire::BlockType::kStaging:
      case wire::BlockType::kPacked:
      case wire::BlockType::kIndex:
        break;
      default:
        if (header.type != wire::kUnfinishedBlock) scan_.others.push_back({at_, present});
    }
    switch (header.type) {
      case wire::BlockType::kEvents:
        if (header.payload_bytes % 8 != 0) {
          warn(at_, "payload_bytes", "an event block does not end with a whole word");
        }
        add(header, present / 8, words_at(payload_at), false);
        break;
      case wire::BlockType::kStaging:
        take_staging(header, present / 8);
        break;
      case wire::BlockType::kMetadata:
        take_metadata(payload_at, present, cut);
        break;
      case wire::BlockType::kRss:
        if (header.payload_bytes % sizeof(wire::RssSample) != 0) {
          warn(at_, "payload_bytes", "an RSS block does not end with a whole sample");
        }
        rss_blocks_.push_back({payload_at, present / sizeof(wire::RssSample)});
        break;
      case wire::BlockType::kPacked:
        if (!cut) take_packed(header);
        break;
      case wire::BlockType::kMark:
        take_mark(payload_at, present, cut);
        break;
      default:
        break;  // the index, or of a later version: skipped by its length
    }
    at_ = align_up(payload_at + header.payload_bytes, wire::kBlockAlign);
  }

  void add(const wire::BlockHeader& header, std::uint64_t words, const std::uint64_t* data,
           bool staged) {
    if (words == 0) return;
    found_.push_back({{at_, data, header.sequence, header.first_stamp,
                       static_cast<std::uint32_t>(words), header.thread},
                      header.stream,
                      staged});
  }

  void take_packed(const wire::BlockHeader& header) {
    const std::uint64_t payload_at = at_ + sizeof header;
    auto head = read_packed_head({file_.data() + payload_at, header.payload_bytes}, header.blocks);
    if (!head || header.sequence > ~std::uint64_t{0} - header.blocks) {
      const std::string field = head ? "sequence" : head.error().field;
      warn(payload_at + (head ? 0 : head.error().offset.value_or(0)), field.c_str(),
           fmt::format("a packed block of stream {} is left out: {}", header.stream,
                       head ? "its blocks are numbered beyond the last number there is"
                            : head.error().message));
      return;
    }
    const wire::PackedHeader& h = head->header;
    BlockRef ref{at_, nullptr, header.sequence, h.first_stamp, h.words, h.first_thread};
    ref.last_stamp = h.last_stamp;
    ref.last_thread = h.last_thread;
    ref.blocks = header.blocks;
    ref.payload_bytes = header.payload_bytes;
    if (h.words != 0) found_.push_back({ref, header.stream, false});
  }

  // Packed blocks are not looked at until they are read: TraceFile::unpack() finds out whether they
  // are what the index says.
  void take_index() {
    for (const wire::IndexEntry& e : index_.entries) {
      at_ = e.offset;
      if (e.blocks == 0) {
        wire::BlockHeader header;
        std::memcpy(&header, file_.data() + at_, sizeof header);
        if (header.magic == wire::kBlockMagic && header.payload_bytes <= kMaxPayload) {
          take_block(header);
        }
        continue;
      }
      BlockRef ref{
          e.offset,      nullptr, e.sequence, e.first_stamp, static_cast<std::uint32_t>(e.words),
          e.first_thread};
      ref.last_stamp = e.last_stamp;
      ref.last_thread = e.last_thread;
      ref.blocks = e.blocks;
      found_.push_back({ref, e.stream, false});
    }
    at_ = align_up(index_.end_of_blocks, wire::kBlockAlign);
    in_junk_ = false;
  }

  // Words of a staging extent, up to the first record whose first word is zero. Words inside a
  // record may be zero: the record is published by its first word, which is stored last.
  static std::uint64_t published_words(const std::uint64_t* words, std::uint64_t capacity) {
    std::uint64_t n = 0;
    while (n < capacity) {
      const std::uint64_t word = __atomic_load_n(words + n, __ATOMIC_ACQUIRE);
      if (word == 0) break;
      std::uint64_t record = 1;
      if (wire::word_kind(word) == wire::Kind::kWide) {
        record = std::max(1u, wire::wide_words(word));
      }
      n += std::min(record, capacity - n);
    }
    return n;
  }

  // The program may be writing here. What is taken is copied, so that the words stay what they were
  // when the trace was opened, and taken again when the extent went to its next life meanwhile.
  void take_staging(const wire::BlockHeader& first_look, std::uint64_t capacity) {
    wire::BlockHeader header = first_look;
    const auto* mapped = reinterpret_cast<const wire::BlockHeader*>(file_.data() + at_);
    const std::uint64_t* words = words_at(at_ + sizeof header);
    for (int attempt = 0;; ++attempt) {
      const bool active = header.staging_state == wire::StagingState::kActive;
      const std::uint64_t n = active ? published_words(words, capacity) : 0;
      std::unique_ptr<std::uint64_t[]> copy;
      if (n != 0 && copied_bytes_ + n * 8 <= kMaxStagedCopies) {
        copy = std::make_unique<std::uint64_t[]>(n);
        for (std::uint64_t i = 0; i < n; ++i) copy[i] = detail::load_word(words + i);
      }
      wire::BlockHeader second_look = header;
      // Pairs with the tracer's release store of the state.
      second_look.staging_state = static_cast<wire::StagingState>(__atomic_load_n(
          reinterpret_cast<const std::uint32_t*>(&mapped->staging_state), __ATOMIC_ACQUIRE));
      second_look.sequence = detail::load_word(&mapped->sequence);
      if ((second_look.staging_state == header.staging_state &&
           second_look.sequence == header.sequence) ||
          attempt == 8) {
        if (copy) {
          copied_bytes_ += n * 8;
          words = copy.get();
          scan_.staged_copies.push_back(std::move(copy));
        }
        add(header, n, words, true);
        break;
      }
      std::memcpy(&header, mapped, sizeof header);
    }
    if (__builtin_add_overflow(scan_.dropped_events, header.dropped_events,
                               &scan_.dropped_events)) {
      scan_.dropped_events = ~std::uint64_t{0};
    }
  }

  void take_mark(std::uint64_t at, std::uint64_t bytes, bool cut) {
    wire::MarkEntry entry;
    if (bytes < sizeof entry) {
      if (!cut)
        warn(at - sizeof(wire::BlockHeader), "payload_bytes", "a mark block without a mark");
      return;
    }
    std::memcpy(&entry, file_.data() + at, sizeof entry);
    if (scan_.marks.size() == kMaxMarks) {
      if (!marks_left_out_) warn(at, "stamp", "more marks than are kept; the rest is left out");
      marks_left_out_ = true;
      return;
    }
    const std::uint64_t present = bytes - sizeof entry;
    if (!cut && (entry.bytes > present || entry.bytes > wire::kMaxMarkBytes)) {
      warn(at + offsetof(wire::MarkEntry, bytes), "bytes",
           "a mark's text is longer than it can be");
    }
    const std::uint64_t length =
        std::min({std::uint64_t{entry.bytes}, present, std::uint64_t{wire::kMaxMarkBytes}});
    const char* text = reinterpret_cast<const char*>(file_.data() + at + sizeof entry);
    scan_.marks.push_back({entry.stamp, entry.tid, std::string(text, length)});
  }

  void take_metadata(std::uint64_t at, std::uint64_t bytes, bool cut) {
    TraceMetadata& m = scan_.metadata;
    std::uint64_t left = bytes;
    while (left >= sizeof(wire::MetadataEntry)) {
      wire::MetadataEntry entry;
      std::memcpy(&entry, file_.data() + at, sizeof entry);
      if (entry.key == wire::MetadataKey::kEnd) break;
      at += sizeof entry;
      left -= sizeof entry;
      if (entry.bytes > left) {
        if (!cut)
          warn(at - sizeof entry, "bytes", "a metadata entry runs past the end of its block");
        break;
      }
      const char* text = reinterpret_cast<const char*>(file_.data() + at);
      metadata_bytes_ += entry.bytes;
      if (metadata_bytes_ > kMaxMetadataBytes) {
        warn(at - sizeof entry, "bytes",
             "more metadata than any program has; the rest is left out");
        metadata_bytes_ = kMaxMetadataBytes;
        break;
      }
      switch (entry.key) {
        case wire::MetadataKey::kExecutable:
          m.executable.assign(text, entry.bytes);
          break;
        case wire::MetadataKey::kCommandLine:
          take_arguments(at, text, entry.bytes);
          break;
        case wire::MetadataKey::kWorkingDirectory:
          m.working_directory.assign(text, entry.bytes);
          break;
        case wire::MetadataKey::kPreload:
          m.preload.assign(text, entry.bytes);
          break;
        case wire::MetadataKey::kAllocatorPath:
          m.allocator_path.assign(text, entry.bytes);
          break;
        case wire::MetadataKey::kAllocatorBuildId:
          m.allocator_build_id.assign(text, entry.bytes);
          break;
        case wire::MetadataKey::kTracerVersion:
          m.tracer_version.assign(text, entry.bytes);
          break;
        case wire::MetadataKey::kOptions:
          m.options.assign(text, entry.bytes);
          break;
        case wire::MetadataKey::kHostKernel:
          m.host_kernel.assign(text, entry.bytes);
          break;
        default:
          break;  // of a later version
      }
      const std::uint64_t step = std::min(align_up(entry.bytes, 8), left);
      at += step;
      left -= step;
    }
  }

  void take_arguments(std::uint64_t at, const char* text, std::uint64_t bytes) {
    auto& arguments = scan_.metadata.command_line;
    arguments.clear();
    std::uint64_t start = 0;
    while (start < bytes) {
      if (arguments.size() == kMaxArguments) {
        warn(at, "command line", "more arguments than are kept; the rest is left out");
        return;
      }
      const void* zero = std::memchr(text + start, 0, bytes - start);
      const std::uint64_t end =
          zero ? static_cast<std::uint64_t>(static_cast<const char*>(zero) - text) : bytes;
      arguments.emplace_back(text + start, end - start);
      start = end + 1;
    }
  }

  // Fewer bytes are left than a block header has. Padding is zero.
  void check_end() {
    for (; at_ < file_.size(); ++at_) {
      if (file_.data()[at_] != std::byte{0}) {
        scan_.truncated = true;
        return;
      }
    }
  }

  void read_rss() {
    std::size_t total = 0;
    for (const auto& [at, n] : rss_blocks_) total += n;
    if (total > kMaxRssSamples) {
      warn(rss_blocks_.front().first, "payload_bytes", "more RSS samples than are kept");
      total = kMaxRssSamples;
    }
    scan_.rss.resize(total);
    std::size_t done = 0;
    for (const auto& [at, n] : rss_blocks_) {
      const std::size_t take = std::min<std::size_t>(n, total - done);
      if (take == 0) continue;
      std::memcpy(scan_.rss.data() + done, file_.data() + at, take * sizeof(wire::RssSample));
      done += take;
    }
    std::stable_sort(scan_.rss.begin(), scan_.rss.end(),
                     [](const auto& a, const auto& b) { return a.ticks < b.ticks; });
  }

  // Blocks into streams. A packed block comes before all that it covers: these were complete when
  // they were packed, and may be gone by now. A staged tail comes before a block of the same
  // number: such a block is the copy that was on its way to the file, and may be half written.
  void resolve() {
    std::sort(found_.begin(), found_.end(), [](const Found& a, const Found& b) {
      if (a.stream != b.stream) return a.stream < b.stream;
      if (a.ref.sequence != b.ref.sequence) return a.ref.sequence < b.ref.sequence;
      if (a.ref.packed() != b.ref.packed()) return a.ref.packed();
      if (a.staged != b.staged) return a.staged;
      return a.ref.offset < b.ref.offset;
    });
    const std::uint64_t max_streams = kFreeStreams + file_.size() / kBytesPerStream;
    // What has been placed is let go at once: a hostile file may consist of tiny blocks.
    while (!found_.empty()) {
      const std::uint32_t stream = found_.front().stream;
      if (scan_.streams.size() == max_streams) {
        warn(
            found_.front().ref.offset, "stream",
            fmt::format("more streams than a file of this size can have; stream {} and those after "
                        "it are left out",
                        stream));
        break;
      }
      const auto of_stream = std::find_if(found_.begin(), found_.end(),
                                          [&](const Found& f) { return f.stream != stream; });
      std::vector<BlockRef> blocks;
      blocks.reserve(static_cast<std::size_t>(of_stream - found_.begin()));
      bool last_staged = false;
      for (; !found_.empty() && found_.front().stream == stream; found_.pop_front()) {
        const Found& f = found_.front();
        const std::uint64_t due =
            blocks.empty() ? 0 : blocks.back().sequence + blocks.back().blocks;
        if (!blocks.empty() && f.ref.sequence < due) {
          const bool expected = blocks.back().packed() ? !f.ref.packed() : last_staged && !f.staged;
          if (!expected) {
            warn(f.ref.offset, "sequence",
                 fmt::format("block {} of stream {} occurs twice; this one is ignored",
                             f.ref.sequence, stream));
          }
          continue;
        }
        if (f.ref.sequence != due && ring_ && !blocks.empty()) {
          // Slots are overwritten in turn, but a thread may be late with its turn. What a ring
          // keeps of a stream is the end of it, without gaps.
          if (f.staged) scan_.tail_without_body = true;
          for (const BlockRef& block : blocks) pass_over(block);
          blocks.clear();
        } else if (f.ref.sequence != due && !((ring_ || reset_stamp_ != 0) && blocks.empty())) {
          if (f.staged) scan_.tail_without_body = true;
          warn(f.ref.offset, "sequence",
               fmt::format("stream {} continues with block {} where block {} is due", stream,
                           f.ref.sequence, due));
        }
        last_staged = f.staged;
        blocks.push_back(f.ref);
      }
      drop_before_reset(blocks);
      for (const BlockRef& block : blocks) scan_.event_words += block.words;
      blocks.shrink_to_fit();
      scan_.streams.push_back(std::move(blocks));
      scan_.stream_numbers.push_back(stream);
    }
  }

  void pass_over(const BlockRef& block) {
    wire::BlockHeader header;
    std::memcpy(&header, file_.data() + block.offset, sizeof header);
    scan_.overwritten_events += header.events;
    ++scan_.overwritten_blocks;
  }

  // Leading blocks that have nothing but events from before the reset: those whose successor begins
  // before it. In the block where it falls, the decoder passes over them.
  void drop_before_reset(std::vector<BlockRef>& blocks) const {
    if (reset_stamp_ == 0) return;
    std::size_t n = 0;
    while (n < blocks.size() &&
           (blocks[n].packed()
                ? blocks[n].last_stamp < reset_stamp_
                : n + 1 < blocks.size() && blocks[n + 1].first_stamp < reset_stamp_)) {
      ++n;
    }
    blocks.erase(blocks.begin(), blocks.begin() + static_cast<std::ptrdiff_t>(n));
  }

  const MappedFile& file_;
  std::uint64_t at_;
  const std::uint64_t reset_stamp_;
  const bool ring_;
  std::uint64_t ring_begin_ = 0, ring_end_ = 0;
  bool marks_left_out_ = false;
  bool in_junk_ = false;
  TraceIndex index_;
  std::deque<Found> found_;  // grows without holding its contents twice
  std::vector<std::pair<std::uint64_t, std::uint64_t>> rss_blocks_;  // payload offset, samples
  std::uint64_t copied_bytes_ = 0;
  std::uint64_t metadata_bytes_ = 0;
  std::uint64_t unreported_ = 0;
  TraceScan scan_;
};

}  // namespace

TraceScan scan_trace(const MappedFile& file, const wire::TraceHeader& header) {
  return Scanner(file, header).run();
}

}  // namespace alloctape::formats
