// Decoding op words of a workload, one op at a time, with bounds checks. Specification:
// docs/formats/workload.md, section "Ops".
//
// Header-only, no allocation. Whether the op makes sense (slot in range, block live) is not decided
// here: WorkloadFile::validate does that.
#pragma once

#include <cstdint>

#include "formats/wire/workload_layout.h"

namespace alloctape::formats {

struct OpView {
  wire::Op op = wire::Op::kNone;
  std::uint8_t flags = 0;  // wire::OpFlag
  bool publish = false;
  bool wide = false;
  std::uint32_t words = 0;      // 0: not decodable (see decode)
  std::uint64_t slot = 0;       // 0 = NULL. wait: the other lane
  std::uint64_t size = 0;       // wait: the position; spawn: the lane; time: ns
  std::uint64_t alignment = 0;  // 0 where the op takes none
  std::uint64_t count = 0;      // 0 where it was not kept; else size is the element size
  std::uint64_t offset = 0;     // mmap's family: of the part, from the mapping's beginning
  std::uint64_t value = 0;      // mmap: prot | flags << 32; madvise: the advice

  explicit operator bool() const { return words != 0; }
  // The block's requested bytes after the op; calloc and reallocarray with a count saturate.
  std::uint64_t requested_bytes() const {
    if (count == 0) return size;
    return size > ~std::uint64_t{0} / count ? ~std::uint64_t{0} : size * count;
  }
};

// The op at p. `words` is 0 when p == end, when the op reaches beyond end, or when its word count
// is 0. An unknown opcode is decoded like any other: its length is known.
inline OpView decode(const std::uint64_t* p, const std::uint64_t* end) {
  OpView view;
  if (p >= end) return view;
  const std::uint64_t word = *p;
  view.op = wire::op_of(word);
  view.publish = (word & wire::kPublishBit) != 0;
  view.wide = wire::is_wide(word);
  view.slot = wire::op_slot(word);
  if (!view.wide) {
    view.size = wire::narrow_size(word);
    view.words = 1;
    return view;
  }
  view.flags = static_cast<std::uint8_t>(wire::op_flags(word));
  const unsigned words = wire::op_words(word);
  if (words > static_cast<std::uint64_t>(end - p)) return view;
  view.words = words;
  if (words >= 2) view.size = p[1];
  if (wire::is_map_op(view.op)) {
    if (words >= 3) view.offset = p[2];
    if (words >= 4) view.value = p[3];
    return view;
  }
  if (words >= 3) {
    const wire::OpTraits& traits = wire::traits(view.op);
    if (traits.takes_alignment) view.alignment = p[2];
    if (traits.takes_count) view.count = p[2];
  }
  return view;
}

}  // namespace alloctape::formats
