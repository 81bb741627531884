#include "analysis/map_statistics.h"

namespace alloctape::analysis {

std::uint64_t MapFigures::all_calls() const {
  std::uint64_t all = 0;
  for (const std::uint64_t n : calls) all += n;
  return all;
}

MapStatistics::MapStatistics(std::uint64_t page_bytes, bool recorded)
    : tracker_(page_bytes, *this) {
  figures_.recorded = recorded;
}

void MapStatistics::on_map(const formats::Event& event) {
  figures_.recorded = true;
  ++figures_.calls[static_cast<std::size_t>(event.op)];
  if (event.failed()) {
    ++figures_.failed[static_cast<std::size_t>(event.op)];
  } else if (event.op == wire::Op::kMadvise) {
    ++figures_.advice[event.value].calls;
  }
  tracker_.on_map(event);
}

void MapStatistics::on_advised(const formats::Event& event, formats::Mapping& /*mapping*/,
                               std::uint64_t /*offset*/, std::uint64_t length) {
  figures_.advice[event.value].bytes += length;
}

MapFigures MapStatistics::figures() const {
  MapFigures figures = figures_;
  figures.totals = tracker_.totals();
  return figures;
}

MapFigures map_figures(const formats::WorkloadFile& file) {
  const wire::WorkloadHeader& header = file.header();
  MapFigures f;
  f.from_workload = true;
  for (std::size_t i = wire::kMapOpFirst; i < f.calls.size(); ++i) {
    f.calls[i] = header.ops_by_kind[i];
  }
  f.recorded = f.all_calls() != 0;
  f.peak_bytes = header.peak_mapped_bytes;
  f.end_bytes = header.end_mapped_bytes;
  return f;
}

}  // namespace alloctape::analysis
