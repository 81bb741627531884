// The program's own mappings as ops: what the tracker says each call did to each mapping, in the
// lane of the thread that called, behind the last op on that mapping in any other lane.
//
// Replayed is anonymous memory. What stands on files or devices is counted and left out; so are
// moves of the program break, which the candidate's malloc may want for itself, failed calls, and
// calls on mappings that the trace did not see made.
#pragma once

#include <cstdint>
#include <functional>

#include "converter/sequencer.h"
#include "converter/slot_allocator.h"
#include "formats/map_tracker.h"

namespace alloctape::converter {

struct MapSummary {
  std::uint64_t calls = 0;           // of mmap's family, in the trace
  std::uint64_t ops = 0;             // made of them
  std::uint64_t mappings = 0;        // replayed
  std::uint64_t other_mappings = 0;  // of files and devices: left out
  std::uint64_t break_calls = 0, failed_calls = 0, unseen_calls = 0, advice_left_out = 0;
  std::uint64_t cut_remaps = 0;  // mremap of a part: became munmap and mmap
  std::uint64_t missed_unmaps = 0;
  std::uint64_t peak_mapped_bytes = 0, end_mapped_bytes = 0;
};

class MapScript final : public formats::MapVisitor {
 public:
  // `begin` does what comes before an op, and returns its lane; `end` what comes after it.
  struct Around {
    std::function<std::uint32_t(const formats::Event&)> begin;
    std::function<void(std::uint32_t, const formats::Event&)> end;
  };
  MapScript(std::uint64_t page_bytes, bool replay, Sequencer& sequencer, SlotAllocator& slots,
            Around around);

  // The callbacks of a HeapVisitor.
  void on_map(const formats::Event& event);
  void on_map_detach(const formats::Event& event);
  MapSummary summary() const;

  void on_mapped(const formats::Event&, formats::Mapping&, std::uint32_t prot) override;
  void on_unmapped(const formats::Event&, formats::Mapping&, std::uint64_t offset,
                   std::uint64_t length) override;
  void on_remapped(const formats::Event&, formats::Mapping&, std::uint64_t old_size) override;
  void on_replaced(const formats::Event&, formats::Mapping&, std::uint64_t offset,
                   std::uint64_t length, std::uint32_t prot) override;
  void on_advised(const formats::Event&, formats::Mapping&, std::uint64_t offset,
                  std::uint64_t length) override;

 private:
  // An op on a mapping that has a slot; returns its lane.
  std::uint32_t append(const formats::Event&, formats::Mapping&, formats::Op op);
  void grow(std::uint64_t bytes);

  const bool replay_;
  Sequencer& sequencer_;
  SlotAllocator& slots_;
  const Around around_;
  formats::MapTracker tracker_;
  MapSummary summary_;
};

}  // namespace alloctape::converter
