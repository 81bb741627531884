// What becomes of the program's own mappings in a workload.
#include <gtest/gtest.h>

#include "converter/converter.h"
#include "formats/wire/map_event.h"
#include "formats/workload_file.h"
#include "tests/unit/temp_trace.h"
#include "tests/unit/workload_graph.h"

namespace alloctape::converter {
namespace {

using formats::Event;
using formats::ThreadIndex;
using formats::WorkloadFile;
using formats::test::acquire;
using formats::test::make_event;
using formats::test::open_trace;
using formats::test::release;
using formats::test::StreamEvent;
using formats::test::TempPath;
using formats::test::WorkloadGraph;
using formats::test::write_trace;
using wire::Op;

constexpr std::uint64_t kPage = 4096, kBase = 0x7f0000000000, kBlock = 0x555555560000;
constexpr std::uint64_t kAnonymous = wire::pack_prot_flags(wire::kProtRead | wire::kProtWrite,
                                                           wire::kMapPrivate | wire::kMapAnonymous);

// A call of `thread`, in a stream of its own; addresses and sizes in pages.
StreamEvent call(Op op, std::uint64_t stamp, std::uint64_t at, std::uint64_t pages,
                 std::uint32_t thread = 0, std::uint64_t value = kAnonymous) {
  Event e = make_event(op, stamp, kBase + at * kPage, pages * kPage);
  e.path = wire::kPathMapped;
  e.thread = ThreadIndex{thread};
  e.value = op == Op::kMunmap ? 0 : value;
  return {thread, e};
}
StreamEvent remap(std::uint64_t stamp, std::uint64_t from, std::uint64_t old_pages,
                  std::uint64_t to, std::uint64_t pages) {
  StreamEvent e = call(Op::kMremap, stamp, to, pages, 0, wire::kRemapMayMove);
  e.event.old_pointer = kBase + from * kPage;
  e.event.count = old_pages * kPage;
  return e;
}
StreamEvent thread_start(std::uint32_t thread, std::uint64_t stamp) {
  Event e = make_event(Op::kThreadStart, stamp);
  e.thread = ThreadIndex{thread};
  e.value = 100 + thread;
  return {thread, e};
}

struct Converted {
  ConvertSummary summary;
  WorkloadFile file;
  WorkloadGraph graph;
  // "mmap 1 0+16", and so on, of lane 0 or all lanes in their order.
  std::vector<std::string> ops() const {
    std::vector<std::string> lines;
    for (const auto& node : graph.nodes()) {
      if (!wire::is_map_op(node.op.op)) continue;
      lines.push_back(fmt::format("{} {} {}+{}{}{}", wire::traits(node.op.op).name, node.op.slot,
                                  node.op.offset / kPage, node.op.size / kPage,
                                  node.op.flags & wire::kOpFreesBlock ? " last" : "",
                                  node.op.flags & wire::kOpInPlace ? " in place" : ""));
    }
    return lines;
  }
  std::size_t node(Op op) const {
    for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
      if (graph.nodes()[i].op.op == op) return i;
    }
    throw std::runtime_error("no such op");
  }
};

Converted converted(const std::vector<StreamEvent>& events, const ConvertOptions& options = {}) {
  TempPath trace, workload(".awl");
  write_trace(trace.str(), events);
  auto summary = convert(open_trace(trace.str()), workload.str(), options);
  if (!summary) throw std::runtime_error(summary.error().to_string());
  auto file = WorkloadFile::open(workload.str());
  if (!file) throw std::runtime_error(file.error().to_string());
  if (const formats::Status status = file->validate(); !status) {
    throw std::runtime_error(status.error().to_string());
  }
  return {*summary, *file, WorkloadGraph(*file)};
}

using Lines = std::vector<std::string>;

TEST(ConverterMaps, MappingsGoInPartsAndGiveTheirSlotBack) {
  const Converted c =
      converted({call(Op::kMmap, 1000, 0, 16), call(Op::kMunmap, 2000, 4, 2),
                 call(Op::kMadvise, 3000, 8, 4, 0, 4),
                 call(Op::kMmap, 4000, 8, 4, 0, kAnonymous | std::uint64_t{wire::kMapFixed} << 32),
                 call(Op::kMunmap, 5000, 0, 16), call(Op::kMmap, 6000, 100, 3),
                 remap(7000, 100, 3, 200, 30)});
  EXPECT_EQ(c.ops(), (Lines{"mmap 1 0+16", "munmap 1 4+2", "madvise 1 8+4", "mmap 1 8+4 in place",
                            "munmap 1 0+4", "munmap 1 6+10 last", "mmap 1 0+3", "mremap 1 0+30"}));
  EXPECT_EQ(c.summary.maps.calls, 7u);
  EXPECT_EQ(c.summary.maps.ops, 8u);
  EXPECT_EQ(c.file.header().slots, 1u);
  EXPECT_EQ(c.file.header().peak_mapped_bytes, 30 * kPage);
  EXPECT_EQ(c.file.header().end_mapped_bytes, 30 * kPage);
  EXPECT_EQ(c.file.header().required_features, wire::kWorkloadRequiresMaps);
  EXPECT_EQ(c.file.header().peak_live_bytes, 0u);
}

TEST(ConverterMaps, AnUnmapInAnotherThreadWaitsForTheMapping) {
  ConvertOptions options;
  options.order = wire::SyncOrder::kCausal;
  const Converted c = converted({thread_start(0, 1), thread_start(1, 2),
                                 call(Op::kMmap, 1000, 0, 4), call(Op::kMunmap, 2000, 0, 4, 1)},
                                options);
  EXPECT_TRUE(c.graph.before(c.node(Op::kMmap), c.node(Op::kMunmap)));
}

TEST(ConverterMaps, BlocksAndMappingsShareSlotsOneAfterAnother) {
  const Converted c = converted({call(Op::kMmap, 1000, 0, 1),
                                 call(Op::kMunmap, 2000, 0, 1),
                                 {0, acquire(3000, kBlock, 10)},
                                 {0, release(4000, kBlock)},
                                 call(Op::kMmap, 5000, 0, 1)});
  EXPECT_EQ(c.file.header().slots, 1u);
  EXPECT_EQ(c.summary.ops, 5u);
  EXPECT_EQ(c.summary.peak_live_bytes, 10u);
}

TEST(ConverterMaps, LeavesOutWhatIsNoMemoryOfItsOwn) {
  StreamEvent file = call(Op::kMmap, 1000, 0, 4, 0, wire::pack_prot_flags(1, wire::kMapPrivate));
  file.event.alignment = static_cast<std::uint64_t>(wire::Backing::kFile);
  StreamEvent failed = call(Op::kMmap, 2000, 0, 4);
  failed.event.path |= wire::kPathFailed;
  failed.event.pointer = 0;
  const Converted c =
      converted({file, failed, call(Op::kMunmap, 3000, 0, 4), call(Op::kSbrk, 4000, 500, 1),
                 call(Op::kMunmap, 5000, 700, 1), call(Op::kMmap, 6000, 10, 4),
                 call(Op::kMadvise, 7000, 10, 4, 0, 100)});
  EXPECT_EQ(c.ops(), (Lines{"mmap 1 0+4"}));
  EXPECT_EQ(c.summary.maps.other_mappings, 1u);
  EXPECT_EQ(c.summary.maps.failed_calls, 1u);
  EXPECT_EQ(c.summary.maps.break_calls, 1u);
  EXPECT_EQ(c.summary.maps.unseen_calls, 1u);
  EXPECT_EQ(c.summary.maps.advice_left_out, 1u);
}

TEST(ConverterMaps, SkipsThemByChoice) {
  ConvertOptions options;
  options.maps = false;
  const Converted c =
      converted({call(Op::kMmap, 1000, 0, 4), {0, acquire(2000, kBlock, 10)}}, options);
  EXPECT_TRUE(c.ops().empty());
  EXPECT_EQ(c.summary.maps.calls, 1u);
  EXPECT_EQ(c.file.header().required_features, 0u);
  EXPECT_EQ(c.file.header().ops, 1u);
}

}  // namespace
}  // namespace alloctape::converter
