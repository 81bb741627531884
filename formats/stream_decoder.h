// From event words to events: one stream, block by block.
//
// The layout of the words is drawn in wire/event_word.h; docs/formats/trace.md says what they mean.
// Included by trace_file.h, which users include.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "formats/event.h"
#include "formats/result.h"

namespace alloctape::formats {

class TraceFile;
struct BlockRef;
struct BlockRange;
struct UnpackedBlock;

namespace detail {

// What a compact word of a kind carries, as masks, so that decoding it needs no branch.
struct CompactShape {
  wire::Op op = wire::Op::kNone;
  bool simple = false;  // one word with a pointer: everything but pairs, null, wide, empty
  std::uint16_t fields = 0;
  std::uint64_t size_mask = 0;   // the size field is the requested size
  std::uint64_t value_mask = 0;  // ... is the answer of malloc_usable_size
  std::uint64_t old_mask = 0;    // the pointer is the old pointer too
};

constexpr std::array<CompactShape, 16> make_compact_shapes() {
  std::array<CompactShape, 16> shapes{};
  const std::uint64_t all = ~std::uint64_t{0};
  const auto set = [&](wire::Kind kind, unsigned fields) {
    auto& s = shapes[static_cast<unsigned>(kind)];
    s.op = wire::compact_op(kind);
    s.simple = true;
    s.fields = static_cast<std::uint16_t>(fields | wire::kFieldPointer);
    s.size_mask = fields & wire::kFieldSize ? all : 0;
    s.value_mask = fields & wire::kFieldValue ? all : 0;
    s.old_mask = fields & wire::kFieldOldPointer ? all : 0;
  };
  set(wire::Kind::kMalloc, wire::kFieldSize);
  set(wire::Kind::kCalloc, wire::kFieldSize);
  set(wire::Kind::kFree, 0);
  set(wire::Kind::kReallocTo, wire::kFieldSize);  // alone: realloc(NULL, size)
  set(wire::Kind::kReallocSame, wire::kFieldSize | wire::kFieldOldPointer);
  set(wire::Kind::kUsableSize, wire::kFieldValue);
  set(wire::Kind::kNew, wire::kFieldSize);
  set(wire::Kind::kNewArray, wire::kFieldSize);
  set(wire::Kind::kDelete, 0);
  set(wire::Kind::kDeleteArray, 0);
  set(wire::Kind::kDeleteSized, wire::kFieldSize);
  set(wire::Kind::kDeleteArraySized, wire::kFieldSize);
  return shapes;
}
inline constexpr std::array<CompactShape, 16> kCompactShapes = make_compact_shapes();

// Each word is loaded once: the file may be changing under a reader of a live trace, and what was
// checked must be what is used.
inline std::uint64_t load_word(const std::uint64_t* word) {
  return __atomic_load_n(word, __ATOMIC_RELAXED);
}

}  // namespace detail

// Decodes one stream, block by block. next() returns false at the end of the stream or at a corrupt
// word; error() tells them apart. Corruption ends the block, not the stream: skip_block() goes on
// with the next one. A record cut by the end of the file ends its block without an error. Events
// from before a reset (TraceHeader::reset_stamp) are not delivered.
class StreamDecoder {
 public:
  // REQUIRES: stream < file.streams().size()
  StreamDecoder(const TraceFile& file, StreamIndex stream);
  // Passes over blocks that are known to have nothing of `range`.
  StreamDecoder(const TraceFile& file, StreamIndex stream, const BlockRange& range);

  bool next(Event& event) {
    if (cursor_ != end_) [[likely]] {
      const std::uint64_t word = detail::load_word(cursor_);
      const detail::CompactShape& shape = detail::kCompactShapes[word & 15];
      const std::uint64_t tag = windows_[wire::compact_window(word)];
      if (shape.simple && tag != wire::kNoWindow) [[likely]] {
        decode_compact(event, word, shape, tag);
        return true;
      }
    }
    return next_slow(event);
  }

  const Error* error() const { return error_ ? &*error_ : nullptr; }  // nullptr: no error
  bool skip_block();                                                  // false: no more blocks
  // Packed blocks that were unpacked so far.
  std::uint64_t blocks_unpacked() const { return blocks_unpacked_; }
  // Words behind the cursor, skipped ones included; of the sum over the stream's blocks.
  std::uint64_t words_done() const {
    return words_before_ + static_cast<std::uint64_t>(cursor_ - begin_);
  }

 private:
  static std::uint64_t compact_pointer(std::uint64_t word, std::uint64_t tag) {
    return (tag >> 1) << wire::kWindowShift | wire::compact_offset(word);
  }
  std::uint64_t file_offset(const std::uint64_t* word) const {
    return words_offset_ + (static_cast<std::uint64_t>(word - begin_) * 8 & offset_mask_);
  }
  // What the notes ahead of the next event said.
  struct Notes {
    std::uint8_t bits = 0;
    std::uint64_t usable = 0, old_usable = 0, duration_ticks = 0;
  };

  // REQUIRES: shape.simple, and that tag is a window.
  [[gnu::always_inline]] void decode_compact(Event& event, std::uint64_t word,
                                             const detail::CompactShape& shape, std::uint64_t tag) {
    stamp_ += wire::compact_time(word);
    const std::uint64_t pointer = compact_pointer(word, tag);
    const std::uint64_t size = wire::decode_size(wire::compact_size(word));
    event.op = shape.op;
    event.path = static_cast<std::uint16_t>(tag & 1 ? wire::kPathOtherArena : 0);
    event.fields = shape.fields;
    event.notes = 0;
    event.thread = ThreadIndex{thread_};
    event.stamp = stamp_;
    event.release_stamp = stamp_;
    event.pointer = pointer;
    event.old_pointer = pointer & shape.old_mask;
    event.size = size & shape.size_mask;
    event.count = 0;
    event.alignment = 0;
    event.value = size & shape.value_mask;
    event.offset = file_offset(cursor_);
    ++cursor_;
  }
  bool next_slow(Event& event);
  bool next_in_block(Event& event);  // false: the block is through, or corrupt
  void fast_forward();
  void take_note(std::uint64_t word);
  bool deliver(Event& event);
  bool decode_wide(Event& event, std::uint64_t word, bool& known);
  bool decode_pair(Event& event, std::uint64_t word);
  bool decode_null(Event& event, std::uint64_t word);
  void enter_block();
  void enter_packed();
  void enter_part();
  void leave_block();
  void pass_over();
  bool fail(const char* message, const char* field);
  bool cut_by_end_of_file() const;

  const std::uint64_t* begin_ = nullptr;  // of the current block's words
  const std::uint64_t* cursor_ = nullptr;
  const std::uint64_t* end_ = nullptr;
  std::uint64_t stamp_ = 0;
  std::uint32_t thread_ = 0;
  std::array<std::uint64_t, wire::kWindows> windows_;
  Notes notes_;
  std::uint64_t reset_stamp_ = 0;                  // events before it do not exist
  std::uint64_t words_offset_ = 0;                 // byte offset of *begin_ in the file
  std::uint64_t offset_mask_ = ~std::uint64_t{0};  // 0: packed words all count as at their block's
  std::uint64_t words_before_ = 0;
  const BlockRef* block_ = nullptr;  // current; == blocks_end_ when the stream has ended
  const BlockRef* blocks_end_ = nullptr;
  // Of the packed block that is being read: its words, and the part that the cursor is in.
  std::shared_ptr<UnpackedBlock> unpacked_;
  std::size_t part_ = 0;
  std::uint64_t blocks_unpacked_ = 0;
  std::unique_ptr<const BlockRange> range_;  // nullptr: everything is wanted
  std::optional<Error> error_;
  std::uint64_t file_bytes_ = 0;
  std::shared_ptr<const TraceFile> file_;  // keeps the mapping alive
};

}  // namespace alloctape::formats
