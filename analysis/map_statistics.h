// What `stat` tells of the program's own mappings.
#pragma once

#include <array>
#include <cstdint>
#include <map>

#include "formats/map_tracker.h"
#include "formats/workload_file.h"

namespace alloctape::analysis {

struct MapFigures {
  bool recorded = false;  // a trace that has them, or a workload with such ops
  std::array<std::uint64_t, wire::kMapOpLimit> calls{}, failed{};  // by opcode
  formats::MapTotals totals;
  struct Advice {
    std::uint64_t calls = 0;
    std::uint64_t bytes = 0;  // of mappings that are known
  };
  std::map<std::uint64_t, Advice> advice;
  bool from_workload = false;
  std::uint64_t peak_bytes = 0, end_bytes = 0;  // a workload's

  std::uint64_t all_calls() const;
};

class MapStatistics final : public formats::MapVisitor {
 public:
  MapStatistics(std::uint64_t page_bytes, bool recorded);
  // The callbacks of a HeapVisitor.
  void on_map(const formats::Event& event);
  void on_map_detach(const formats::Event& event) { tracker_.on_map_detach(event); }
  MapFigures figures() const;

  void on_advised(const formats::Event& event, formats::Mapping& mapping, std::uint64_t offset,
                  std::uint64_t length) override;

 private:
  formats::MapTracker tracker_;
  MapFigures figures_;
};

MapFigures map_figures(const formats::WorkloadFile& file);

}  // namespace alloctape::analysis
