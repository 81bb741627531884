#include "formats/workload_file.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

namespace alloctape::formats {

using wire::ChunkEntry;
using wire::CurvePoint;
using wire::LaneEntry;
using wire::Section;
using wire::ThreadEntry;
using wire::WorkloadHeader;

struct WorkloadFile::State {
  MappedFile file;
  WorkloadHeader header{};

  const std::byte* at(std::uint64_t offset) const { return file.data() + offset; }
  template <typename T>
  std::span<const T> table(const Section& section) const {
    if (section.count == 0) return {};
    return {reinterpret_cast<const T*>(at(section.offset)), section.count};
  }

  Error error(ErrorCode code, std::string message, std::uint64_t offset, std::string field) const {
    return Error{code, std::move(message), file.path(), offset, std::move(field)};
  }
  Error corrupt(std::string message, std::uint64_t offset, std::string field) const {
    return error(ErrorCode::kCorrupt, std::move(message), offset, std::move(field));
  }

  Status check_header() const;
  Status check_section(const Section& section, std::uint64_t entry_bytes,
                       std::uint64_t field_offset, const char* name) const;
  Status check_sections() const;
  Status check_chunks() const;
  Status check_lanes() const;
  Status check_threads() const;
};

namespace {

std::uint64_t section_field(const WorkloadHeader& header, const Section& section) {
  return static_cast<std::uint64_t>(reinterpret_cast<const char*>(&section) -
                                    reinterpret_cast<const char*>(&header));
}

}  // namespace

Status WorkloadFile::State::check_header() const {
  if (header.version != wire::kWorkloadVersion) {
    return error(ErrorCode::kUnsupportedVersion,
                 "this workload has format version " + std::to_string(header.version) +
                     ", and only version " + std::to_string(wire::kWorkloadVersion) +
                     " can be read; convert the trace again",
                 offsetof(WorkloadHeader, version), "version");
  }
  if ((header.required_features & ~wire::kWorkloadRequiredFeatures) != 0) {
    return error(ErrorCode::kUnsupportedVersion, "the workload needs a newer alloctape",
                 offsetof(WorkloadHeader, required_features), "required_features");
  }
  if (header.complete != 1) {
    return error(ErrorCode::kTruncated, "the conversion that wrote this workload did not finish",
                 offsetof(WorkloadHeader, complete), "complete");
  }
  if (header.header_bytes < wire::kLeastWorkloadHeaderBytes || header.header_bytes > file.size()) {
    return corrupt("wrong length of the header", offsetof(WorkloadHeader, header_bytes),
                   "header_bytes");
  }
  if (header.file_bytes > file.size()) {
    return error(ErrorCode::kTruncated,
                 "the workload is cut short: it should have " + std::to_string(header.file_bytes) +
                     " bytes and has " + std::to_string(file.size()),
                 file.size(), "file_bytes");
  }
  if (header.order < wire::SyncOrder::kCausal || header.order > wire::SyncOrder::kSerial) {
    return corrupt("unknown order", offsetof(WorkloadHeader, order), "order");
  }
  if (header.lanes == 0) {
    return corrupt("there is no main thread", offsetof(WorkloadHeader, lanes), "lanes");
  }
  return Nothing{};
}

Status WorkloadFile::State::check_section(const Section& section, std::uint64_t entry_bytes,
                                          std::uint64_t field_offset, const char* name) const {
  // Divide, not multiply: the count is hostile.
  if (section.offset > header.file_bytes ||
      section.count > (header.file_bytes - section.offset) / entry_bytes) {
    return corrupt("a table reaches beyond the end of the file", field_offset, name);
  }
  if (entry_bytes > 1 && section.offset % 8 != 0) {
    return corrupt("a table is not aligned to 8 bytes", field_offset, name);
  }
  return Nothing{};
}

Status WorkloadFile::State::check_sections() const {
  const struct {
    const Section& section;
    std::uint64_t entry_bytes;
    const char* name;
  } sections[] = {
      {header.provenance, 1, "provenance"},
      {header.lane_table, sizeof(LaneEntry), "lane_table"},
      {header.chunk_table, sizeof(ChunkEntry), "chunk_table"},
      {header.thread_table, sizeof(ThreadEntry), "thread_table"},
      {header.live_curve, sizeof(CurvePoint), "live_curve"},
      {header.rss_curve, sizeof(CurvePoint), "rss_curve"},
  };
  for (const auto& s : sections) {
    Status status =
        check_section(s.section, s.entry_bytes, section_field(header, s.section), s.name);
    if (!status) return status;
  }
  if (header.lane_table.count != std::uint64_t{header.lanes} + 1) {
    return corrupt("the lane table has " + std::to_string(header.lane_table.count) +
                       " entries for " + std::to_string(header.lanes) + " lanes and the prologue",
                   section_field(header, header.lane_table) + 8, "lane_table.count");
  }
  if (header.thread_table.count != header.threads) {
    return corrupt("the thread table has " + std::to_string(header.thread_table.count) +
                       " entries for " + std::to_string(header.threads) + " threads",
                   section_field(header, header.thread_table) + 8, "thread_table.count");
  }
  return Nothing{};
}

Status WorkloadFile::State::check_chunks() const {
  const auto chunks = table<ChunkEntry>(header.chunk_table);
  std::uint64_t words = 0;
  for (std::uint64_t i = 0; i < chunks.size(); ++i) {
    const ChunkEntry& chunk = chunks[i];
    const std::uint64_t entry = header.chunk_table.offset + i * sizeof(ChunkEntry);
    if (chunk.lane > header.lanes) {
      return corrupt("no such lane", entry + offsetof(ChunkEntry, lane), "chunk_table.lane");
    }
    if (chunk.words == 0 || chunk.words > wire::kChunkWords) {
      return corrupt("wrong length of a chunk", entry + offsetof(ChunkEntry, words),
                     "chunk_table.words");
    }
    if (chunk.offset % 8 != 0 || chunk.offset > header.file_bytes ||
        chunk.words > (header.file_bytes - chunk.offset) / 8) {
      return corrupt("a chunk reaches beyond the end of the file",
                     entry + offsetof(ChunkEntry, offset), "chunk_table.offset");
    }
    words += chunk.words;
  }
  // Chunks that share their words would make a small file an endless script.
  if (words > header.file_bytes / 8) {
    return corrupt("the chunks together are longer than the file",
                   section_field(header, header.chunk_table), "chunk_table");
  }
  // Every slot is filled by some op, and every block of the prologue is one.
  if (header.slots > words) {
    return corrupt("more slots than ops", offsetof(WorkloadHeader, slots), "slots");
  }
  return Nothing{};
}

Status WorkloadFile::State::check_lanes() const {
  const auto lanes = table<LaneEntry>(header.lane_table);
  const auto chunks = table<ChunkEntry>(header.chunk_table);
  std::uint64_t next_chunk = 0, threads = 0;
  for (std::uint64_t i = 0; i < lanes.size(); ++i) {
    const LaneEntry& lane = lanes[i];
    const std::uint64_t entry = header.lane_table.offset + i * sizeof(LaneEntry);
    if (lane.first_chunk != next_chunk) {
      return corrupt("the chunks of the lanes do not follow one another",
                     entry + offsetof(LaneEntry, first_chunk), "lane_table.first_chunk");
    }
    if (lane.chunks > chunks.size() - next_chunk) {
      return corrupt("more chunks than there are", entry + offsetof(LaneEntry, chunks),
                     "lane_table.chunks");
    }
    std::uint64_t words = 0;
    for (const ChunkEntry& chunk : chunks.subspan(next_chunk, lane.chunks)) {
      const std::uint64_t at =
          header.chunk_table.offset +
          static_cast<std::uint64_t>(&chunk - chunks.data()) * sizeof(ChunkEntry);
      if (chunk.lane != i) {
        return corrupt("a chunk belongs to another lane", at + offsetof(ChunkEntry, lane),
                       "chunk_table.lane");
      }
      if (chunk.first_word != words) {
        return corrupt("a chunk does not start where the one before it ended",
                       at + offsetof(ChunkEntry, first_word), "chunk_table.first_word");
      }
      words += chunk.words;
    }
    if (words != lane.words) {
      return corrupt("the lane's chunks hold another number of words",
                     entry + offsetof(LaneEntry, words), "lane_table.words");
    }
    next_chunk += lane.chunks;
    // The prologue is no thread of its own; a lane without a thread would never start.
    const bool prologue = i + 1 == lanes.size();
    if (prologue ? lane.threads != 0 : lane.threads == 0 || (i == 0 && lane.threads != 1)) {
      return corrupt("wrong number of threads in a lane", entry + offsetof(LaneEntry, threads),
                     "lane_table.threads");
    }
    if (lane.threads > header.threads - threads) {
      return corrupt("more threads in the lanes than in the thread table",
                     entry + offsetof(LaneEntry, threads), "lane_table.threads");
    }
    threads += lane.threads;
  }
  if (next_chunk != chunks.size() || threads != header.threads) {
    return corrupt(next_chunk != chunks.size() ? "chunks that belong to no lane"
                                               : "threads that belong to no lane",
                   section_field(header, header.lane_table), "lane_table");
  }
  return Nothing{};
}

Status WorkloadFile::State::check_threads() const {
  const auto lanes = table<LaneEntry>(header.lane_table);
  const auto threads = table<ThreadEntry>(header.thread_table);
  for (std::uint64_t i = 0; i < threads.size(); ++i) {
    const ThreadEntry& thread = threads[i];
    const std::uint64_t entry = header.thread_table.offset + i * sizeof(ThreadEntry);
    if (thread.lane >= header.lanes) {
      return corrupt("no such lane", entry + offsetof(ThreadEntry, lane), "thread_table.lane");
    }
    if (thread.first_word > thread.end_word || thread.end_word > lanes[thread.lane].words) {
      return corrupt("a thread's words lie outside its lane",
                     entry + offsetof(ThreadEntry, first_word), "thread_table.first_word");
    }
  }
  return Nothing{};
}

Result<WorkloadFile> WorkloadFile::open(const std::string& path) {
  Result<MappedFile> file = MappedFile::open(path);
  if (!file) return file.error();
  auto state = std::make_shared<State>();
  state->file = std::move(*file);
  const State& s = *state;
  if (s.file.size() < sizeof wire::kWorkloadMagic ||
      std::memcmp(s.file.data(), wire::kWorkloadMagic, sizeof wire::kWorkloadMagic) != 0) {
    return s.error(ErrorCode::kNotThisFormat, "this is no workload (.awl)", 0, "magic");
  }
  if (s.file.size() < wire::kLeastWorkloadHeaderBytes) {
    return s.error(ErrorCode::kTruncated, "the workload ends within its header", s.file.size(),
                   "header");
  }
  // Of a header that is shorter or longer than ours, what both know.
  WorkloadHeader& header = state->header;
  std::memcpy(&header, s.file.data(), wire::kLeastWorkloadHeaderBytes);
  const std::uint64_t known =
      std::min<std::uint64_t>({header.header_bytes / 8 * 8, sizeof(WorkloadHeader), s.file.size()});
  if (known > wire::kLeastWorkloadHeaderBytes) std::memcpy(&header, s.file.data(), known);
  for (auto check : {&State::check_header, &State::check_sections, &State::check_chunks,
                     &State::check_lanes, &State::check_threads}) {
    Status status = (s.*check)();
    if (!status) return status.error();
  }
  WorkloadFile result;
  result.state_ = std::move(state);
  return result;
}

WorkloadFile::WorkloadFile() = default;
const std::string& WorkloadFile::path() const { return state_->file.path(); }
const WorkloadHeader& WorkloadFile::header() const { return state_->header; }
std::string WorkloadFile::provenance() const {
  const Section& section = state_->header.provenance;
  return {reinterpret_cast<const char*>(state_->at(section.offset)), section.count};
}
std::span<const LaneEntry> WorkloadFile::lanes() const {
  return state_->table<LaneEntry>(state_->header.lane_table);
}
std::span<const ChunkEntry> WorkloadFile::chunks() const {
  return state_->table<ChunkEntry>(state_->header.chunk_table);
}
std::span<const ThreadEntry> WorkloadFile::threads() const {
  return state_->table<ThreadEntry>(state_->header.thread_table);
}
std::span<const CurvePoint> WorkloadFile::live_curve() const {
  return state_->table<CurvePoint>(state_->header.live_curve);
}
std::span<const CurvePoint> WorkloadFile::rss_curve() const {
  return state_->table<CurvePoint>(state_->header.rss_curve);
}
std::span<const std::uint64_t> WorkloadFile::words(const ChunkEntry& chunk) const {
  return {reinterpret_cast<const std::uint64_t*>(state_->at(chunk.offset)), chunk.words};
}

}  // namespace alloctape::formats
