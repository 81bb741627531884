#include "tracer/block_harvest.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "formats/trace_packer.h"
#include "formats/wire/packed_layout.h"
#include "tracer/live_trace.h"
#include "tracer/tick_rate.h"

namespace alloctape::tracer {
namespace {

constexpr std::uint64_t kMaxBlockBytes = wire::kMaxPackedWords * sizeof(std::uint64_t);
// A range that was claimed is written at once, unless its thread sleeps or the disk is full. Blocks
// that appear in a hole later are packed when the program has ended.
constexpr std::uint64_t kHoleNs = 2'000'000'000;
constexpr std::uint64_t kPaddingBytes = 4096;  // blocks begin at pages: such a hole is none
// Readers of a live trace map what was there when they looked.
constexpr std::uint64_t kReleaseNs = 5'000'000'000;
// A run of blocks that ends at a missing one is packed as it is when so many wait behind.
constexpr std::size_t kMostWaiting = 64;

constexpr std::uint64_t align_up(std::uint64_t n) {
  return (n + wire::kBlockAlign - 1) / wire::kBlockAlign * wire::kBlockAlign;
}

}  // namespace

std::unique_ptr<BlockHarvest> BlockHarvest::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return nullptr;
  struct stat st;
  void* map = MAP_FAILED;
  if (::fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size >= wire::kTraceHeaderBytes) {
    map = ::mmap(nullptr, wire::kTraceHeaderBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  if (map == MAP_FAILED) {
    ::close(fd);
    return nullptr;
  }
  auto* header = static_cast<wire::TraceHeader*>(map);
  std::unique_ptr<BlockHarvest> harvest(new BlockHarvest(fd, header));
  if (std::memcmp(header->magic, wire::kTraceMagic, sizeof wire::kTraceMagic) != 0 ||
      header->version != wire::kTraceVersion || header->header_bytes != wire::kTraceHeaderBytes ||
      (header->features & wire::kFeatureRing) != 0) {
    return nullptr;
  }
  return harvest;
}

BlockHarvest::~BlockHarvest() {
  ::munmap(header_, wire::kTraceHeaderBytes);
  ::close(fd_);
}

void BlockHarvest::look() {
  const std::uint64_t end = __atomic_load_n(&header_->file_end, __ATOMIC_RELAXED);
  while (at_ < end && end - at_ >= sizeof(wire::BlockHeader)) {
    wire::BlockHeader block;
    if (!read_fully(fd_, &block, sizeof block, at_)) break;
    if (block.magic == wire::kBlockMagic && block.payload_bytes < end - at_) {
      take(block);
      at_ = align_up(at_ + sizeof block + block.payload_bytes);
      hole_since_ns_ = 0;
    } else if (!step_over_hole(end)) {
      break;
    }
  }
  look_at_staging();
}

// To where the next block begins. False: the hole may be a block that is just being written.
bool BlockHarvest::step_over_hole(std::uint64_t end) {
  std::uint64_t next = at_;
  std::vector<std::uint64_t> chunk(kPaddingBytes);  // 32 KiB
  while (next < end) {
    const std::uint64_t bytes = std::min<std::uint64_t>(chunk.size() * 8, end - next) / 64 * 64;
    const ssize_t got =
        bytes == 0 ? 0 : ::pread(fd_, chunk.data(), bytes, static_cast<off_t>(next));
    if (got < 64) {
      next = end;
      break;
    }
    std::uint64_t i = next == at_ ? 64 : 0;
    const auto filled = static_cast<std::uint64_t>(got) / 64 * 64;
    while (i < filled && static_cast<std::uint32_t>(chunk[i / 8]) != wire::kBlockMagic) i += 64;
    next += i;
    if (i < filled) break;
  }
  if (next < end && next - at_ < kPaddingBytes) {
    at_ = next;
    return true;
  }
  const std::uint64_t now = TickRate::now_monotonic_ns();
  if (hole_since_ns_ == 0) hole_since_ns_ = now;
  if (now - hole_since_ns_ < kHoleNs) return false;
  hole_since_ns_ = 0;
  at_ = next;
  return true;
}

void BlockHarvest::take(const wire::BlockHeader& block) {
  if (block.type == wire::BlockType::kStaging) {
    streams_[block.stream].staging.push_back(at_);
  } else if (block.type == wire::BlockType::kEvents && block.payload_bytes % 8 == 0 &&
             block.payload_bytes != 0 && block.payload_bytes <= kMaxBlockBytes) {
    streams_[block.stream].blocks[block.sequence] = {
        at_, sizeof block + block.payload_bytes, block.first_stamp, block.thread,
        static_cast<std::uint32_t>(block.payload_bytes / 8)};
  }
}

// A stream's extent gets the number of the next block after the last one has reached the file: see
// "Streams and staging" in docs/formats/trace.md. The extent may be another stream's by now.
void BlockHarvest::look_at_staging() {
  for (auto& [number, stream] : streams_) {
    for (const std::uint64_t offset : stream.staging) {
      wire::BlockHeader block;
      if (!read_fully(fd_, &block, sizeof block, offset)) continue;
      if (block.magic != wire::kBlockMagic || block.stream != number) continue;
      stream.complete = std::max(stream.complete, block.sequence);
    }
  }
}

// Complete blocks with consecutive numbers, enough for a packed block; else empty.
std::vector<std::uint64_t> BlockHarvest::next_run(const Stream& stream,
                                                  std::uint64_t most_words) const {
  std::vector<std::uint64_t> run;
  std::uint64_t words = 0;
  for (const auto& [sequence, raw] : stream.blocks) {
    if (sequence >= stream.complete) return {};
    if (!run.empty() && sequence != run.back() + 1) {
      if (stream.blocks.size() >= kMostWaiting) return run;
      return {};
    }
    if (!run.empty() && words + raw.words > most_words) return run;
    run.push_back(sequence);
    words += raw.words;
    if (run.size() == formats::kDefaultPackedParts) return run;
  }
  return {};
}

bool BlockHarvest::pack_one(formats::BlockPacker& packer) {
  if (gave_up_) return false;
  const std::uint64_t most_words =
      formats::packed_block_words(__atomic_load_n(&header_->next_stream, __ATOMIC_RELAXED));
  for (auto& [number, stream] : streams_) {
    const auto run = next_run(stream, most_words);
    if (!run.empty()) return replace(number, stream, run, packer);
  }
  return false;
}

bool BlockHarvest::replace(std::uint32_t number, Stream& stream,
                           const std::vector<std::uint64_t>& run, formats::BlockPacker& packer) {
  std::uint64_t words = 0;
  for (const std::uint64_t sequence : run) words += stream.blocks[sequence].words;
  words_.resize(words);
  std::vector<formats::RawBlock> blocks;
  std::uint64_t* to = words_.data();
  for (const std::uint64_t sequence : run) {
    const Raw& raw = stream.blocks[sequence];
    if (!read_fully(fd_, to, std::uint64_t{raw.words} * 8,
                    raw.offset + sizeof(wire::BlockHeader))) {
      gave_up_ = true;
      return false;
    }
    blocks.push_back({sequence, raw.first_stamp, raw.thread, raw.words, to});
    to += raw.words;
  }
  auto payload = packer.pack(blocks);
  if (!payload) {
    gave_up_ = true;
    return false;
  }
  wire::BlockHeader block{};
  block.magic = wire::kBlockMagic;
  block.payload_bytes = payload->size();
  block.stream = number;
  block.thread = blocks.front().thread;
  block.sequence = blocks.front().sequence;
  block.first_stamp = blocks.front().first_stamp;
  block.blocks = static_cast<std::uint32_t>(blocks.size());
  block.events = packer.survey().events;
  if (!append(block, payload->data())) {
    gave_up_ = true;
    return false;
  }
  const std::uint64_t now = TickRate::now_monotonic_ns();
  for (const std::uint64_t sequence : run) {
    const auto raw = stream.blocks.find(sequence);
    packed_.push_back({raw->second.offset, raw->second.bytes, now});
    stream.blocks.erase(raw);
  }
  return true;
}

// As a block of no type, which readers pass over by its length, until the payload is all there.
bool BlockHarvest::append(wire::BlockHeader header, const void* payload) {
  __atomic_fetch_or(&header_->required_features, std::uint64_t{wire::kRequiresPacked},
                    __ATOMIC_RELAXED);
  const std::uint64_t bytes = align_up(sizeof header + header.payload_bytes);
  // Relaxed: it orders nothing, each claimed range has one owner.
  const std::uint64_t offset = __atomic_fetch_add(&header_->file_end, bytes, __ATOMIC_RELAXED);
  if (offset % wire::kBlockAlign != 0) return false;
  header.type = wire::kUnfinishedBlock;
  if (!write_fully(fd_, &header, sizeof header, offset) ||
      !write_fully(fd_, payload, header.payload_bytes, offset + sizeof header)) {
    return false;
  }
  header.type = wire::BlockType::kPacked;
  return write_fully(fd_, &header, sizeof header, offset);
}

void BlockHarvest::release_old() {
  const std::uint64_t now = TickRate::now_monotonic_ns();
  while (!packed_.empty() && now - packed_.front().since_ns >= kReleaseNs) {
    const Packed& p = packed_.front();
    if (::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(p.offset),
                    static_cast<off_t>(p.bytes)) != 0) {
      gave_up_ = true;
      return;
    }
    __atomic_fetch_add(&header_->released_bytes, p.bytes, __ATOMIC_RELAXED);
    packed_.pop_front();
  }
}

}  // namespace alloctape::tracer
