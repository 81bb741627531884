// Writes the golden workload, or the example of docs/formats/workload.md, and the text that the
// golden test expects. Run once for each released version; the files it made then stay as they are.
//   make_golden_workload golden|example FILE.awl > FILE.awl.expected
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "formats/workload_file.h"
#include "formats/workload_writer.h"
#include "tests/golden/workload_text.h"

namespace {

using alloctape::formats::Op;
using alloctape::formats::WorkloadFile;
using alloctape::formats::WorkloadWriter;
namespace wire = alloctape::wire;

template <typename T>
T must(alloctape::formats::Result<T> result) {
  if (result) return std::move(*result);
  std::fprintf(stderr, "%s\n", result.error().to_string().c_str());
  std::exit(1);
}

// Two threads: one allocates, the other frees.
void write_example(WorkloadWriter& w) {
  w.add_lane();
  w.add_lane();
  must(w.append_spawn(0, 1));
  const auto born = must(w.append(0, {.op = wire::Op::kMalloc, .slot = 1, .size = 100}));
  must(w.append(0, {.op = wire::Op::kPosixMemalign, .slot = 2, .size = 256, .alignment = 64}));
  must(w.append_time(0, 150'000));
  must(w.append(0, {.op = wire::Op::kRealloc, .slot = 3, .size = 48}));
  must(w.append_wait(1, 0, w.publish(0, born)));
  must(w.append(1, {.op = wire::Op::kFree, .slot = 1}));
  must(w.append_exit(1));
  must(w.append_exit(0));
  must(w.append_prologue(3, 16));
  WorkloadWriter::Totals totals;
  totals.order = wire::SyncOrder::kCausal;
  totals.slots = 3;
  totals.peak_live_bytes = 404;
  totals.peak_live_blocks = 3;
  totals.end_live_bytes = 304;
  totals.end_live_blocks = 2;
  totals.recorded_ns = 160'000;
  totals.provenance_json = R"({"schema":"alloctape.provenance/1","program":"demo"})";
  totals.threads = {{.thread = 0,
                     .lane = 0,
                     .first_word = 0,
                     .end_word = w.position(0),
                     .ops = 3,
                     .start_ns = 0,
                     .end_ns = 160'000},
                    {.thread = 1,
                     .lane = 1,
                     .first_word = 0,
                     .end_word = w.position(1),
                     .ops = 1,
                     .start_ns = 1000,
                     .end_ns = 160'000}};
  totals.live_curve = {{160'000, 4, 304}};
  must(w.finish(totals));
}

// Every call of the API, every flag, wide and narrow, a lane of two threads, more than one chunk.
void write_golden(WorkloadWriter& w) {
  w.add_lane();
  w.add_lane();
  std::uint64_t slot = 0, ops = 0;
  auto add = [&](std::uint32_t lane, const Op& op) {
    ++ops;
    return must(w.append(lane, op));
  };
  for (int i = 1; i < wire::kApiOpLimit; ++i) {
    const auto op = static_cast<wire::Op>(i);
    const wire::OpTraits& traits = wire::traits(op);
    Op call{.op = op,
            .size = traits.takes_size ? 40u + static_cast<unsigned>(i) : 0u,
            .alignment = traits.takes_alignment ? 32u : 0u};
    switch (traits.op_class) {
      case wire::OpClass::kAcquire:
        call.slot = ++slot;
        add(0, call);
        call.slot = 0;
        call.flags = wire::kOpFailed;
        call.size = ~std::uint64_t{0};
        if (traits.takes_count) call.count = 3;
        add(0, call);
        break;
      case wire::OpClass::kRelease:
        add(0, {.op = wire::Op::kMalloc, .slot = slot + 1, .size = call.size});
        call.slot = slot + 1;
        add(0, call);
        break;
      case wire::OpClass::kResize:
        call.slot = ++slot;
        call.flags = wire::kOpFromNull;
        add(0, call);
        call.flags = 0;
        call.size = std::uint64_t{1} << 32;
        add(0, call);
        call.flags = wire::kOpFailed;
        add(0, call);
        call.flags = wire::kOpFreesBlock;
        call.size = 0;
        add(0, call);
        break;
      case wire::OpClass::kQuery:
        call.slot = 1;
        add(0, call);
        break;
      default:
        break;
    }
  }
  add(0, {.op = wire::Op::kFree});
  must(w.append_time(0, 1'000'000));
  must(w.append_spawn(0, 1));
  must(w.append_wait(1, 0, w.publish(0, w.position(0))));
  add(1, {.op = wire::Op::kFree, .slot = 1});
  const auto first_exit = must(w.append_exit(1));
  must(w.append_wait(0, 1, first_exit));
  must(w.append_spawn(0, 1));
  const std::uint64_t large_slot = slot + 2;
  must(w.append_prologue(large_slot, std::uint64_t{1} << 33));
  add(1, {.op = wire::Op::kRealloc, .slot = large_slot, .size = 8});
  const std::uint64_t first_ops = ops - 2;
  for (int i = 0; i < 4200; ++i) {  // 8400 words
    add(1, {.op = wire::Op::kMalloc, .flags = wire::kOpFailed, .size = 1});
  }
  must(w.append_exit(1));
  must(w.append_exit(0));
  WorkloadWriter::Totals totals;
  totals.order = wire::SyncOrder::kBounded;
  totals.slots = large_slot;
  totals.peak_live_bytes = 123'456;
  totals.peak_live_blocks = 17;
  totals.end_live_bytes = 1000;
  // What is filled above and not emptied: all acquires but slot 1, and the prologue's block.
  std::uint64_t acquires = 0;
  for (int i = 1; i < wire::kApiOpLimit; ++i) {
    if (wire::op_class(static_cast<wire::Op>(i)) == wire::OpClass::kAcquire) ++acquires;
  }
  totals.end_live_blocks = acquires;
  totals.recorded_ns = 2'000'000;
  totals.provenance_json = R"({"schema":"alloctape.provenance/1","program":"golden"})";
  totals.threads = {{.thread = 0,
                     .lane = 0,
                     .first_word = 0,
                     .end_word = w.position(0),
                     .ops = first_ops,
                     .start_ns = 0,
                     .end_ns = 2'000'000},
                    {.thread = 1,
                     .lane = 1,
                     .first_word = 0,
                     .end_word = first_exit,
                     .ops = 1,
                     .start_ns = 1'000'000,
                     .end_ns = 1'100'000},
                    {.thread = 2,
                     .lane = 1,
                     .first_word = first_exit,
                     .end_word = w.position(1),
                     .ops = 4201,
                     .start_ns = 1'200'000,
                     .end_ns = 1'900'000}};
  totals.live_curve = {{1'000'000, 50, 5000}, {2'000'000, ops, 1000}};
  totals.rss_curve = {{500'000, 20, 1 << 20}, {1'500'000, 0, 2 << 20}};
  must(w.finish(totals));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  WorkloadWriter writer = must(WorkloadWriter::create(argv[2]));
  std::strcmp(argv[1], "golden") == 0 ? write_golden(writer) : write_example(writer);
  const WorkloadFile file = must(WorkloadFile::open(argv[2]));
  must(file.validate());
  std::fputs(workload_text(file).c_str(), stdout);
}
