#include "formats/workload_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace alloctape::formats {
namespace {

constexpr unsigned kFirstChunkWords = 256;  // a lane of a short thread costs 2 KiB, not 64
constexpr std::uint64_t kMaxSlot = (std::uint64_t{1} << (64 - wire::kWideSlotAt)) - 1;

// One lane: what was written out, and the chunk that is still open.
struct Lane {
  std::vector<wire::ChunkEntry> chunks;  // written; `lane` is filled in by finish
  std::vector<std::uint64_t> open;       // words of the open chunk
  std::array<std::uint64_t, wire::kChunkWords / 64> starts{};  // bit: an op begins at this word
  std::uint64_t first_word = 0;                                // position of the open chunk
  std::uint64_t threads = 0;

  std::uint64_t position() const { return first_word + open.size(); }
  bool starts_at(std::uint64_t i) const { return starts[i / 64] >> (i % 64) & 1; }
  // Sets the publish bit of the op that ends at word `end` of the open chunk.
  void publish_op_ending_at(std::uint64_t end) {
    std::uint64_t i = end - 1;
    while (!starts_at(i)) --i;
    open[i] |= wire::kPublishBit;
  }
};

}  // namespace

struct WorkloadWriter::State {
  std::string path;
  int fd = -1;
  std::uint64_t file_end = 0;
  bool failed = false;
  Error error{ErrorCode::kIo, {}, {}, {}, {}};
  std::vector<std::unique_ptr<Lane>> lanes;
  Lane prologue;
  std::uint64_t prologue_blocks = 0, sync_points = 0;
  std::uint64_t ops_by_kind[wire::kMapOpLimit] = {};

  ~State() {
    if (fd >= 0) ::close(fd);
  }

  // The first error stays: what follows it is its consequence.
  const Error& fail(std::string message, std::uint64_t offset) {
    if (!failed) error = {ErrorCode::kIo, std::move(message), path, offset, {}};
    failed = true;
    return error;
  }

  bool write_at(const void* data, std::uint64_t bytes, std::uint64_t offset) {
    if (failed) return false;
    auto* p = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t n = ::pwrite(fd, p, bytes, static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        fail(std::string("cannot write the workload: ") + std::strerror(n < 0 ? errno : EIO),
             offset);
        return false;
      }
      p += n;
      bytes -= static_cast<std::uint64_t>(n);
      offset += static_cast<std::uint64_t>(n);
    }
    return true;
  }

  bool flush(Lane& lane) {
    if (lane.open.empty()) return true;
    lane.publish_op_ending_at(lane.open.size());
    const auto words = static_cast<std::uint32_t>(lane.open.size());
    if (!write_at(lane.open.data(), words * 8ull, file_end)) return false;
    lane.chunks.push_back({0, words, file_end, lane.first_word});
    file_end += words * 8ull;
    lane.first_word += words;
    lane.open.clear();
    lane.starts.fill(0);
    return true;
  }

  // Appends one op of 1-4 words; returns false after an I/O error.
  bool put(Lane& lane, const std::uint64_t* words, unsigned n) {
    if (lane.open.size() + n > wire::kChunkWords && !flush(lane)) return false;
    const std::size_t at = lane.open.size();
    if (lane.open.capacity() < at + n) {
      lane.open.reserve(std::min<std::size_t>(
          wire::kChunkWords, std::max<std::size_t>(kFirstChunkWords, lane.open.capacity() * 2)));
    }
    lane.starts[at / 64] |= std::uint64_t{1} << (at % 64);
    for (unsigned i = 0; i < n; ++i) lane.open.push_back(words[i]);
    return true;
  }

  Result<std::uint64_t> put_result(std::uint32_t lane, const std::uint64_t* words, unsigned n) {
    if (failed || !put(*lanes[lane], words, n)) return error;
    return lanes[lane]->position();
  }

  // Writes a table at the end of the file, on an 8-byte boundary.
  wire::Section table(const void* data, std::uint64_t count, std::uint64_t entry_bytes) {
    file_end = (file_end + 7) & ~std::uint64_t{7};
    const wire::Section section{file_end, count};
    write_at(data, count * entry_bytes, file_end);
    file_end += count * entry_bytes;
    return section;
  }
};

namespace {

// Words of an API op. Wide only where narrow cannot say it.
unsigned encode(const Op& op, std::uint64_t (&words)[4]) {
  if (wire::is_map_op(op.op)) {
    const unsigned n = wire::map_op_words(op.op);
    words[0] = wire::wide_op_word(op.op, n, op.flags, op.slot);
    words[1] = op.size;
    words[2] = op.offset;
    words[3] = op.value;
    return n;
  }
  const wire::OpTraits& traits = wire::traits(op.op);
  if (traits.takes_alignment || op.count != 0) {
    words[0] = wire::wide_op_word(op.op, 3, op.flags, op.slot);
    words[1] = op.size;
    words[2] = traits.takes_alignment ? op.alignment : op.count;
    return 3;
  }
  if (op.flags != 0 || !wire::fits_narrow(op.slot, op.size)) {
    words[0] = wire::wide_op_word(op.op, 2, op.flags, op.slot);
    words[1] = op.size;
    return 2;
  }
  words[0] = wire::narrow_op(op.op, op.slot, op.size);
  return 1;
}

}  // namespace

WorkloadWriter::WorkloadWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
WorkloadWriter::WorkloadWriter(WorkloadWriter&&) noexcept = default;
WorkloadWriter::~WorkloadWriter() = default;

Result<WorkloadWriter> WorkloadWriter::create(const std::string& path) {
  auto state = std::make_unique<State>();
  state->path = path;
  state->fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (state->fd < 0) {
    return Error{ErrorCode::kIo,
                 std::string("cannot create the workload: ") + std::strerror(errno),
                 path,
                 {},
                 {}};
  }
  // Whoever looks at the file before finish() finds the magic and complete = 0.
  wire::WorkloadHeader header{};
  std::memcpy(header.magic, wire::kWorkloadMagic, sizeof header.magic);
  header.version = wire::kWorkloadVersion;
  header.header_bytes = sizeof header;
  if (!state->write_at(&header, sizeof header, 0)) return state->error;
  state->file_end = sizeof header;
  return WorkloadWriter(std::move(state));
}

std::uint32_t WorkloadWriter::add_lane() {
  state_->lanes.push_back(std::make_unique<Lane>());
  return static_cast<std::uint32_t>(state_->lanes.size() - 1);
}

std::uint64_t WorkloadWriter::position(std::uint32_t lane) const {
  return state_->lanes[lane]->position();
}

Result<std::uint64_t> WorkloadWriter::append(std::uint32_t lane, const Op& op) {
  if (op.slot > kMaxSlot) return state_->fail("too many slots for one workload", 0);
  std::uint64_t words[4];
  const unsigned n = encode(op, words);
  if (wire::is_call_op(op.op)) ++state_->ops_by_kind[static_cast<int>(op.op)];
  return state_->put_result(lane, words, n);
}

Result<std::uint64_t> WorkloadWriter::append_wait(std::uint32_t lane, std::uint32_t other,
                                                  std::uint64_t position) {
  ++state_->sync_points;
  const std::uint64_t words[2] = {wire::wide_op_word(wire::Op::kWait, 2, 0, other), position};
  return state_->put_result(lane, words, 2);
}

bool WorkloadWriter::raise_wait(std::uint32_t lane_index, std::uint64_t wait_end,
                                std::uint64_t position) {
  Lane& lane = *state_->lanes[lane_index];
  if (wait_end <= lane.first_word) return false;
  lane.open[wait_end - lane.first_word - 1] = position;
  return true;
}

Result<std::uint64_t> WorkloadWriter::append_spawn(std::uint32_t lane, std::uint32_t other) {
  const std::uint64_t word = wire::narrow_op(wire::Op::kSpawn, 0, other);
  return state_->put_result(lane, &word, 1);
}

Result<std::uint64_t> WorkloadWriter::append_exit(std::uint32_t lane) {
  ++state_->lanes[lane]->threads;
  const std::uint64_t word = wire::narrow_op(wire::Op::kExit, 0, 0) | wire::kPublishBit;
  return state_->put_result(lane, &word, 1);
}

Result<std::uint64_t> WorkloadWriter::append_time(std::uint32_t lane, std::uint64_t ns) {
  const std::uint64_t words[2] = {wire::wide_op_word(wire::Op::kTime, 2, 0, 0), ns};
  return state_->put_result(lane, words, 2);
}

Status WorkloadWriter::append_prologue(std::uint64_t slot, std::uint64_t size, bool size_known) {
  ++state_->prologue_blocks;
  std::uint64_t words[4];
  const std::uint8_t flags = size_known ? wire::kOpSizeKnown : 0;
  const unsigned n =
      encode({.op = wire::Op::kMalloc, .flags = flags, .slot = slot, .size = size}, words);
  if (state_->failed || !state_->put(state_->prologue, words, n)) return state_->error;
  return Nothing{};
}

std::uint64_t WorkloadWriter::publish(std::uint32_t lane_index, std::uint64_t position) {
  Lane& lane = *state_->lanes[lane_index];
  if (position == 0) return 0;  // passed from the beginning
  if (position > lane.first_word) {
    lane.publish_op_ending_at(position - lane.first_word);
    return position;
  }
  const auto chunk = std::partition_point(
      lane.chunks.begin(), lane.chunks.end(),
      [position](const wire::ChunkEntry& c) { return c.first_word + c.words < position; });
  return chunk->first_word + chunk->words;
}

Status WorkloadWriter::finish(const Totals& totals) {
  State& s = *state_;
  std::vector<wire::LaneEntry> lane_table;
  std::vector<wire::ChunkEntry> chunk_table;
  const auto lane_count = static_cast<std::uint32_t>(s.lanes.size());
  for (std::uint32_t i = 0; i <= lane_count; ++i) {
    Lane& lane = i < lane_count ? *s.lanes[i] : s.prologue;
    if (!s.flush(lane)) return s.error;
    lane_table.push_back({chunk_table.size(), lane.chunks.size(), lane.first_word, lane.threads});
    for (wire::ChunkEntry chunk : lane.chunks) {
      chunk.lane = i;
      chunk_table.push_back(chunk);
    }
  }
  wire::WorkloadHeader header{};
  std::memcpy(header.magic, wire::kWorkloadMagic, sizeof header.magic);
  header.version = wire::kWorkloadVersion;
  header.complete = 1;
  header.header_bytes = sizeof header;
  header.order = totals.order;
  header.lanes = lane_count;
  header.threads = totals.threads.size();
  header.slots = totals.slots;
  for (int i = 0; i < wire::kMapOpLimit; ++i) {
    header.ops_by_kind[i] = s.ops_by_kind[i];
    header.ops += s.ops_by_kind[i];
    if (i >= wire::kMapOpFirst && s.ops_by_kind[i] != 0) {
      header.required_features |= wire::kWorkloadRequiresMaps;
    }
  }
  header.peak_mapped_bytes = totals.peak_mapped_bytes;
  header.end_mapped_bytes = totals.end_mapped_bytes;
  header.sync_points = s.sync_points;
  header.prologue_blocks = s.prologue_blocks;
  header.peak_live_bytes = totals.peak_live_bytes;
  header.peak_live_blocks = totals.peak_live_blocks;
  header.end_live_bytes = totals.end_live_bytes;
  header.end_live_blocks = totals.end_live_blocks;
  header.recorded_ns = totals.recorded_ns;
  auto table = [&s](const auto& v) { return s.table(v.data(), v.size(), sizeof(v[0])); };
  header.lane_table = table(lane_table);
  header.chunk_table = table(chunk_table);
  header.thread_table = table(totals.threads);
  header.live_curve = table(totals.live_curve);
  header.rss_curve = table(totals.rss_curve);
  header.provenance = table(totals.provenance_json);
  header.file_bytes = s.file_end;
  // The header goes last: until it is there, the file says that it is incomplete.
  if (!s.write_at(&header, sizeof header, 0)) return s.error;
  if (::close(std::exchange(s.fd, -1)) != 0) {  // network and quota file systems report here
    return s.fail(std::string("cannot write the workload: ") + std::strerror(errno), s.file_end);
  }
  return Nothing{};
}

}  // namespace alloctape::formats
