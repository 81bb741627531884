// The sync points of converted workloads against brute force: every true dependency of random
// programs must follow from the ops alone, in every schedule they allow.
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "converter/converter.h"
#include "formats/workload_file.h"
#include "tests/unit/random_program.h"
#include "tests/unit/temp_trace.h"
#include "tests/unit/workload_graph.h"

namespace alloctape::converter {
namespace {

using formats::Event;
using formats::OpView;
using formats::WorkloadFile;
using formats::test::Call;
using formats::test::make_program;
using formats::test::Program;
using formats::test::ProgramOptions;
using formats::test::TempPath;
using formats::test::WorkloadGraph;

// A converted program, with each recorded call's node in the graph.
class Converted {
 public:
  Converted(const Program& program, const ConvertOptions& options) {
    formats::test::write_trace(trace_.str(), program.trace);
    auto result = convert(formats::test::open_trace(trace_.str()), workload_.str(), options);
    if (!result) throw std::runtime_error(result.error().to_string());
    summary = *result;
    auto file = WorkloadFile::open(workload_.str());
    if (!file) throw std::runtime_error(file.error().to_string());
    file_ = *file;
    formats::Status status = file_->validate();
    if (!status) throw std::runtime_error(status.error().to_string());
    graph_.emplace(*file_);
    std::map<std::uint32_t, std::vector<std::size_t>> nodes_of_thread;
    for (const wire::ThreadEntry& thread : file_->threads()) {
      nodes_of_thread[static_cast<std::uint32_t>(thread.thread)] = graph_->calls_of(thread);
      EXPECT_EQ(thread.ops, graph_->calls_of(thread).size());
    }
    std::map<std::uint32_t, std::size_t> next;
    for (const Call& call : program.calls) {
      const auto thread = static_cast<std::uint32_t>(call.event.thread);
      const auto& list = nodes_of_thread[thread];
      if (next[thread] >= list.size()) throw std::runtime_error("an op is missing");
      nodes.push_back(list[next[thread]++]);
    }
    for (const auto& [thread, list] : nodes_of_thread) EXPECT_EQ(next[thread], list.size());
  }
  const WorkloadGraph& graph() const { return *graph_; }
  const WorkloadFile& file() const { return *file_; }
  const OpView& op(std::size_t call) const { return graph_->nodes()[nodes[call]].op; }
  bool before(std::size_t call_a, std::size_t call_b) const {
    return graph_->before(nodes[call_a], nodes[call_b]);
  }

  ConvertSummary summary;
  std::vector<std::size_t> nodes;  // by call

 private:
  TempPath trace_, workload_{".awl"};
  std::optional<WorkloadFile> file_;
  std::optional<WorkloadGraph> graph_;
};

void expect_same_calls(const Program& program, const Converted& c) {
  for (std::size_t i = 0; i < program.calls.size(); ++i) {
    const Event& e = program.calls[i].event;
    const OpView& op = c.op(i);
    ASSERT_EQ(op.op, e.op) << i;
    EXPECT_EQ(op.size, wire::traits(e.op).takes_size ? e.size : 0) << i;
    EXPECT_EQ(op.alignment, wire::traits(e.op).takes_alignment ? e.alignment : 0) << i;
    EXPECT_EQ(op.slot != 0, program.calls[i].block.has_value()) << i;
  }
}

// Calls on one block use one slot, one after the other; and who gets the slot next, comes after the
// block's last call.
void expect_dependencies(const Program& program, const Converted& c) {
  std::map<std::uint64_t, std::vector<std::size_t>> calls_of_block;
  for (std::size_t i = 0; i < program.calls.size(); ++i) {
    if (program.calls[i].block) calls_of_block[*program.calls[i].block].push_back(i);
  }
  std::map<std::uint64_t, std::vector<const std::vector<std::size_t>*>> blocks_of_slot;
  for (const auto& [block, calls] : calls_of_block) {
    const std::uint64_t slot = c.op(calls[0]).slot;
    for (std::size_t k = 1; k < calls.size(); ++k) {
      ASSERT_EQ(c.op(calls[k]).slot, slot);
      ASSERT_TRUE(c.before(calls[k - 1], calls[k]))
          << "calls " << calls[k - 1] << " and " << calls[k] << " on block " << block;
    }
    blocks_of_slot[slot].push_back(&calls);
  }
  for (const auto& [slot, blocks] : blocks_of_slot) {
    for (std::size_t a = 0; a < blocks.size(); ++a) {
      for (std::size_t b = a + 1; b < blocks.size(); ++b) {
        const bool a_first = c.before(blocks[a]->back(), blocks[b]->front());
        const bool b_first = c.before(blocks[b]->back(), blocks[a]->front());
        ASSERT_TRUE(a_first || b_first) << "two blocks may meet in slot " << slot;
      }
    }
  }
}

std::vector<ConvertOptions> all_orders() {
  std::vector<ConvertOptions> all(4);
  all[0].order = wire::SyncOrder::kCausal;
  all[1].order = wire::SyncOrder::kBounded;
  all[2].order = wire::SyncOrder::kBounded;
  all[2].window_events = 8;
  all[3].order = wire::SyncOrder::kSerial;
  // Small programs must still run short of slots.
  for (std::size_t i = 0; i < all.size(); ++i) all[i].slots = {.slack = 0, .batch = 1 + i % 2};
  return all;
}

TEST(ConvertedOrder, ImpliesEveryDependencyOfRandomPrograms) {
  for (std::uint32_t seed = 1; seed <= 150; ++seed) {
    const Program program = make_program({.seed = seed,
                                          .events = 150 + seed % 7 * 50,
                                          .most_threads = 2 + seed % 5,
                                          .thread_change_percent = seed % 3 * 4 + 1,
                                          .switch_percent = 5 + seed % 10 * 9});
    for (const ConvertOptions& options : all_orders()) {
      SCOPED_TRACE(fmt::format("seed {} order {}", seed, static_cast<int>(options.order)));
      const Converted c(program, options);
      expect_same_calls(program, c);
      expect_dependencies(program, c);
      EXPECT_EQ(c.summary.order.unrepairable, 0u);
      if (HasFatalFailure() || HasNonfatalFailure()) return;
    }
  }
}

TEST(ConvertedOrder, CausalSyncPointsAreNeeded) {
  std::uint64_t waits = 0, redundant = 0;
  for (std::uint32_t seed = 1; seed <= 60; ++seed) {
    const Program program = make_program({.seed = seed, .events = 400, .most_threads = 5});
    ConvertOptions options;
    options.order = wire::SyncOrder::kCausal;
    const Converted c(program, options);
    redundant += c.graph().redundant_waits();
    waits += c.summary.sync_points;
  }
  EXPECT_GT(waits, 1000u);  // or the test says nothing
  // Not none: raising a wait can make one redundant that another lane had needed before.
  EXPECT_LT(redundant * 50, waits);
}

TEST(ConvertedOrder, SerialKeepsTheRecordedOrderExactly) {
  for (std::uint32_t seed = 1; seed <= 30; ++seed) {
    const Program program = make_program({.seed = seed, .events = 300, .unseen = false});
    ConvertOptions options;
    options.order = wire::SyncOrder::kSerial;
    const Converted c(program, options);
    for (std::size_t i = 1; i < program.calls.size(); ++i) {
      ASSERT_TRUE(c.before(i - 1, i)) << "seed " << seed << " call " << i;
    }
  }
}

TEST(ConvertedOrder, BoundedKeepsEveryThreadWithinThreeWindows) {
  constexpr std::uint64_t kWindow = 10;
  for (std::uint32_t seed = 1; seed <= 30; ++seed) {
    const Program program =
        make_program({.seed = seed, .events = 400, .most_threads = 5, .unseen = false});
    ConvertOptions options;
    options.order = wire::SyncOrder::kBounded;
    options.window_events = kWindow;
    const Converted c(program, options);
    for (std::size_t i = 3 * kWindow; i < program.calls.size(); ++i) {
      for (std::size_t j = 0; j + 3 * kWindow <= i; ++j) {
        ASSERT_TRUE(c.before(j, i)) << "seed " << seed << " calls " << j << " and " << i;
      }
    }
  }
}

// Threads far more than lanes, chunks written out long before they are waited for, a log that
// overflows: too large for the closure, so validate and a schedule from behind must do.
TEST(ConvertedOrder, LargeProgramsValidate) {
  for (const auto order :
       {wire::SyncOrder::kCausal, wire::SyncOrder::kBounded, wire::SyncOrder::kSerial}) {
    const Program program = make_program({.seed = 77,
                                          .events = 60'000,
                                          .most_threads = 12,
                                          .thread_change_percent = 2,
                                          .switch_percent = 20});
    TempPath trace, workload(".awl");
    formats::test::write_trace(trace.str(), program.trace);
    ConvertOptions options;
    options.order = order;
    auto summary = convert(formats::test::open_trace(trace.str()), workload.str(), options);
    ASSERT_TRUE(summary.ok()) << summary.error().to_string();
    auto file = WorkloadFile::open(workload.str());
    ASSERT_TRUE(file.ok());
    formats::Status status = file->validate();
    EXPECT_TRUE(status.ok()) << status.error().to_string();
    EXPECT_EQ(summary->ops, program.calls.size());
    EXPECT_LE(summary->lanes, 13u);
    EXPECT_GT(summary->threads, 100u);
  }
}

// Executes a workload with one lane preferred over the next, each as far as it can go: as uneven as
// a replay can be. Returns the highest live heap it met.
std::uint64_t peak_of_greedy_replay(const WorkloadFile& file, std::uint32_t favourite) {
  struct Lane {
    std::vector<OpView> ops;
    std::vector<std::uint64_t> ends;
    std::size_t next = 0;
    std::uint64_t passed = 0;
    bool running = false;
  };
  std::vector<Lane> lanes(file.header().lanes);
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    const wire::LaneEntry& entry = file.lanes()[i];
    for (const auto& chunk : file.chunks().subspan(entry.first_chunk, entry.chunks)) {
      const auto words = file.words(chunk);
      const std::uint64_t* end = words.data() + words.size();
      for (const std::uint64_t* p = words.data(); p < end; p += lanes[i].ops.back().words) {
        lanes[i].ops.push_back(formats::decode(p, end));
        lanes[i].ends.push_back(chunk.first_word + static_cast<std::uint64_t>(p - words.data()) +
                                lanes[i].ops.back().words);
      }
    }
  }
  std::vector<std::uint64_t> sizes(file.header().slots + 1);
  std::uint64_t live = 0, peak = 0;
  lanes[0].running = true;
  const auto step = [&](Lane& lane) {  // false: the lane cannot go on
    if (!lane.running || lane.next == lane.ops.size()) return false;
    const OpView& op = lane.ops[lane.next];
    if (op.op == wire::Op::kWait && lanes[op.slot].passed < op.size) return false;
    if (op.op == wire::Op::kSpawn) lanes[op.size].running = true;
    if (op.op == wire::Op::kExit) lane.running = false;
    if (wire::is_api_op(op.op) && op.slot != 0 && op.flags != wire::kOpFailed &&
        wire::op_class(op.op) != wire::OpClass::kQuery) {
      live -= sizes[op.slot];
      sizes[op.slot] = wire::op_class(op.op) == wire::OpClass::kRelease ? 0 : op.size;
      live += sizes[op.slot];
      peak = std::max(peak, live);
    }
    lane.passed = lane.ends[lane.next++];
    return true;
  };
  for (bool progress = true; progress;) {
    progress = false;
    for (std::size_t i = 0; i < lanes.size() && !progress; ++i) {
      while (step(lanes[(favourite + i) % lanes.size()])) progress = true;
    }
  }
  return peak;
}

// Two threads, each with a heap of its own: one fills up while the other empties. Nothing but the
// order of the recording keeps both from being full at once.
std::vector<formats::test::StreamEvent> seesaw() {
  constexpr std::uint64_t kBlocks = 20'000;
  std::vector<formats::test::StreamEvent> events;
  std::uint64_t now = 0;
  const auto add = [&](std::uint32_t thread, Event e) {
    e.thread = formats::ThreadIndex{thread};
    events.push_back({thread, e});
  };
  const auto address = [](std::uint32_t thread, std::uint64_t i) {
    return 0x7f0000000000 + thread * 0x10000000 + i * 64;
  };
  for (std::uint32_t t = 0; t < 2; ++t) {
    add(t, formats::test::make_event(wire::Op::kThreadStart, now += 20));
  }
  for (std::uint32_t round = 0; round < 6; ++round) {
    const std::uint32_t fills = round % 2;
    for (std::uint64_t i = 0; i < kBlocks; ++i) {
      add(fills, formats::test::acquire(now += 20, address(fills, i), 50));
      if (round != 0) add(1 - fills, formats::test::release(now += 20, address(1 - fills, i)));
    }
  }
  return events;
}

TEST(ConvertedOrder, BoundedKeepsTheLivePeakUnderTheMostUnevenReplay) {
  TempPath trace;
  formats::test::write_trace(trace.str(), seesaw());
  double causal_peak = 0;
  for (const auto order : {wire::SyncOrder::kCausal, wire::SyncOrder::kBounded}) {
    TempPath workload(".awl");
    ConvertOptions options;
    options.order = order;
    auto summary = convert(formats::test::open_trace(trace.str()), workload.str(), options);
    ASSERT_TRUE(summary.ok()) << summary.error().to_string();
    const auto file = WorkloadFile::open(workload.str());
    ASSERT_TRUE(file.ok());
    for (std::uint32_t lane = 0; lane < file.value().header().lanes; ++lane) {
      const double ratio = static_cast<double>(peak_of_greedy_replay(file.value(), lane)) /
                           static_cast<double>(summary->peak_live_bytes);
      if (order == wire::SyncOrder::kCausal) {
        causal_peak = std::max(causal_peak, ratio);
      } else {
        EXPECT_GT(ratio, 0.99);
        EXPECT_LT(ratio, 1.01);
      }
    }
    EXPECT_LT(summary->sync_points * 20, summary->ops);
  }
  EXPECT_GT(causal_peak, 1.2);  // or the test says nothing
}

}  // namespace
}  // namespace alloctape::converter
