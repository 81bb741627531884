// How the copy comes to be of one moment although nothing stops meanwhile:
//
// 1. T is the time now. A little later every event before T is in its buffer or block: an event is
//    written within a call, and calls are short. (One whose thread sleeps just there is missing, as
//    it would be after kill -9.)
// 2. The buffers (staging extents) are copied, each as of some time after T.
// 3. The headers of all slots are read, together with the count of what was overwritten. No slot
//    was taken during that reading (else it is done again), so this is the ring of one instant:
//    what is not in it is in the count. A block that was in a buffer in step 2 and is in the ring
//    now is the same block: the buffer is taken.
// 4. The slots are copied, those first that will be overwritten first. A slot whose header has
//    changed when its copy is done is lost: its events are added to the count. Thus the count is of
//    the copy, not of the trace, and it is written last.
// 5. The copy is read, and each stream is cut behind its last event up to T: so that no thread is
//    ahead of another, and a block's free is never missing where its address is used again.
#include "tracer/ring_snapshot.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/trace_file.h"
#include "formats/wire/trace_layout.h"
#include "tracer/image_control.h"
#include "tracer/live_trace.h"
#include "tracer/tick_rate.h"

namespace alloctape::tracer {
namespace {

constexpr timespec kEventsSettle = {0, 2'000'000};
constexpr timespec kMoment = {0, 100'000};
constexpr std::size_t kBatchSlots = 1024;  // 64 MiB
constexpr int kIndexTries = 200, kStagingTries = 1000;

struct SlotEntry {
  std::uint64_t slot;
  wire::BlockHeader header;
  bool taken = false;  // copied whole
};

// What is read from here on is read after what was read before. x86-64 does loads in order, so that
// only the compiler is to be told (a fence would say the same, but ThreadSanitizer knows none).
inline void loads_so_far_first() { asm volatile("" ::: "memory"); }

class Copier {
 public:
  Copier(int from, int to, std::string path) : from_(from), to_(to), path_(std::move(path)) {}
  ~Copier() {
    if (map_ != nullptr) munmap(const_cast<std::byte*>(map_), map_bytes_);
  }
  Copier(const Copier&) = delete;
  Copier& operator=(const Copier&) = delete;

  RingSnapshot run();

 private:
  void map_source();
  void copy_beside_ring(std::uint64_t begin, std::uint64_t end);
  void copy_staging(std::uint64_t offset, std::uint64_t bytes);
  void read_index();
  bool try_index();
  bool is_later(const wire::BlockHeader& block) const;
  void copy_slots();
  void drop_before_gaps();
  bool take_slot(const SlotEntry& entry, std::byte* to) const;
  std::uint64_t slot_offset(const SlotEntry& entry) const {
    return ring_offset_ + entry.slot * wire::kRingSlotBytes;
  }
  void write_header(std::uint64_t reset_stamp);
  void cut();
  void cut_stream(const formats::TraceFile& trace, std::uint32_t stream);
  void remove_block(std::uint64_t offset);
  void end_block(std::uint64_t offset, std::uint64_t end, std::uint64_t events);
  std::uint64_t events_of(std::uint64_t offset) const;
  void write(const void* data, std::size_t bytes, std::uint64_t offset) const;
  [[noreturn]] void fail(const char* doing) const;

  template <typename T>
  T* at(std::uint64_t offset) const {
    return reinterpret_cast<T*>(const_cast<std::byte*>(map_ + offset));
  }
  const wire::TraceHeader& source() const { return *at<const wire::TraceHeader>(0); }

  int from_, to_;
  const std::byte* map_ = nullptr;  // of the source
  std::uint64_t map_bytes_ = 0, ring_offset_ = 0, slots_ = 0, ring_end_ = 0;
  std::uint64_t cut_stamp_ = 0;
  std::uint64_t index_next_ = 0;
  std::vector<SlotEntry> index_;
  std::map<std::uint32_t, std::uint64_t> tails_;  // by stream: the block that its buffer is
  RingSnapshot result_;
  std::string path_;
};

void Copier::fail(const char* doing) const {
  throw ControlError{ControlError::Kind::kFailed,
                     fmt::format("cannot {} {}: {}", doing, path_, std::strerror(errno)),
                     "choose another place with -o"};
}

void Copier::write(const void* data, std::size_t bytes, std::uint64_t offset) const {
  if (!write_fully(to_, data, bytes, offset)) fail("write");
}

RingSnapshot Copier::run() {
  map_source();
  copy_beside_ring(wire::kTraceHeaderBytes, ring_offset_);
  copy_beside_ring(ring_end_, map_bytes_);
  read_index();
  copy_slots();
  drop_before_gaps();
  write_header(0);  // the reader that cuts must not pass over anything
  cut();
  write_header(__atomic_load_n(&source().reset_stamp, __ATOMIC_RELAXED));
  result_.path = path_;
  result_.bytes = map_bytes_;
  return result_;
}

// Takes the moment T; what is in the file later is not looked at.
void Copier::map_source() {
  wire::TraceHeader header;
  if (!read_fully(from_, &header, sizeof header, 0)) fail("read the trace for");
  if (header.ring_bytes == 0) {
    throw ControlError{
        ControlError::Kind::kFailed, "the trace has no ring to be saved: all of it is in the file",
        "use `ctl PID sync`, and read or copy the trace itself (or record with --ring BYTES)"};
  }
  const bool tsc = header.clock_kind == wire::ClockKind::kTsc;
  cut_stamp_ = (tsc ? TickRate::now_ticks() : TickRate::now_monotonic_ns()) >> header.clock_shift;
  nanosleep(&kEventsSettle, nullptr);
  struct stat st;
  if (fstat(from_, &st) != 0 || !read_fully(from_, &header, sizeof header, 0)) {
    fail("read the trace for");
  }
  ring_offset_ = header.ring_offset;
  slots_ = header.ring_bytes / wire::kRingSlotBytes;
  ring_end_ = ring_offset_ + slots_ * wire::kRingSlotBytes;
  map_bytes_ = std::min(header.file_end, static_cast<std::uint64_t>(st.st_size));
  map_bytes_ = map_bytes_ / wire::kBlockAlign * wire::kBlockAlign;
  if (slots_ == 0 || ring_offset_ < wire::kTraceHeaderBytes || ring_end_ < ring_offset_ ||
      ring_end_ > map_bytes_ || ring_offset_ % wire::kBlockAlign != 0) {
    throw ControlError{ControlError::Kind::kFailed, "the trace's header is damaged (ring)", {}};
  }
  void* map = mmap(nullptr, map_bytes_, PROT_READ, MAP_SHARED, from_, 0);
  if (map == MAP_FAILED) fail("map the trace for");
  map_ = static_cast<const std::byte*>(map);
  if (ftruncate(to_, static_cast<off_t>(map_bytes_)) != 0) fail("write");
}

// Strings, samples, marks: written once. Buffers: being written.
void Copier::copy_beside_ring(std::uint64_t begin, std::uint64_t end) {
  for (std::uint64_t offset = begin; offset + sizeof(wire::BlockHeader) <= end;) {
    const auto* block = at<const wire::BlockHeader>(offset);
    const std::uint64_t payload = block->payload_bytes;
    const std::uint64_t room = end - offset - sizeof *block;
    if (block->magic != wire::kBlockMagic || payload > room) {
      offset += wire::kBlockAlign;
      continue;
    }
    const std::uint64_t bytes = sizeof *block + payload;
    if (block->type == wire::BlockType::kStaging) {
      copy_staging(offset, bytes);
    } else {
      write(block, bytes, offset);
    }
    offset += (bytes + wire::kBlockAlign - 1) / wire::kBlockAlign * wire::kBlockAlign;
  }
}

// Record by record, in order, up to the first that is not there yet. Each acquire load pairs with
// the tracer's publish(): behind a record's first word the rest of it is there.
void Copier::copy_staging(std::uint64_t offset, std::uint64_t bytes) {
  const auto* live = at<const wire::BlockHeader>(offset);
  const auto* words = reinterpret_cast<const std::uint64_t*>(live + 1);
  const std::size_t capacity = (bytes - sizeof *live) / sizeof(std::uint64_t);
  std::vector<std::uint64_t> copy;
  wire::BlockHeader header;
  for (int tries = 0; tries < kStagingTries; ++tries) {
    const auto state = __atomic_load_n(&live->staging_state, __ATOMIC_ACQUIRE);
    std::memcpy(&header, live, sizeof header);
    header.staging_state = state;
    copy.clear();
    if (state == wire::StagingState::kActive) {
      for (std::size_t i = 0; i < capacity;) {
        const std::uint64_t word = __atomic_load_n(words + i, __ATOMIC_ACQUIRE);
        if (word == 0) break;
        copy.push_back(word);
        const std::size_t end = std::min(i + record_words(word), capacity);
        for (++i; i < end; ++i) copy.push_back(__atomic_load_n(words + i, __ATOMIC_RELAXED));
      }
    }
    // Became another block meanwhile, or is between two: again. The loads above are not moved
    // behind these (acquire).
    if (state != wire::StagingState::kFlushed &&
        __atomic_load_n(&live->staging_state, __ATOMIC_ACQUIRE) == state &&
        __atomic_load_n(&live->sequence, __ATOMIC_ACQUIRE) == header.sequence) {
      break;
    }
    // Flushed and not coming back soon: the block is in the ring.
    header.staging_state = wire::StagingState::kFlushed;
    copy.clear();
    if (tries > kStagingTries / 2) nanosleep(&kMoment, nullptr);
  }
  if (header.staging_state == wire::StagingState::kActive) tails_[header.stream] = header.sequence;
  write(&header, sizeof header, offset);
  if (!copy.empty()) {
    write(copy.data(), copy.size() * sizeof(std::uint64_t), offset + sizeof header);
  }
}

bool Copier::try_index() {
  index_.clear();
  index_next_ = __atomic_load_n(&source().ring_next, __ATOMIC_ACQUIRE);
  const std::uint64_t events = __atomic_load_n(&source().overwritten_events, __ATOMIC_ACQUIRE);
  const std::uint64_t blocks = __atomic_load_n(&source().overwritten_blocks, __ATOMIC_ACQUIRE);
  for (std::uint64_t slot = 0; slot < std::min(index_next_, slots_); ++slot) {
    SlotEntry entry{slot, {}};
    const auto* live = at<const wire::BlockHeader>(slot_offset(entry));
    std::memcpy(&entry.header, live, sizeof entry.header);
    const std::uint64_t room = wire::kRingSlotBytes - sizeof(wire::BlockHeader);
    if (entry.header.magic == wire::kBlockMagic && entry.header.payload_bytes <= room) {
      index_.push_back(entry);
    }
  }
  loads_so_far_first();
  result_.overwritten_events = events;
  result_.overwritten_blocks = blocks;
  // A slot that was taken but holds nothing is just being written: its old events are not counted
  // yet, its new ones not there yet.
  return index_.size() == std::min(index_next_, slots_) &&
         __atomic_load_n(&source().ring_next, __ATOMIC_RELAXED) == index_next_ &&
         __atomic_load_n(&source().overwritten_events, __ATOMIC_RELAXED) == events;
}

void Copier::read_index() {
  for (int tries = 0; tries < kIndexTries; ++tries) {
    if (try_index()) return;
    if (tries > kIndexTries / 2) nanosleep(&kMoment, nullptr);
  }
  result_.exact = false;
}

// The buffers were copied after T: all that a stream wrote until then is in its copy and in blocks
// before it. What it has written since is neither in the snapshot nor overwritten.
bool Copier::is_later(const wire::BlockHeader& block) const {
  const auto tail = tails_.find(block.stream);
  return tail != tails_.end() && block.sequence >= tail->second;
}

void Copier::copy_slots() {
  std::erase_if(index_, [this](const SlotEntry& e) { return is_later(e.header); });
  // The slot that is taken next holds the oldest block.
  const std::uint64_t oldest = index_next_ % slots_;
  const auto age = [&](const SlotEntry& e) { return (e.slot + slots_ - oldest) % slots_; };
  std::sort(index_.begin(), index_.end(),
            [&](const SlotEntry& a, const SlotEntry& b) { return age(a) < age(b); });
  // In memory first, some at a time: copies to a file take several times as long, and meanwhile the
  // program goes on overwriting.
  const std::size_t batch = std::min<std::size_t>(index_.size(), kBatchSlots);
  std::vector<std::byte> buffer(batch * wire::kRingSlotBytes);
  for (std::size_t first = 0; first < index_.size(); first += batch) {
    const std::size_t end = std::min(first + batch, index_.size());
    for (std::size_t i = first; i < end; ++i) {
      index_[i].taken = take_slot(index_[i], buffer.data() + (i - first) * wire::kRingSlotBytes);
    }
    for (std::size_t i = first; i < end; ++i) {
      const SlotEntry& entry = index_[i];
      if (entry.taken) {
        write(buffer.data() + (i - first) * wire::kRingSlotBytes,
              sizeof entry.header + entry.header.payload_bytes, slot_offset(entry));
      } else {
        result_.overwritten_events += entry.header.events;
        ++result_.overwritten_blocks;
        ++result_.lost_blocks;
      }
    }
  }
  const std::uint64_t next = __atomic_load_n(&source().ring_next, __ATOMIC_RELAXED);
  if (next - index_next_ >= slots_) result_.exact = false;
}

// What is left of a stream is to be its end, without a gap: what stands before one (its successor
// was overwritten first, by a faster thread) goes too. Before the cut, which could hide a gap.
void Copier::drop_before_gaps() {
  std::map<std::uint32_t, std::vector<const SlotEntry*>> streams;
  for (const SlotEntry& entry : index_) {
    if (entry.taken) streams[entry.header.stream].push_back(&entry);
  }
  for (auto& [stream, entries] : streams) {
    std::sort(entries.begin(), entries.end(), [](const SlotEntry* a, const SlotEntry* b) {
      return a->header.sequence > b->header.sequence;
    });
    const auto tail = tails_.find(stream);
    std::uint64_t next = tail != tails_.end() ? tail->second : entries.front()->header.sequence + 1;
    bool gap = false;
    for (const SlotEntry* entry : entries) {
      gap = gap || entry->header.sequence + 1 != next;
      next = entry->header.sequence;
      if (!gap) continue;
      result_.overwritten_events += entry->header.events;
      ++result_.overwritten_blocks;
      remove_block(slot_offset(*entry));
    }
  }
}

// False: it was overwritten meanwhile. The tracer takes a block's header away before it touches the
// payload, so a header that has stayed vouches for what was copied before it was looked at.
bool Copier::take_slot(const SlotEntry& entry, std::byte* to) const {
  std::memcpy(to, at<const std::byte>(slot_offset(entry)),
              sizeof entry.header + entry.header.payload_bytes);
  loads_so_far_first();
  wire::BlockHeader now;
  std::memcpy(&now, at<const wire::BlockHeader>(slot_offset(entry)), sizeof now);
  std::memcpy(to, &entry.header, sizeof entry.header);
  return std::memcmp(&now, &entry.header, sizeof now) == 0;
}

void Copier::write_header(std::uint64_t reset_stamp) {
  std::vector<std::byte> page(wire::kTraceHeaderBytes);
  std::memcpy(page.data(), map_, page.size());
  wire::TraceHeader header;
  std::memcpy(&header, page.data(), sizeof header);
  header.reset_stamp = reset_stamp;
  header.file_end = map_bytes_;
  header.ring_next = index_next_;
  header.overwritten_events = result_.overwritten_events;
  header.overwritten_blocks = result_.overwritten_blocks;
  std::memcpy(page.data(), &header, sizeof header);
  write(page.data(), page.size(), 0);
}

void Copier::cut() {
  auto trace = formats::TraceFile::open(fmt::format("/proc/self/fd/{}", to_));
  if (!trace) {
    throw ControlError{
        ControlError::Kind::kFailed, "the copy cannot be read back: " + trace.error().message, {}};
  }
  for (std::uint32_t stream = 0; stream < trace->streams().size(); ++stream) {
    cut_stream(*trace, stream);
  }
}

std::uint64_t Copier::events_of(std::uint64_t offset) const {
  wire::BlockHeader header{};
  read_fully(to_, &header, sizeof header, offset);
  return header.type == wire::BlockType::kEvents ? header.events : 0;
}

void Copier::remove_block(std::uint64_t offset) { end_block(offset, offset, 0); }

// Ends a block's words at file offset `end`; nothing is left of it when that is before its words.
void Copier::end_block(std::uint64_t offset, std::uint64_t end, std::uint64_t events) {
  wire::BlockHeader header{};
  if (!read_fully(to_, &header, sizeof header, offset)) fail("read back");
  const std::uint64_t words = offset + sizeof header;
  const std::uint64_t all = header.payload_bytes;
  const std::uint64_t keep = std::clamp(end, words, words + all) - words;
  const std::vector<std::byte> zeros(all - keep);
  write(zeros.data(), zeros.size(), words + keep);
  if (header.type != wire::BlockType::kEvents) return;
  header.payload_bytes = keep;
  header.events = events;
  if (keep == 0) header = {};
  write(&header, sizeof header, offset);
}

void Copier::cut_stream(const formats::TraceFile& trace, std::uint32_t stream) {
  const auto& blocks = trace.streams()[stream];
  // A block starts at the time of the last event before it, so all but the last of these end in
  // time.
  std::size_t last = 0;
  while (last + 1 < blocks.size() && blocks[last + 1].first_stamp <= cut_stamp_) ++last;
  for (std::size_t i = last + 1; i < blocks.size(); ++i) remove_block(blocks[i].offset);
  formats::StreamDecoder decoder(trace, formats::StreamIndex{stream});
  for (std::size_t i = 0; i < last; ++i) {
    result_.events += events_of(blocks[i].offset);
    decoder.skip_block();
  }
  const std::uint64_t begin = blocks[last].offset + sizeof(wire::BlockHeader);
  const std::uint64_t end = begin + std::uint64_t{blocks[last].words} * sizeof(std::uint64_t);
  std::uint64_t events = 0;
  formats::Event event;
  while (decoder.next(event) && event.offset >= begin && event.offset < end) {
    if (event.stamp > cut_stamp_) {
      end_block(blocks[last].offset, event.offset, events);
      break;
    }
    ++events;
  }
  result_.events += events;
}

}  // namespace

RingSnapshot save_ring(int trace_fd, const std::string& path) {
  const int to = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (to < 0) {
    throw ControlError{ControlError::Kind::kFailed,
                       fmt::format("cannot create {}: {}", path, std::strerror(errno)),
                       "choose another name with -o"};
  }
  // Whoever may read the trace may read its copy.
  struct stat st;
  if (fstat(trace_fd, &st) == 0) {
    [[maybe_unused]] const int owned = fchown(to, st.st_uid, st.st_gid);
  }
  try {
    Copier copier(trace_fd, to, path);
    RingSnapshot snapshot = copier.run();
    close(to);
    return snapshot;
  } catch (...) {
    close(to);
    unlink(path.c_str());
    throw;
  }
}

std::string snapshot_path(const std::string& trace_path) {
  constexpr std::string_view kSuffix = ".atrace";
  std::string stem = trace_path;
  if (stem.ends_with(kSuffix)) stem.resize(stem.size() - kSuffix.size());
  for (int number = 1;; ++number) {
    std::string name = fmt::format("{}.dump{}{}", stem, number, kSuffix);
    if (access(name.c_str(), F_OK) != 0) return name;
  }
}

}  // namespace alloctape::tracer
