#include "analysis/explained_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "cli/units.h"
#include "formats/heap_walk.h"
#include "formats/map_tracker.h"

namespace alloctape::analysis {
namespace {

struct RssGrowth {
  std::uint64_t bytes = 0;
  // Events up to here may be part of the largest sample: the next one had not been taken yet.
  std::uint64_t last_stamp = std::numeric_limits<std::uint64_t>::max();
};

RssGrowth growth_of(const formats::TraceFile& file) {
  const std::vector<wire::RssSample>& samples = file.rss();
  if (samples.empty()) return {};
  const auto largest = std::max_element(samples.begin(), samples.end(),
                                        [](const wire::RssSample& a, const wire::RssSample& b) {
                                          return a.anon_bytes < b.anon_bytes;
                                        });
  RssGrowth growth;
  growth.bytes = largest->anon_bytes - samples.front().anon_bytes;
  if (largest + 1 != samples.end()) {
    growth.last_stamp = (largest + 1)->ticks >> file.header().clock_shift;
  }
  return growth;
}

class PeakFinder : public formats::HeapVisitor, public formats::MapVisitor {
 public:
  PeakFinder(const formats::TraceFile& file, const formats::HeapWalk& walk,
             std::uint64_t last_stamp)
      : walk_(walk), last_stamp_(last_stamp), maps_(file.header().page_bytes, *this) {}

  void on_acquire(const formats::Event& event, formats::Block&) override { look(event); }
  void on_resize(const formats::Event& event, formats::Block&, std::uint64_t) override {
    look(event);
  }
  void on_unseen(const formats::Event& event, formats::Block*) override { look(event); }
  void on_map(const formats::Event& event) override {
    maps_.on_map(event);
    const formats::MapTotals& totals = maps_.totals();
    mapped_bytes_ = totals.of(formats::MapKind::kAnonymous).now +
                    static_cast<std::uint64_t>(std::max<std::int64_t>(totals.break_now, 0));
    look(event);
  }
  void on_map_detach(const formats::Event& event) override { maps_.on_map_detach(event); }
  void on_meta(const formats::Event& event) override {
    paused_ = paused_ || event.op == wire::Op::kPause || event.op == wire::Op::kResume;
  }

  bool paused() const { return paused_; }
  const ExplainedMemory& peak() const { return peak_; }

 private:
  void look(const formats::Event& event) {
    const formats::LiveCounts& live = walk_.live();
    if (event.stamp > last_stamp_) return;
    if (live.bytes + mapped_bytes_ <= peak_.live_bytes + peak_.mapped_bytes) return;
    peak_.live_bytes = live.bytes;
    peak_.live_blocks = live.blocks;
    peak_.mapped_bytes = mapped_bytes_;
  }

  const formats::HeapWalk& walk_;
  const std::uint64_t last_stamp_;
  formats::MapTracker maps_;
  std::uint64_t mapped_bytes_ = 0;
  ExplainedMemory peak_;
  bool paused_ = false;
};

}  // namespace

const char* why_not_comparable(const formats::TraceFile& file) {
  const wire::TraceHeader& header = file.header();
  if (file.rss().size() < 2) return "no_samples";
  const bool incomplete = (header.features & wire::kFeatureRing) != 0 || header.reset_stamp != 0 ||
                          header.state == wire::TraceState::kStopped || file.dropped_events() > 0 ||
                          file.truncated();
  if (incomplete) return "incomplete";
  return growth_of(file).bytes <= ExplainedMemory::kMinGapBytes ? "small" : nullptr;
}

std::optional<ExplainedMemory> explain_memory(const formats::TraceFile& file,
                                              const std::function<void(std::uint64_t)>& progress) {
  const RssGrowth growth = growth_of(file);
  formats::WalkOptions options;
  options.progress = progress;
  formats::HeapWalk walk(file, options);
  PeakFinder finder(file, walk, growth.last_stamp);
  const formats::WalkTotals totals = walk.run(finder);
  if (finder.paused() || totals.corrupt_blocks > 0) return std::nullopt;
  ExplainedMemory memory = finder.peak();
  memory.rss_growth_bytes = growth.bytes;
  return memory;
}

std::string warning_text(const ExplainedMemory& memory, const formats::TraceFile& file) {
  const bool maps_known = (file.header().features & wire::kFeatureMaps) != 0;
  return fmt::format(
      "{}: the process grew by {} of anonymous memory, but the blocks in this trace were {} at "
      "most "
      "until then{}: the rest did not come through the calls that were recorded. Likely:{} an "
      "allocator that no preload sees, or the heap of a runtime (Java, Go, V8, Python); `alloctape "
      "doctor PROGRAM` looks for these",
      file.path(), cli::bytes(memory.rss_growth_bytes), cli::bytes(memory.live_bytes),
      maps_known ? fmt::format(" and its own mappings {}", cli::bytes(memory.mapped_bytes)) : "",
      maps_known ? "" : " the program's own mmap (record --mmap shows it),");
}

}  // namespace alloctape::analysis
