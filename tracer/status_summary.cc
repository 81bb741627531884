#include "tracer/status_summary.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "cli/units.h"
#include "tracer/live_trace.h"
#include "tracer/process_info.h"

namespace alloctape::tracer {
namespace {

struct Buffers {
  std::uint64_t bytes = 0;   // of the file that are buffers
  std::uint64_t events = 0;  // in them now
  std::uint64_t dropped_events = 0;
};

std::uint64_t count_events(const std::vector<std::uint64_t>& words) {
  std::uint64_t events = 0;
  for (std::size_t i = 0; i < words.size() && words[i] != 0; i += record_words(words[i])) {
    const bool second = wire::word_kind(words[i]) == wire::Kind::kReallocTo && i > 0 &&
                        wire::word_kind(words[i - 1]) == wire::Kind::kReallocFrom;
    const bool note =
        wire::word_kind(words[i]) == wire::Kind::kNull &&
        (wire::compact_size(words[i]) == 0 || wire::compact_size(words[i]) >= wire::kNoteFirst);
    events += !second && !note;
  }
  return events;
}

// The buffers are where the process has mapped its trace: no need to walk the whole file.
Buffers read_buffers(const ImageControl& image, std::uint64_t inode) {
  Buffers buffers;
  const auto mappings = process_mappings(image.pid());
  if (!mappings) return buffers;
  std::vector<std::uint64_t> words;
  for (const Mapping& mapping : *mappings) {
    if (!mapping.shared || mapping.inode != inode || mapping.offset == 0) continue;
    const std::uint64_t end = mapping.offset + (mapping.end - mapping.start);
    // Neighbours may show as one mapping.
    for (std::uint64_t at = mapping.offset; at < end;) {
      wire::BlockHeader header;
      if (!read_fully(image.fd(), &header, sizeof header, at)) break;
      const std::uint64_t bytes = sizeof header + header.payload_bytes;
      if (header.magic != wire::kBlockMagic || header.type != wire::BlockType::kStaging ||
          header.payload_bytes > end - at) {
        break;
      }
      buffers.bytes += bytes;
      buffers.dropped_events += header.dropped_events;
      if (header.staging_state == wire::StagingState::kActive) {
        words.resize(header.payload_bytes / sizeof(std::uint64_t));
        if (read_fully(image.fd(), words.data(), words.size() * sizeof(std::uint64_t),
                       at + sizeof header)) {
          buffers.events += count_events(words);
        }
      }
      at += bytes;
    }
  }
  return buffers;
}

struct RingContent {
  std::uint64_t events = 0, bytes = 0;
};

RingContent read_ring(const ImageControl& image) {
  const wire::TraceHeader& h = image.header();
  RingContent content;
  for (std::uint64_t at = 0; at < h.ring_bytes; at += wire::kRingSlotBytes) {
    wire::BlockHeader block;
    if (!read_fully(image.fd(), &block, sizeof block, h.ring_offset + at)) break;
    if (block.magic != wire::kBlockMagic) continue;
    content.events += block.events;
    content.bytes += wire::kRingSlotBytes;
  }
  return content;
}

std::string state_of(const wire::TraceHeader& h, wire::ControlState commanded) {
  const auto state = __atomic_load_n(&h.state, __ATOMIC_RELAXED);
  if (state == wire::TraceState::kStopped) return "limit";
  if (state == wire::TraceState::kFinished) return "ending";
  switch (commanded) {
    case wire::ControlState::kRecord:
      return "recording";
    case wire::ControlState::kPaused:
      return "paused";
    case wire::ControlState::kStopped:
      return "stopped";
    case wire::ControlState::kNone:
      break;
  }
  return "starting";
}

}  // namespace

ImageStatus read_status(const ImageControl& image) {
  const wire::TraceHeader& h = image.header();
  const auto live = [](const auto& field) { return __atomic_load_n(&field, __ATOMIC_RELAXED); };
  ImageStatus status;
  status.pid = image.pid();
  status.program = program_name(image.pid());
  status.trace_path = image.path();
  status.state = state_of(h, image.commanded());
  status.stop_errno = static_cast<int>(live(h.stop_errno));
  status.commands = wire::control_generation(live(h.control));
  status.streams = live(h.next_stream);
  status.threads = live(h.next_thread);
  status.max_bytes = h.max_bytes;
  const std::uint64_t end = live(h.file_end);
  status.file_bytes = end - std::min(end, live(h.released_bytes));

  struct stat st {};
  fstat(image.fd(), &st);
  const Buffers buffers = read_buffers(image, st.st_ino);
  status.dropped_events = live(h.dropped_events) + buffers.dropped_events;
  if (h.ring_bytes != 0) {
    const RingContent content = read_ring(image);
    status.ring = ImageStatus::Ring{h.ring_bytes, content.bytes, live(h.overwritten_events),
                                    live(h.overwritten_blocks)};
    status.events = content.events + buffers.events;
  } else {
    // Nearly all of the rest is blocks of events, one word to each.
    const std::uint64_t beside = wire::kTraceHeaderBytes + buffers.bytes;
    status.events = (end - std::min(end, beside)) / sizeof(std::uint64_t) + buffers.events;
  }
  return status;
}

std::string to_text(const ImageStatus& status) {
  std::string text = fmt::format("{}[{}]: {}", status.program, status.pid, status.state);
  if (status.stop_errno != 0) text += fmt::format(" ({})", std::strerror(status.stop_errno));
  text += fmt::format("\n  trace        {}\n", status.trace_path);
  text += fmt::format(
      "  events       about {} in {}{}\n", cli::count(status.events), cli::bytes(status.file_bytes),
      status.max_bytes ? fmt::format(" (at most {})", cli::bytes(status.max_bytes)) : "");
  if (status.ring) {
    text += fmt::format("  ring         {} of {} in use\n", cli::bytes(status.ring->used_bytes),
                        cli::bytes(status.ring->bytes));
    text += fmt::format("  overwritten  {} events in {} blocks\n",
                        cli::count(status.ring->overwritten_events),
                        cli::count(status.ring->overwritten_blocks));
  }
  text += fmt::format("  dropped      {}\n", cli::count(status.dropped_events));
  text += fmt::format("  threads      {} so far, in {} streams", cli::count(status.threads),
                      cli::count(status.streams));
  return text;
}

nlohmann::ordered_json to_json(const ImageStatus& status) {
  nlohmann::ordered_json json;
  json["state"] = status.state;
  json["stop_errno"] = status.stop_errno;
  json["commands"] = status.commands;
  json["events_estimate"] = status.events;
  json["file_bytes"] = status.file_bytes;
  json["max_bytes"] = nullptr;
  if (status.max_bytes != 0) json["max_bytes"] = status.max_bytes;
  json["dropped_events"] = status.dropped_events;
  json["streams"] = status.streams;
  json["threads"] = status.threads;
  json["ring"] = nullptr;
  if (status.ring) {
    json["ring"] = {{"bytes", status.ring->bytes},
                    {"used_bytes", status.ring->used_bytes},
                    {"overwritten_events", status.ring->overwritten_events},
                    {"overwritten_blocks", status.ring->overwritten_blocks}};
  }
  return json;
}

}  // namespace alloctape::tracer
