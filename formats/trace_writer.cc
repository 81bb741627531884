#include "formats/trace_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>

namespace alloctape::formats {

namespace {

constexpr std::uint64_t align_up(std::uint64_t n, std::uint64_t to) {
  return (n + to - 1) / to * to;
}

template <int bits>
constexpr bool fits(std::uint64_t n) {
  return n < std::uint64_t{1} << bits;
}

// The words of one event: a time word or none and then at most two compact ones, or one wide
// record.
struct Words {
  std::array<std::uint64_t, wire::kMaxWideWords> word{};
  unsigned count = 0;
  void push(std::uint64_t w) { word[count++] = w; }
};

// What goes ahead of an event's own words.
struct NoteWords {
  std::array<std::uint64_t, 3> word{};
  unsigned count = 0;
  void push(wire::Note note, std::uint64_t value) {
    word[count++] = wire::note_word(note, std::min(value, wire::kNoteMax));
  }
};

NoteWords notes_of(const Event& e) {
  NoteWords out;
  if (e.notes & kNoteUsable) out.push(wire::Note::kUsable, e.usable);
  if (e.notes & kNoteOldUsable) out.push(wire::Note::kOldUsable, e.old_usable);
  if (e.notes & kNoteDuration) out.push(wire::Note::kDuration, e.duration_ticks);
  return out;
}

// One stream's open block.
struct Stream {
  std::vector<std::uint64_t> words;
  std::uint64_t events = 0;
  std::uint64_t sequence = 0;
  std::uint64_t first_stamp = 0;
  std::uint32_t first_thread = 0;
  // What a decoder knows at the end of `words`.
  std::uint64_t stamp = 0;
  std::uint32_t thread = 0;
  bool started = false;
  std::array<std::uint64_t, wire::kWindows> windows{};
};

bool window_holds(const Stream& s, std::uint64_t pointer, bool other_arena) {
  return s.windows[wire::window_slot(pointer)] == wire::window_tag(pointer, other_arena);
}

// Does any window hold the pointer, whatever its arena? (The old pointer of a realloc.)
bool window_holds_either(const Stream& s, std::uint64_t pointer) {
  return window_holds(s, pointer, false) || window_holds(s, pointer, true);
}

bool compact_pointer(std::uint64_t pointer) {
  return pointer != 0 && pointer % (1u << wire::kOffsetShift) == 0;
}

std::uint64_t compact(wire::Kind kind, std::uint64_t delta, std::uint64_t size,
                      std::uint64_t pointer) {
  return wire::compact_word(kind, delta, wire::encode_size(size), wire::window_slot(pointer),
                            pointer);
}

// What is left of the delta for the event's own word, after a time word where one is needed.
std::uint64_t spend_time(std::uint64_t delta, Words& out) {
  if (fits<wire::kTimeBits>(delta)) return delta;
  out.push(wire::time_word(delta));
  return 0;
}

// Compact words hold an event only when decoding them gives back every member.
bool encode_compact(const Stream& s, const Event& e, Words& out) {
  if (e.thread != ThreadIndex{s.thread} || e.stamp < s.stamp) return false;
  if (e.count != 0 || e.alignment != 0) return false;
  const std::uint64_t delta = e.stamp - s.stamp;
  const bool other_arena = e.path & wire::kPathOtherArena;
  const unsigned rest = e.path & ~unsigned{wire::kPathOtherArena};

  if (e.op == wire::Op::kRealloc) {
    if (e.value != 0 || !wire::size_has_code(e.size) || !compact_pointer(e.pointer) ||
        !window_holds(s, e.pointer, other_arena) || (rest & ~unsigned{wire::kPathMoved})) {
      return false;
    }
    if (e.old_pointer == 0 || e.old_pointer == e.pointer) {
      if (!fits<wire::kTimeWordBits>(delta) || e.release_stamp != e.stamp || rest != 0) {
        return false;
      }
      const bool same = e.old_pointer != 0;
      const std::uint64_t rest_of_time = spend_time(delta, out);
      out.push(compact(same ? wire::Kind::kReallocSame : wire::Kind::kReallocTo, rest_of_time,
                       e.size, e.pointer));
      return true;
    }
    if (e.release_stamp < s.stamp || e.release_stamp > e.stamp) return false;
    const std::uint64_t before = e.release_stamp - s.stamp, during = e.stamp - e.release_stamp;
    if (!fits<wire::kTimeWordBits>(before) || !fits<wire::kTimeBits>(during) ||
        !compact_pointer(e.old_pointer) || !window_holds_either(s, e.old_pointer)) {
      return false;
    }
    const std::uint64_t rest_of_time = spend_time(before, out);
    out.push(compact(wire::Kind::kReallocFrom, rest_of_time, 0, e.old_pointer));
    out.push(compact(wire::Kind::kReallocTo, during, e.size, e.pointer));
    return true;
  }

  if (!fits<wire::kTimeWordBits>(delta) || rest != 0 || e.old_pointer != 0) return false;
  const wire::OpClass op_class = wire::op_class(e.op);
  if (e.pointer == 0 && !other_arena && e.size == 0 && e.value == 0 &&
      (op_class == wire::OpClass::kRelease || op_class == wire::OpClass::kQuery)) {
    const std::uint64_t rest_of_time = spend_time(delta, out);
    out.push(
        wire::compact_word(wire::Kind::kNull, rest_of_time, static_cast<unsigned>(e.op), 0, 0));
    return true;
  }
  const wire::Kind kind = wire::compact_kind(e.op);
  if (kind == wire::Kind::kWide) return false;
  const auto& shape = detail::kCompactShapes[static_cast<unsigned>(kind)];
  const std::uint64_t size = shape.value_mask != 0 ? e.value : e.size;
  const std::uint64_t other = shape.value_mask != 0 ? e.size : e.value;
  if (other != 0 || !wire::size_has_code(size) ||
      (size != 0 && !(shape.size_mask | shape.value_mask)) || !compact_pointer(e.pointer) ||
      !window_holds(s, e.pointer, other_arena)) {
    return false;
  }
  const std::uint64_t rest_of_time = spend_time(delta, out);
  out.push(compact(kind, rest_of_time, size, e.pointer));
  return true;
}

void encode_wide(const Stream& s, const Event& e, Words& out) {
  const bool meta = wire::op_class(e.op) == wire::OpClass::kMeta;
  const bool resize = wire::op_class(e.op) == wire::OpClass::kResize;
  const bool two_stamps = resize || wire::is_map_op(e.op);
  const bool late = e.path & wire::kPathLate;
  std::uint64_t delta = 0;
  unsigned fields = 0;
  out.push(0);
  const auto field = [&](wire::Field bit, std::uint64_t value) {
    fields |= bit;
    out.push(value);
  };
  if (late || e.stamp < s.stamp || !fits<wire::kWideTimeBits>(e.stamp - s.stamp)) {
    field(wire::kFieldStamp, e.stamp);
  } else {
    delta = e.stamp - s.stamp;
  }
  if (two_stamps && e.release_stamp != e.stamp) field(wire::kFieldReleaseStamp, e.release_stamp);
  if (!meta || e.pointer != 0) field(wire::kFieldPointer, e.pointer);
  if (resize || e.old_pointer != 0) field(wire::kFieldOldPointer, e.old_pointer);
  const bool product = e.count != 0 && !wire::is_map_op(e.op);  // of count and element size
  const std::uint64_t element = !product                      ? e.size
                                : e.value != 0 || e.size == 0 ? e.value
                                                              : e.size / e.count;
  if (wire::traits(e.op).takes_size || e.size != 0) field(wire::kFieldSize, element);
  if (e.count != 0) field(wire::kFieldCount, e.count);
  if (wire::traits(e.op).takes_alignment || e.alignment != 0) {
    field(wire::kFieldAlignment, e.alignment);
  }
  if (e.op == wire::Op::kThreadStart || late) {
    field(wire::kFieldThread, static_cast<std::uint32_t>(e.thread));
  }
  if (e.op == wire::Op::kThreadStart) {
    field(wire::kFieldTid, e.value);
  } else if (e.op == wire::Op::kMallocUsableSize || (!product && e.value != 0)) {
    field(wire::kFieldValue, e.value);
  }
  out.word[0] = wire::wide_word(e.op, out.count, e.path, fields, delta);
}

// What a decoder will know after the record: the mirror of StreamDecoder.
void follow(Stream& s, const Event& e, const Words& words) {
  s.stamp = e.stamp;
  if (wire::word_kind(words.word[0]) != wire::Kind::kWide) return;
  constexpr unsigned kNoWindowPaths =
      wire::kPathMapped | wire::kPathFailed | wire::kPathBootstrap | wire::kPathLate;
  if (e.pointer != 0 && !(e.path & kNoWindowPaths)) {
    s.windows[wire::window_slot(e.pointer)] =
        wire::window_tag(e.pointer, e.path & wire::kPathOtherArena);
  }
  if (e.op == wire::Op::kThreadStart && !(e.path & wire::kPathLate)) {
    s.thread = static_cast<std::uint32_t>(e.thread);
  }
}

}  // namespace

struct TraceWriter::State {
  std::string path;
  Options options;
  int fd = -1;
  std::uint64_t end = wire::kTraceHeaderBytes;
  std::uint32_t next_thread = 0;
  std::uint64_t last_stamp = 0;
  std::vector<Stream> streams;
  bool notes = false;
  std::vector<std::uint64_t> slots;  // of the ring: events of the block in each, 0 = none
  std::uint64_t ring_next = 0, overwritten_events = 0, overwritten_blocks = 0;

  ~State() {
    if (fd >= 0) ::close(fd);
  }

  Error error(const char* what) const {
    return {ErrorCode::kIo, fmt::format("{}: {}", what, std::strerror(errno)), path, {}, {}};
  }

  Status write_at(std::uint64_t offset, const void* data, std::size_t bytes) {
    const char* from = static_cast<const char*>(data);
    while (bytes != 0) {
      const ssize_t n = ::pwrite(fd, from, bytes, static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return error("cannot write");
      from += n;
      offset += static_cast<std::uint64_t>(n);
      bytes -= static_cast<std::size_t>(n);
    }
    return Nothing{};
  }

  // The place in the file of the next slot of the ring.
  std::uint64_t take_slot(std::uint64_t events) {
    const std::uint64_t slot = ring_next++ % slots.size();
    if (slots[slot] != 0) {
      overwritten_events += slots[slot];
      ++overwritten_blocks;
    }
    slots[slot] = events;
    return wire::kTraceHeaderBytes + slot * wire::kRingSlotBytes;
  }

  // `capacity`: what the block takes in the file, when that is more than its payload (staging).
  Status write_block(wire::BlockHeader header, const void* payload, std::uint64_t bytes,
                     std::uint64_t capacity = 0) {
    header.magic = wire::kBlockMagic;
    header.payload_bytes = std::max(bytes, capacity);
    std::uint64_t at = end;
    if (header.type == wire::BlockType::kEvents && !slots.empty()) {
      at = take_slot(header.events);
    } else {
      end = align_up(at + sizeof header + header.payload_bytes, wire::kBlockAlign);
    }
    if (Status status = write_at(at, &header, sizeof header); !status) return status;
    if (Status status = write_at(at + sizeof header, payload, bytes); !status) return status;
    // The file always ends at the end of a block, so that what is unwritten of it reads as zero.
    if (::ftruncate(fd, static_cast<off_t>(end)) != 0) return error("cannot extend");
    return Nothing{};
  }

  Status flush(std::uint32_t index, bool staged) {
    Stream& s = streams[index];
    if (s.words.empty()) return Nothing{};
    wire::BlockHeader header{};
    header.type = staged ? wire::BlockType::kStaging : wire::BlockType::kEvents;
    header.stream = index;
    header.thread = s.first_thread;
    header.sequence = s.sequence++;
    header.first_stamp = s.first_stamp;
    header.events = staged ? 0 : s.events;
    s.events = 0;
    header.staging_state = staged ? wire::StagingState::kActive : wire::StagingState::kFree;
    const std::uint64_t bytes = s.words.size() * 8;
    const std::uint64_t capacity = staged ? std::uint64_t{options.block_words} * 8 : 0;
    Status status = write_block(header, s.words.data(), bytes, capacity);
    s.words.clear();
    return status;
  }

  Status write_metadata() {
    std::vector<char> payload;
    const auto entry = [&](wire::MetadataKey key, const std::string& text) {
      if (text.empty()) return;
      const wire::MetadataEntry e{key, static_cast<std::uint32_t>(text.size())};
      const char* raw = reinterpret_cast<const char*>(&e);
      payload.insert(payload.end(), raw, raw + sizeof e);
      payload.insert(payload.end(), text.begin(), text.end());
      payload.resize(align_up(payload.size(), 8));
    };
    const TraceMetadata& m = options.metadata;
    std::string arguments;
    for (const std::string& argument : m.command_line) {
      arguments += argument;
      arguments += '\0';
    }
    entry(wire::MetadataKey::kExecutable, m.executable);
    entry(wire::MetadataKey::kCommandLine, arguments);
    entry(wire::MetadataKey::kWorkingDirectory, m.working_directory);
    entry(wire::MetadataKey::kPreload, m.preload);
    entry(wire::MetadataKey::kAllocatorPath, m.allocator_path);
    entry(wire::MetadataKey::kAllocatorBuildId, m.allocator_build_id);
    entry(wire::MetadataKey::kTracerVersion, m.tracer_version);
    entry(wire::MetadataKey::kOptions, m.options);
    entry(wire::MetadataKey::kHostKernel, m.host_kernel);
    if (payload.empty()) return Nothing{};
    wire::BlockHeader header{};
    header.type = wire::BlockType::kMetadata;
    return write_block(header, payload.data(), payload.size());
  }

  Status write_header(wire::TraceState trace_state) {
    std::array<char, wire::kTraceHeaderBytes> page{};
    wire::TraceHeader h{};
    std::memcpy(h.magic, wire::kTraceMagic, sizeof h.magic);
    h.version = wire::kTraceVersion;
    h.header_bytes = wire::kTraceHeaderBytes;
    h.features = options.features;
    if (notes) h.required_features = wire::kRequiresNotes;
    h.reset_stamp = options.reset_stamp;
    if (!slots.empty()) {
      h.features |= wire::kFeatureRing;
      h.ring_offset = wire::kTraceHeaderBytes;
      h.ring_bytes = slots.size() * wire::kRingSlotBytes;
    }
    h.ring_next = ring_next;
    h.overwritten_events = overwritten_events;
    h.overwritten_blocks = overwritten_blocks;
    h.pid = options.pid;
    h.parent_pid = options.parent_pid;
    h.image_id = options.pid;
    h.page_bytes = 4096;
    h.clock_kind = options.clock_kind;
    h.clock_shift = options.clock_shift;
    h.ticks_per_second = options.ticks_per_second;
    h.file_end = end;
    h.next_stream = static_cast<std::uint32_t>(streams.size());
    h.next_thread = next_thread;
    h.state = trace_state;
    h.last_ticks = last_stamp << options.clock_shift;
    const auto ns = static_cast<long double>(h.last_ticks) * 1e9L /
                    static_cast<long double>(std::max<std::uint64_t>(options.ticks_per_second, 1));
    h.last_monotonic_ns = ns < 1.8e19L ? static_cast<std::uint64_t>(ns) : 0;
    std::memcpy(page.data(), &h, sizeof h);
    return write_at(0, page.data(), page.size());
  }
};

TraceWriter::TraceWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
TraceWriter::TraceWriter(TraceWriter&&) noexcept = default;
TraceWriter::~TraceWriter() = default;

Result<TraceWriter> TraceWriter::create(const std::string& path, const Options& options) {
  auto state = std::make_unique<State>();
  state->path = path;
  state->options = options;
  state->options.block_words = std::max<std::uint32_t>(options.block_words, wire::kMaxWideWords);
  if (options.ring_bytes != 0) {
    state->slots.resize(std::max<std::uint64_t>(1, options.ring_bytes / wire::kRingSlotBytes));
    state->end += state->slots.size() * wire::kRingSlotBytes;
    state->options.block_words = std::min<std::uint32_t>(
        state->options.block_words, (wire::kRingSlotBytes - sizeof(wire::BlockHeader)) / 8);
  }
  state->fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (state->fd < 0) return state->error("cannot create");
  if (Status status = state->write_header(wire::TraceState::kRecording); !status) {
    return status.error();
  }
  if (Status status = state->write_metadata(); !status) return status.error();
  return TraceWriter(std::move(state));
}

Status TraceWriter::append(StreamIndex stream, const Event& original) {
  State& state = *state_;
  Event event = original;
  const bool resize = wire::op_class(event.op) == wire::OpClass::kResize;
  if (event.release_stamp == 0 || !(resize || wire::is_map_op(event.op))) {
    event.release_stamp = event.stamp;
  }
  const auto index = static_cast<std::uint32_t>(stream);
  if (index >= state.streams.size()) state.streams.resize(std::size_t{index} + 1);
  Stream& s = state.streams[index];
  const auto thread = static_cast<std::uint32_t>(event.thread);
  const bool late = event.path & wire::kPathLate;
  if (!s.started) {
    s.started = true;
    s.thread = thread;
  } else if (thread != s.thread && event.op != wire::Op::kThreadStart && !late) {
    return Error{ErrorCode::kCorrupt,
                 fmt::format("event of thread {} on a stream of thread {}, without a thread_start",
                             thread, s.thread),
                 state.path,
                 {},
                 "thread"};
  }
  state.next_thread = std::max(state.next_thread, thread + 1);
  state.last_stamp = std::max(state.last_stamp, event.stamp);

  const auto encode = [&] {
    Words words;
    if (!encode_compact(s, event, words)) encode_wide(s, event, words);
    return words;
  };
  const NoteWords notes = notes_of(event);
  if (notes.count != 0) state.notes = true;
  if (s.words.size() + notes.count + wire::kMaxWideWords > state.options.block_words) {
    if (Status status = state.flush(index, false); !status) return status;
  }
  if (s.words.empty()) {
    s.first_stamp = s.stamp = std::min(event.release_stamp, event.stamp);
    s.first_thread = s.thread;
    s.windows.fill(wire::kNoWindow);
    s.words.reserve(state.options.block_words);
  }
  s.words.insert(s.words.end(), notes.word.begin(), notes.word.begin() + notes.count);
  ++s.events;
  const Words words = encode();
  s.words.insert(s.words.end(), words.word.begin(), words.word.begin() + words.count);
  follow(s, event, words);
  return Nothing{};
}

Status TraceWriter::add_rss(const std::vector<wire::RssSample>& samples) {
  if (samples.empty()) return Nothing{};
  wire::BlockHeader header{};
  header.type = wire::BlockType::kRss;
  return state_->write_block(header, samples.data(), samples.size() * sizeof samples[0]);
}

Status TraceWriter::add_mark(const TraceMark& mark) {
  const wire::MarkEntry entry{mark.stamp, mark.tid, static_cast<std::uint32_t>(mark.text.size())};
  std::vector<char> payload(sizeof entry + mark.text.size());
  std::memcpy(payload.data(), &entry, sizeof entry);
  std::memcpy(payload.data() + sizeof entry, mark.text.data(), mark.text.size());
  wire::BlockHeader header{};
  header.type = wire::BlockType::kMark;
  header.first_stamp = mark.stamp;
  return state_->write_block(header, payload.data(), payload.size());
}

Status TraceWriter::finish() {
  for (std::uint32_t i = 0; i < state_->streams.size(); ++i) {
    if (Status status = state_->flush(i, state_->options.stage_tails); !status) return status;
  }
  return state_->write_header(wire::TraceState::kFinished);
}

}  // namespace alloctape::formats
