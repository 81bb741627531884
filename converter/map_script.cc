#include "converter/map_script.h"

#include <algorithm>
#include <utility>

namespace alloctape::converter {

using formats::Event;
using formats::Mapping;
using formats::Op;

// Mapping::user.a is the mapping's slot, 0 for one that is left out; user.b the place of the last
// op on it (packed).

MapScript::MapScript(std::uint64_t page_bytes, bool replay, Sequencer& sequencer,
                     SlotAllocator& slots, Around around)
    : replay_(replay),
      sequencer_(sequencer),
      slots_(slots),
      around_(std::move(around)),
      tracker_(page_bytes, *this) {}

void MapScript::on_map(const Event& event) {
  ++summary_.calls;
  if (event.op == wire::Op::kBrk || event.op == wire::Op::kSbrk) ++summary_.break_calls;
  if (replay_) tracker_.on_map(event);
}

void MapScript::on_map_detach(const Event& event) {
  if (replay_) tracker_.on_map_detach(event);
}

MapSummary MapScript::summary() const {
  MapSummary s = summary_;
  const formats::MapTotals& totals = tracker_.totals();
  s.failed_calls = totals.failed_calls;
  s.unseen_calls = totals.unseen_calls;
  s.cut_remaps = totals.cut_remaps;
  s.missed_unmaps = totals.missed_unmaps;
  return s;
}

void MapScript::grow(std::uint64_t bytes) {
  summary_.end_mapped_bytes += bytes;
  summary_.peak_mapped_bytes = std::max(summary_.peak_mapped_bytes, summary_.end_mapped_bytes);
}

std::uint32_t MapScript::append(const Event& event, Mapping& mapping, Op op) {
  const std::uint32_t lane = around_.begin(event);
  sequencer_.require(lane, Place::unpack(mapping.user.b));
  op.slot = mapping.user.a;
  mapping.user.b = Place{lane, sequencer_.append(lane, op)}.packed();
  ++summary_.ops;
  return lane;
}

void MapScript::on_mapped(const Event& event, Mapping& mapping, std::uint32_t prot) {
  if (!mapping.anonymous()) {
    ++summary_.other_mappings;
    return;
  }
  const std::uint32_t lane = around_.begin(event);
  mapping.user.a = slots_.acquire(lane);
  const std::uint32_t flags = (mapping.flags & wire::kReplayedMapFlags) | wire::kMapAnonymous;
  const Op op{.op = wire::Op::kMmap,
              .slot = mapping.user.a,
              .size = mapping.size,
              .value = wire::pack_prot_flags(prot, flags)};
  mapping.user.b = Place{lane, sequencer_.append(lane, op)}.packed();
  ++summary_.ops;
  ++summary_.mappings;
  grow(mapping.size);
  around_.end(lane, event);
}

void MapScript::on_unmapped(const Event& event, Mapping& mapping, std::uint64_t offset,
                            std::uint64_t length) {
  if (mapping.user.a == 0) return;
  const bool last = mapping.mapped == 0;
  const std::uint32_t lane =
      append(event, mapping,
             {.op = wire::Op::kMunmap,
              .flags = static_cast<std::uint8_t>(last ? wire::kOpFreesBlock : 0),
              .size = length,
              .offset = offset});
  if (last) slots_.release(lane, mapping.user.a);
  summary_.end_mapped_bytes -= length;
  around_.end(lane, event);
}

void MapScript::on_remapped(const Event& event, Mapping& mapping, std::uint64_t old_size) {
  if (mapping.user.a == 0 || (mapping.size == old_size && event.pointer == event.old_pointer))
    return;
  const std::uint32_t lane =
      append(event, mapping, {.op = wire::Op::kMremap, .size = mapping.size});
  summary_.end_mapped_bytes -= old_size;
  grow(mapping.size);
  around_.end(lane, event);
}

void MapScript::on_replaced(const Event& event, Mapping& mapping, std::uint64_t offset,
                            std::uint64_t length, std::uint32_t prot) {
  if (mapping.user.a == 0) return;
  const std::uint32_t flags =
      (wire::map_flags(event.value) & wire::kReplayedMapFlags) | wire::kMapAnonymous;
  const std::uint32_t lane = append(event, mapping,
                                    {.op = wire::Op::kMmap,
                                     .flags = wire::kOpInPlace,
                                     .size = length,
                                     .offset = offset,
                                     .value = wire::pack_prot_flags(prot, flags)});
  around_.end(lane, event);
}

void MapScript::on_advised(const Event& event, Mapping& mapping, std::uint64_t offset,
                           std::uint64_t length) {
  if (mapping.user.a == 0) return;
  if (!wire::is_replayed_advice(event.value)) {
    ++summary_.advice_left_out;
    return;
  }
  const std::uint32_t lane =
      append(event, mapping,
             {.op = wire::Op::kMadvise, .size = length, .offset = offset, .value = event.value});
  around_.end(lane, event);
}

}  // namespace alloctape::converter
