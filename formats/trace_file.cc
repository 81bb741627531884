#include "formats/trace_file.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "formats/block_unpacker.h"
#include "formats/trace_scan.h"

namespace alloctape::formats {

namespace {

constexpr std::uint32_t kMaxHeaderBytes = 1 << 20;
// Above this, pages that were decoded are given back, so that reading a long trace stays small.
constexpr std::uint64_t kLargeFile = std::uint64_t{256} << 20;

Error file_error(const MappedFile& file, ErrorCode code, std::string message, std::uint64_t offset,
                 const char* field) {
  return {code, std::move(message), file.path(), offset, field};
}

Status read_header(const MappedFile& file, wire::TraceHeader& h) {
  const std::size_t magic_present =
      std::min<std::size_t>(sizeof wire::kTraceMagic, static_cast<std::size_t>(file.size()));
  if (magic_present != 0 && std::memcmp(file.data(), wire::kTraceMagic, magic_present) != 0) {
    return file_error(file, ErrorCode::kNotThisFormat, "not an alloctape trace", 0, "magic");
  }
  if (file.size() < sizeof(wire::TraceHeader)) {
    return file_error(file, ErrorCode::kTruncated,
                      fmt::format("the file ends inside the trace header ({} bytes of {})",
                                  file.size(), sizeof(wire::TraceHeader)),
                      file.size(), "magic");
  }
  std::memcpy(&h, file.data(), sizeof h);
  if (h.version != wire::kTraceVersion) {
    return file_error(file, ErrorCode::kUnsupportedVersion,
                      fmt::format("trace version {}, this program reads version {}", h.version,
                                  wire::kTraceVersion),
                      offsetof(wire::TraceHeader, version), "version");
  }
  if (h.required_features & ~wire::kTraceRequiredFeatures) {
    return file_error(
        file, ErrorCode::kUnsupportedVersion,
        fmt::format("the trace needs features that this program does not know ({:#x})",
                    h.required_features & ~wire::kTraceRequiredFeatures),
        offsetof(wire::TraceHeader, required_features), "required_features");
  }
  if (h.header_bytes < sizeof h || h.header_bytes % wire::kBlockAlign != 0 ||
      h.header_bytes > kMaxHeaderBytes) {
    return file_error(file, ErrorCode::kCorrupt,
                      fmt::format("{} cannot be the header's size", h.header_bytes),
                      offsetof(wire::TraceHeader, header_bytes), "header_bytes");
  }
  if (h.clock_shift > 32) {
    return file_error(file, ErrorCode::kCorrupt,
                      fmt::format("{} cannot be a clock's shift", h.clock_shift),
                      offsetof(wire::TraceHeader, clock_shift), "clock_shift");
  }
  if (h.clock_kind != wire::ClockKind::kTsc && h.clock_kind != wire::ClockKind::kMonotonicNs) {
    return file_error(
        file, ErrorCode::kCorrupt,
        fmt::format("unknown clock kind {}", static_cast<std::uint32_t>(h.clock_kind)),
        offsetof(wire::TraceHeader, clock_kind), "clock_kind");
  }
  return Nothing{};
}

// The header's own figure, or what the two anchors give, or a guess of 1 GHz.
double find_ticks_per_second(const wire::TraceHeader& h) {
  double hz = static_cast<double>(h.ticks_per_second);
  if (h.ticks_per_second == 0) {
    hz = 1e9;
    if (h.clock_kind == wire::ClockKind::kTsc && h.last_ticks > h.start_ticks &&
        h.last_monotonic_ns > h.start_monotonic_ns) {
      hz = static_cast<double>(h.last_ticks - h.start_ticks) * 1e9 /
           static_cast<double>(h.last_monotonic_ns - h.start_monotonic_ns);
    }
  }
  return std::clamp(hz, 1.0, 1e15);
}

}  // namespace

struct TraceFile::State {
  MappedFile file;
  wire::TraceHeader header;
  TraceScan scan;
  std::uint64_t dropped_events = 0;
  double ticks_per_second = 1e9;
  // Nanoseconds per tick, 32.32 fixed point: exact for the nanosecond clock, and better than a
  // double over a recording of months.
  std::uint64_t ns_per_tick_fixed = std::uint64_t{1} << 32;
};

TraceFile::TraceFile(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Result<TraceFile> TraceFile::open(const std::string& path) {
  constexpr int kAttempts = 4;
  for (int attempt = 1;; ++attempt) {
    auto file = MappedFile::open(path);
    if (!file) return file.error();
    auto state = std::make_shared<State>();
    state->file = std::move(*file);
    if (const Status status = read_header(state->file, state->header); !status) {
      return status.error();
    }
    state->scan = scan_trace(state->file, state->header);
    const bool live = state->header.state == wire::TraceState::kRecording;
    if (live && state->scan.tail_without_body && attempt < kAttempts) continue;

    if (state->file.size() < state->header.header_bytes) state->scan.truncated = true;
    if (__builtin_add_overflow(state->header.dropped_events, state->scan.dropped_events,
                               &state->dropped_events)) {
      state->dropped_events = ~std::uint64_t{0};
    }
    state->ticks_per_second = find_ticks_per_second(state->header);
    state->ns_per_tick_fixed =
        static_cast<std::uint64_t>(1e9 * 4294967296.0 / state->ticks_per_second + 0.5);
    return TraceFile(std::move(state));
  }
}

const std::string& TraceFile::path() const { return state_->file.path(); }
const wire::TraceHeader& TraceFile::header() const { return state_->header; }
const TraceMetadata& TraceFile::metadata() const { return state_->scan.metadata; }
std::uint64_t TraceFile::file_bytes() const { return state_->file.size(); }
const std::vector<std::vector<BlockRef>>& TraceFile::streams() const {
  return state_->scan.streams;
}
const std::vector<wire::RssSample>& TraceFile::rss() const { return state_->scan.rss; }
std::uint64_t TraceFile::dropped_events() const { return state_->dropped_events; }
const std::vector<TraceMark>& TraceFile::marks() const { return state_->scan.marks; }
std::uint64_t TraceFile::overwritten_events() const {
  return state_->header.overwritten_events + state_->scan.overwritten_events;
}
std::uint64_t TraceFile::overwritten_blocks() const {
  return state_->header.overwritten_blocks + state_->scan.overwritten_blocks;
}
std::uint64_t TraceFile::event_words() const { return state_->scan.event_words; }
bool TraceFile::truncated() const { return state_->scan.truncated; }
const std::vector<Error>& TraceFile::warnings() const { return state_->scan.warnings; }
const std::vector<OtherBlock>& TraceFile::other_blocks() const { return state_->scan.others; }
std::uint32_t TraceFile::stream_number(StreamIndex stream) const {
  return state_->scan.stream_numbers.at(static_cast<std::uint32_t>(stream));
}
double TraceFile::ticks_per_second() const { return state_->ticks_per_second; }
const std::byte* TraceFile::data() const { return state_->file.data(); }

std::uint64_t TraceFile::ticks_to_ns(std::uint64_t raw_ticks) const {
  if (raw_ticks <= state_->header.start_ticks) return 0;
  const unsigned __int128 fixed =
      static_cast<unsigned __int128>(raw_ticks - state_->header.start_ticks) *
      state_->ns_per_tick_fixed;
  const unsigned __int128 ns = (fixed + (1u << 31)) >> 32;
  return ns > ~std::uint64_t{0} ? ~std::uint64_t{0} : static_cast<std::uint64_t>(ns);
}

std::uint64_t TraceFile::duration_ns(std::uint64_t raw_ticks) const {
  const unsigned __int128 ns =
      (static_cast<unsigned __int128>(raw_ticks) * state_->ns_per_tick_fixed + (1u << 31)) >> 32;
  return ns > ~std::uint64_t{0} ? ~std::uint64_t{0} : static_cast<std::uint64_t>(ns);
}

std::uint64_t TraceFile::to_ns(std::uint64_t stamp) const {
  const std::uint32_t shift = state_->header.clock_shift;
  const std::uint64_t largest = ~std::uint64_t{0} >> shift;
  return ticks_to_ns(std::min(stamp, largest) << shift);
}

std::uint64_t TraceFile::ns_to_units(std::uint64_t ns) const {
  const double ticks = static_cast<double>(ns) * state_->ticks_per_second / 1e9;
  if (ticks >= 9.2e18) return std::uint64_t{1} << 63;
  return static_cast<std::uint64_t>(ticks) >> state_->header.clock_shift;
}

void TraceFile::release_pages(const BlockRef& block) const {
  if (state_->file.size() < kLargeFile) return;
  const std::uint64_t bytes =
      block.packed() ? block.payload_bytes : std::uint64_t{block.words} * sizeof(std::uint64_t);
  state_->file.drop(block.offset, sizeof(wire::BlockHeader) + bytes);
}

Status TraceFile::unpack(const BlockRef& block, UnpackedBlock& result) const {
  // What it works in is large, and of no use between two calls.
  thread_local BlockUnpacker unpacker;
  const MappedFile& file = state_->file;
  const std::uint64_t payload_at = block.offset + sizeof(wire::BlockHeader);
  wire::BlockHeader header{};
  if (payload_at <= file.size()) std::memcpy(&header, file.data() + block.offset, sizeof header);
  // An index may say anything.
  if (header.magic != wire::kBlockMagic || header.type != wire::BlockType::kPacked ||
      header.sequence != block.sequence || header.blocks != block.blocks ||
      header.payload_bytes > file.size() - payload_at) {
    return file_error(file, ErrorCode::kCorrupt, "the packed block that should be here is not",
                      block.offset, "type");
  }
  const std::span<const std::byte> payload(file.data() + payload_at, header.payload_bytes);
  auto head = read_packed_head(payload, header.blocks);
  Status status = head ? unpacker.unpack(payload, *head, result.words) : Status(head.error());
  if (status.ok() && result.words.size() != block.words) {
    status =
        file_error(file, ErrorCode::kCorrupt,
                   "a packed block has not as many words as its index entry tells", 0, "words");
  }
  if (status.ok()) {
    result.parts = std::move(head->parts);
    return status;
  }
  Error error = status.error();
  error.path = file.path();
  error.offset = payload_at + error.offset.value_or(0);
  return error;
}

}  // namespace alloctape::formats
