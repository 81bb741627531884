#include "formats/stream_decoder.h"

#include <algorithm>
#include <bit>

#include "formats/trace_file.h"

namespace alloctape::formats {

namespace {

constexpr unsigned kKnownFields = (1u << wire::kFieldCountKnown) - 1;
// A wide record with one of these never enters its pointer into the window table: such pointers lie
// where few others do, or are no pointers of this thread's.
constexpr unsigned kNoWindowPaths =
    wire::kPathMapped | wire::kPathFailed | wire::kPathBootstrap | wire::kPathLate;

// Opcodes from here on steer replays; in a trace they are as unknown as unassigned ones.
constexpr unsigned kTraceOpLimit = 112;

bool known_in_traces(unsigned opcode) {
  return opcode < kTraceOpLimit &&
         wire::op_class(static_cast<wire::Op>(opcode)) != wire::OpClass::kInvalid;
}

std::uint64_t saturating_product(std::uint64_t a, std::uint64_t b) {
  std::uint64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? ~std::uint64_t{0} : product;
}

}  // namespace

StreamDecoder::StreamDecoder(const TraceFile& file, StreamIndex stream)
    : StreamDecoder(file, stream, BlockRange{}) {}

StreamDecoder::StreamDecoder(const TraceFile& file, StreamIndex stream, const BlockRange& range)
    : range_(std::make_unique<const BlockRange>(range)),
      file_bytes_(file.file_bytes()),
      file_(std::make_shared<const TraceFile>(file)) {
  windows_.fill(wire::kNoWindow);
  reset_stamp_ = file.header().reset_stamp;
  const auto& blocks = file.streams().at(static_cast<std::uint32_t>(stream));
  block_ = blocks.data();
  blocks_end_ = blocks.data() + blocks.size();
  pass_over();
  enter_block();
}

void StreamDecoder::pass_over() {
  for (; block_ != blocks_end_ && !range_->may_be_in(*block_); ++block_) {
    words_before_ += block_->words;
  }
}

// Every block can be decoded by itself: nothing carries over from the one before.
void StreamDecoder::enter_block() {
  if (block_ == blocks_end_) {
    begin_ = cursor_ = end_ = nullptr;
    return;
  }
  if (block_->packed()) return enter_packed();
  begin_ = cursor_ = block_->data;
  end_ = begin_ + block_->words;
  words_offset_ = block_->offset + sizeof(wire::BlockHeader);
  offset_mask_ = ~std::uint64_t{0};
  stamp_ = block_->first_stamp;
  thread_ = block_->thread;
  windows_.fill(wire::kNoWindow);
  notes_ = {};
  if (stamp_ < reset_stamp_) fast_forward();
}

void StreamDecoder::enter_packed() {
  if (!unpacked_) unpacked_ = std::make_shared<UnpackedBlock>();
  ++blocks_unpacked_;
  words_offset_ = block_->offset;
  offset_mask_ = 0;
  part_ = 0;
  if (const Status status = file_->unpack(*block_, *unpacked_); !status) {
    error_ = status.error();
    begin_ = cursor_ = end_ = nullptr;
    part_ = unpacked_->parts.size();
    return;
  }
  begin_ = unpacked_->words.data();
  enter_part();
}

// The next of the blocks that were packed; they lie one behind the other.
void StreamDecoder::enter_part() {
  const wire::PackedPart& part = unpacked_->parts[part_];
  cursor_ = begin_;
  end_ = begin_ + part.words;
  stamp_ = part.first_stamp;
  thread_ = part.thread;
  windows_.fill(wire::kNoWindow);
  notes_ = {};
  if (stamp_ < reset_stamp_) fast_forward();
}

void StreamDecoder::leave_block() {
  if (block_->packed() && part_ < unpacked_->parts.size()) {
    const std::uint32_t words = unpacked_->parts[part_].words;
    words_before_ += words;
    if (++part_ != unpacked_->parts.size()) {
      begin_ += words;
      return enter_part();
    }
  } else {
    words_before_ += block_->words;
  }
  file_->release_pages(*block_);
  ++block_;
  pass_over();
  enter_block();
}

bool StreamDecoder::skip_block() {
  error_.reset();
  if (block_ == blocks_end_) return false;
  leave_block();
  return block_ != blocks_end_;
}

bool StreamDecoder::fail(const char* message, const char* field) {
  error_ = Error{ErrorCode::kCorrupt, message, file_->path(), file_offset(cursor_), field};
  return false;
}

// The truncation rule: what the end of the file cut off is no corruption.
bool StreamDecoder::cut_by_end_of_file() const {
  return !block_->packed() &&
         block_->offset + sizeof(wire::BlockHeader) + 8 * (std::uint64_t{block_->words} + 1) >
             file_bytes_;
}

bool StreamDecoder::next_slow(Event& event) {
  if (error_) return false;
  for (;;) {
    if (next_in_block(event)) return true;
    if (error_) return false;
    while (cursor_ == end_) {
      if (block_ == blocks_end_) return false;
      leave_block();
      if (error_) return false;
    }
  }
}

bool StreamDecoder::next_in_block(Event& event) {
  while (cursor_ != end_) {
    const std::uint64_t word = detail::load_word(cursor_);
    switch (wire::word_kind(word)) {
      case wire::Kind::kWide: {
        bool known = false;
        if (!decode_wide(event, word, known)) return false;  // corrupt, or cut by the file's end
        if (known) return deliver(event);
        notes_ = {};  // they were about an event that this reader does not know
        continue;
      }
      case wire::Kind::kReallocFrom:
        return decode_pair(event, word) && deliver(event);
      case wire::Kind::kNull:
        if (const std::uint64_t code = wire::compact_size(word);
            code != 0 && code < wire::kNoteFirst) {
          return decode_null(event, word) && deliver(event);
        }
        take_note(word);
        continue;
      case wire::Kind::kEmpty:
        return fail("an empty word among the events of a block", "kind");
      default: {
        const std::uint64_t tag = windows_[wire::compact_window(word)];
        if (tag == wire::kNoWindow) {
          return fail("a compact word uses a window that no wide record has set", "window");
        }
        decode_compact(event, word, detail::kCompactShapes[word & 15], tag);
        return deliver(event);
      }
    }
  }
  return false;
}

void StreamDecoder::take_note(std::uint64_t word) {
  ++cursor_;
  const std::uint64_t value = wire::note_value(word);
  switch (static_cast<wire::Note>(wire::compact_size(word))) {
    case wire::Note::kTime:
      stamp_ += value;
      break;
    case wire::Note::kUsable:
      notes_.bits |= kNoteUsable;
      notes_.usable = value;
      break;
    case wire::Note::kOldUsable:
      notes_.bits |= kNoteOldUsable;
      notes_.old_usable = value;
      break;
    case wire::Note::kDuration:
      notes_.bits |= kNoteDuration;
      notes_.duration_ticks = value;
      break;
    default:
      break;  // of a later version
  }
}

// Gives the event the notes that stood before it. They are at hand only here: an event that the
// fast path decodes by itself had none.
bool StreamDecoder::deliver(Event& event) {
  if (notes_.bits == 0) return true;
  event.notes = notes_.bits;
  event.usable = notes_.usable;
  event.old_usable = notes_.old_usable;
  event.duration_ticks = notes_.duration_ticks;
  notes_ = {};
  return true;
}

// The block began before the reset: passes over its events up to there. What they leave behind,
// windows and the thread, still counts.
void StreamDecoder::fast_forward() {
  Event event;
  for (;;) {
    const auto* cursor = cursor_;
    const std::uint64_t stamp = stamp_;
    const std::uint32_t thread = thread_;
    const auto windows = windows_;
    notes_ = {};
    if (!next_in_block(event)) return;
    if (event.stamp < reset_stamp_) continue;
    cursor_ = cursor;
    stamp_ = stamp;
    thread_ = thread;
    windows_ = windows;
    return;
  }
}

bool StreamDecoder::decode_null(Event& event, std::uint64_t word) {
  const std::uint64_t opcode = wire::compact_size(word);
  if (opcode >= wire::kApiOpLimit || !wire::is_api_op(static_cast<wire::Op>(opcode))) {
    return fail("a NULL call of an unknown function", "size");
  }
  stamp_ += wire::compact_time(word);
  event = Event{};
  event.op = static_cast<wire::Op>(opcode);
  event.fields = wire::kFieldPointer;
  event.thread = ThreadIndex{thread_};
  event.stamp = event.release_stamp = stamp_;
  event.offset = file_offset(cursor_);
  ++cursor_;
  return true;
}

// A realloc that moved: kReallocFrom, then kReallocTo.
bool StreamDecoder::decode_pair(Event& event, std::uint64_t word) {
  if (end_ - cursor_ < 2) {
    if (!cut_by_end_of_file()) return fail("a realloc without its second half", "kind");
    cursor_ = end_;
    return false;
  }
  const std::uint64_t second = detail::load_word(cursor_ + 1);
  if (wire::word_kind(second) != wire::Kind::kReallocTo) {
    return fail("a realloc without its second half", "kind");
  }
  const std::uint64_t old_tag = windows_[wire::compact_window(word)];
  const std::uint64_t new_tag = windows_[wire::compact_window(second)];
  if (old_tag == wire::kNoWindow || new_tag == wire::kNoWindow) {
    return fail("a compact word uses a window that no wide record has set", "window");
  }
  event = Event{};
  event.op = wire::Op::kRealloc;
  event.fields =
      wire::kFieldPointer | wire::kFieldOldPointer | wire::kFieldSize | wire::kFieldReleaseStamp;
  event.thread = ThreadIndex{thread_};
  event.old_pointer = compact_pointer(word, old_tag);
  event.pointer = compact_pointer(second, new_tag);
  event.size = wire::decode_size(wire::compact_size(second));
  event.release_stamp = stamp_ + wire::compact_time(word);
  event.stamp = stamp_ = event.release_stamp + wire::compact_time(second);
  event.release_stamp =
      std::min(event.release_stamp, event.stamp);  // a hostile file: wrapped around
  event.path =
      static_cast<std::uint16_t>((new_tag & 1 ? wire::kPathOtherArena : 0) |
                                 (event.old_pointer != event.pointer ? wire::kPathMoved : 0));
  event.offset = file_offset(cursor_);
  cursor_ += 2;
  return true;
}

bool StreamDecoder::decode_wide(Event& event, std::uint64_t word, bool& known) {
  const unsigned words = wire::wide_words(word);
  const unsigned fields = wire::wide_fields(word);
  const unsigned path = wire::wide_path(word);
  if (words == 0) return fail("a wide record of no words", "words");
  if (static_cast<std::uint64_t>(end_ - cursor_) < words) {
    if (!cut_by_end_of_file()) return fail("a wide record runs past the end of its block", "words");
    cursor_ = end_;
    return false;
  }
  if (1u + static_cast<unsigned>(std::popcount(fields & kKnownFields)) > words) {
    return fail("a wide record has more fields than words", "field mask");
  }

  event = Event{};
  event.offset = file_offset(cursor_);
  const std::uint64_t* at = cursor_ + 1;
  const auto take = [&](wire::Field field, std::uint64_t absent) {
    return fields & field ? detail::load_word(at++) : absent;
  };
  // In the order of their bits.
  stamp_ = take(wire::kFieldStamp, stamp_ + wire::wide_time(word));
  event.stamp = stamp_;
  event.release_stamp = std::min(take(wire::kFieldReleaseStamp, stamp_), stamp_);
  event.pointer = take(wire::kFieldPointer, 0);
  event.old_pointer = take(wire::kFieldOldPointer, 0);
  event.size = take(wire::kFieldSize, 0);
  event.count = take(wire::kFieldCount, 0);
  event.alignment = take(wire::kFieldAlignment, 0);
  const std::uint64_t thread = take(wire::kFieldThread, thread_);
  event.value = take(wire::kFieldTid, 0);
  event.value = take(wire::kFieldValue, event.value);

  // Time and windows follow every record, whatever its opcode: an encoder does not ask whether a
  // reader will know the opcode.
  if (event.pointer != 0 && !(path & kNoWindowPaths)) {
    windows_[wire::window_slot(event.pointer)] =
        wire::window_tag(event.pointer, path & wire::kPathOtherArena);
  }
  cursor_ += words;

  const unsigned opcode = wire::wide_op(word);
  known = known_in_traces(opcode);
  if (!known) return true;
  event.op = static_cast<wire::Op>(opcode);
  event.thread = ThreadIndex{static_cast<std::uint32_t>(thread)};
  if (event.op == wire::Op::kThreadStart && !(path & wire::kPathLate)) {
    thread_ = static_cast<std::uint32_t>(thread);
  }
  event.fields = static_cast<std::uint16_t>(fields & kKnownFields);
  event.path = static_cast<std::uint16_t>(path & ~unsigned{wire::kPathMoved});
  const wire::OpClass op_class = wire::op_class(event.op);
  if ((fields & wire::kFieldCount) && op_class != wire::OpClass::kMap) {
    event.value = event.size;
    event.size = saturating_product(event.size, event.count);
  }
  if (op_class == wire::OpClass::kResize) {
    if (event.old_pointer != 0 && event.pointer != 0 && event.old_pointer != event.pointer) {
      event.path |= wire::kPathMoved;
    }
  } else if (op_class != wire::OpClass::kMap) {
    event.release_stamp = event.stamp;
  }
  return true;
}

}  // namespace alloctape::formats
