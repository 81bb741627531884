// What both sides of the packing guess pointers from: the allocator seen from outside, as caches of
// released blocks by size class (last in, first out: glibc's tcache and fast bins, and the thread
// caches of the others) and a place where fresh blocks are cut from. A guess that is wrong costs
// bytes, never correctness. Internal to formats/.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "formats/wire/event_word.h"
#include "formats/wire/packed_layout.h"

namespace alloctape::formats::detail {

// A pointer as a compact word has it: window slot above the offset, 30 bits.
constexpr std::uint32_t pointer_key(std::uint64_t compact_word) {
  return static_cast<std::uint32_t>(compact_word >> wire::kOffsetAt |
                                    wire::compact_window(compact_word) << wire::kOffsetBits);
}
constexpr std::uint64_t key_bits(std::uint32_t key) {
  const std::uint64_t offset = key & ((1u << wire::kOffsetBits) - 1);
  return offset << wire::kOffsetAt | static_cast<std::uint64_t>(key >> wire::kOffsetBits)
                                         << wire::kWindowAt;
}

// Size classes of glibc's up to 1 KiB, eight to a doubling above. `size` is a size field.
constexpr unsigned size_class(std::uint32_t size) {
  constexpr std::uint32_t kFine = 1024;
  if (size < kFine) return (size + 23) >> 4;  // 1 .. 65
  const unsigned log = 31 - static_cast<unsigned>(std::countl_zero(size));
  return 66 + (log - 10) * 8 + (size >> (log - 3) & 7);
}
inline constexpr unsigned kSizeClasses = 66 + 6 * 8;
static_assert(size_class(1023) == 65 && size_class(1024) == 66);
static_assert(size_class(0xffff) == kSizeClasses - 1);

// Bytes / 8 from one block to the next where blocks are cut one behind the other.
constexpr std::uint32_t block_stride(std::uint32_t size) {
  const std::uint64_t bytes = (wire::decode_size(size) + 8 + 15) & ~std::uint64_t{15};
  return static_cast<std::uint32_t>((bytes < 32 ? 32 : bytes) >> wire::kOffsetShift);
}

class PackModel {
 public:
  void reset() { *this = PackModel{}; }

  // A block of this class was released.
  void release(unsigned size_class, std::uint32_t key) {
    Recent& r = recent_[size_class];
    if (r.height == kRoom) {
      std::memcpy(r.keys, r.keys + (kRoom - kKept), kKept * sizeof r.keys[0]);
      r.height = kKept;
    }
    r.keys[r.height++] = key;
  }

  // How many blocks were released after `key`, of those that are remembered; kRecentBlocks: it is
  // not among them.
  unsigned find(unsigned size_class, std::uint32_t key) const {
    const Recent& r = recent_[size_class];
    const std::uint32_t* top = r.keys + r.height;
    if (top[-1] == key) return 0;
    unsigned hits = 1u << wire::kRecentBlocks;
    for (unsigned i = 1; i < wire::kRecentBlocks; ++i)
      hits |= unsigned{top[-1 - int(i)] == key} << i;
    return static_cast<unsigned>(std::countr_zero(hits));
  }

  // Takes that block out. REQUIRES: depth < kRecentBlocks
  std::uint32_t take(unsigned size_class, unsigned depth) {
    Recent& r = recent_[size_class];
    std::uint32_t* at = r.keys + r.height - 1 - depth;
    const std::uint32_t key = *at;
    for (; depth > 0; --depth, ++at) at[0] = at[1];
    if (r.height > wire::kRecentBlocks) --r.height;
    return key;
  }

  std::uint32_t next_fresh = 0;      // where a block would begin that is cut from fresh memory
  std::uint32_t last_unguessed = 0;  // base of the differences of pointers that were not guessed
  std::uint32_t last_release = 0;    // number of the acquire whose block was released last
  std::array<std::uint64_t, 17> last_field{};  // by bit of the field mask; 16: words behind those

 private:
  static constexpr unsigned kRoom = 32, kKept = 16;
  // The lowest kRecentBlocks keys are there so that find() may look below an empty stack.
  struct Recent {
    std::uint32_t height = wire::kRecentBlocks;
    std::uint32_t keys[kRoom] = {};
  };
  std::array<Recent, kSizeClasses> recent_{};
};

// A wide record that acquired a block which compact words can name: what to remember of it. Looks
// at the whole record. `known` is false where there is nothing.
struct WideBlock {
  bool known = false;
  std::uint32_t key = 0, size = 0;
};
inline WideBlock wide_block(const std::uint64_t* record, unsigned words) {
  const std::uint64_t head = record[0];
  const unsigned fields = wire::wide_fields(head);
  const wire::OpClass op_class = wire::op_class(static_cast<wire::Op>(wire::wide_op(head)));
  if (!(fields & wire::kFieldPointer) ||
      (op_class != wire::OpClass::kAcquire && op_class != wire::OpClass::kResize))
    return {};
  const auto field = [&](wire::Field f) -> std::uint64_t {
    const unsigned at = 1 + static_cast<unsigned>(std::popcount(fields & (f - 1u)));
    return fields & f && at < words ? record[at] : 0;
  };
  const std::uint64_t pointer = field(wire::kFieldPointer);
  if (pointer == 0 || pointer % 8 != 0) return {};
  const std::uint64_t size = field(wire::kFieldSize);
  WideBlock block;
  block.known = true;
  block.key = pointer_key(
      wire::compact_word(wire::Kind::kEmpty, 0, 0, wire::window_slot(pointer), pointer));
  block.size =
      wire::size_has_code(size) ? static_cast<std::uint32_t>(wire::encode_size(size)) : 0xffff;
  return block;
}

}  // namespace alloctape::formats::detail
