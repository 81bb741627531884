// A workload as a graph of ops, with the transitive closure of everything that orders them: program
// order within a lane, waits, spawns. Knows nothing of how the converter chose its sync points.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include <gtest/gtest.h>

#include "formats/workload_cursor.h"
#include "formats/workload_file.h"

namespace alloctape::formats::test {

struct GraphNode {
  std::uint32_t lane;
  std::uint64_t end;  // position after the op
  OpView op;
};

class WorkloadGraph {
 public:
  explicit WorkloadGraph(const WorkloadFile& file) : file_(file) {
    for (std::uint32_t lane = 0; lane < file.header().lanes; ++lane) read_lane(lane);
    close();
  }

  const std::vector<GraphNode>& nodes() const { return nodes_; }
  // Nodes of API ops of the i-th entry of the thread table, in program order.
  std::vector<std::size_t> calls_of(const wire::ThreadEntry& thread) const {
    std::vector<std::size_t> result;
    for (const std::size_t n : lanes_[thread.lane]) {
      const GraphNode& node = nodes_[n];
      if (node.end <= thread.first_word || node.end > thread.end_word) continue;
      if (wire::is_api_op(node.op.op)) result.push_back(n);
    }
    return result;
  }
  // a is done before b starts, in every schedule.
  bool before(std::size_t a, std::size_t b) const { return reach_[b][a / 64] >> (a % 64) & 1; }
  // Waits that program order and the other edges imply anyway.
  std::size_t redundant_waits() const {
    std::size_t count = 0;
    for (std::size_t n = 0; n < nodes_.size(); ++n) {
      if (nodes_[n].op.op != wire::Op::kWait) continue;
      const std::size_t target = target_of(nodes_[n].op);
      const std::size_t previous = previous_[n];
      if (previous != kNone && (target == previous || before(target, previous))) ++count;
    }
    return count;
  }

 private:
  static constexpr std::size_t kNone = ~std::size_t{0};

  void read_lane(std::uint32_t lane) {
    lanes_.emplace_back();
    const wire::LaneEntry& entry = file_.lanes()[lane];
    for (const auto& chunk : file_.chunks().subspan(entry.first_chunk, entry.chunks)) {
      const auto words = file_.words(chunk);
      const std::uint64_t* end = words.data() + words.size();
      for (const std::uint64_t* p = words.data(); p < end;) {
        const OpView op = formats::decode(p, end);
        ASSERT_TRUE(op);
        p += op.words;
        lanes_.back().push_back(nodes_.size());
        nodes_.push_back(
            {lane, chunk.first_word + static_cast<std::uint64_t>(p - words.data()), op});
      }
    }
  }
  // The op that ends at (or last before) the position a wait names.
  std::size_t target_of(const OpView& wait) const {
    std::size_t target = kNone;
    for (const std::size_t n : lanes_[wait.slot]) {
      if (nodes_[n].end <= wait.size) target = n;
    }
    return target;
  }

  void close() {
    // Edges into each node.
    std::vector<std::vector<std::size_t>> into(nodes_.size());
    previous_.assign(nodes_.size(), kNone);
    std::map<std::pair<std::uint64_t, std::uint64_t>, std::size_t> first_of_thread;
    std::vector<std::vector<std::size_t>> spawns(lanes_.size());
    for (const auto& lane : lanes_) {
      for (std::size_t i = 1; i < lane.size(); ++i) {
        // A new thread of the lane starts with its spawn, not with the end of the thread before.
        if (nodes_[lane[i - 1]].op.op == wire::Op::kExit) continue;
        previous_[lane[i]] = lane[i - 1];
        into[lane[i]].push_back(lane[i - 1]);
      }
    }
    for (std::size_t n = 0; n < nodes_.size(); ++n) {
      if (nodes_[n].op.op != wire::Op::kWait) continue;
      const std::size_t target = target_of(nodes_[n].op);
      ASSERT_NE(target, kNone);
      into[n].push_back(target);
    }
    // The k-th spawn of a lane starts its k-th thread. Spawns of one lane are ordered by the rule
    // that the previous thread has ended; their order in the file's lanes does not tell, so they
    // are sorted by what they must come after: tried until all fit.
    std::vector<std::vector<std::size_t>> starts(lanes_.size());
    for (std::size_t lane = 0; lane < lanes_.size(); ++lane) {
      bool first = true;
      for (const std::size_t n : lanes_[lane]) {
        if (first && lane != 0) starts[lane].push_back(n);
        first = nodes_[n].op.op == wire::Op::kExit;
      }
    }
    for (std::size_t n = 0; n < nodes_.size(); ++n) {
      if (nodes_[n].op.op == wire::Op::kSpawn) spawns[nodes_[n].op.size].push_back(n);
    }
    run(into, spawns, starts);
  }

  // Executes symbolically; a node is done when all that leads into it is, and takes over what they
  // reach. A spawn is matched with the lane's next thread when it is executed.
  void run(std::vector<std::vector<std::size_t>>& into,
           const std::vector<std::vector<std::size_t>>& spawns,
           const std::vector<std::vector<std::size_t>>& starts) {
    const std::size_t words = (nodes_.size() + 63) / 64;
    reach_.assign(nodes_.size(), std::vector<std::uint64_t>(words));
    std::vector<bool> done(nodes_.size()), started(nodes_.size(), true);
    for (std::size_t lane = 1; lane < lanes_.size(); ++lane) {
      ASSERT_EQ(spawns[lane].size(), starts[lane].size());
      for (const std::size_t n : starts[lane]) started[n] = false;
    }
    std::vector<std::size_t> next_start(lanes_.size());
    std::size_t left = nodes_.size();
    for (bool progress = true; progress;) {
      progress = false;
      for (const auto& lane : lanes_) {
        for (const std::size_t n : lane) {
          if (done[n]) continue;
          bool ready = started[n];
          for (const std::size_t m : into[n]) ready = ready && done[m];
          if (!ready) break;
          for (const std::size_t m : into[n]) {
            reach_[n][m / 64] |= std::uint64_t{1} << (m % 64);
            for (std::size_t w = 0; w < words; ++w) reach_[n][w] |= reach_[m][w];
          }
          if (nodes_[n].op.op == wire::Op::kSpawn) {
            const std::uint64_t to = nodes_[n].op.size;
            ASSERT_LT(next_start[to], starts[to].size());
            const std::size_t start = starts[to][next_start[to]++];
            started[start] = true;
            into[start].push_back(n);
          }
          done[n] = true;
          --left;
          progress = true;
        }
      }
    }
    ASSERT_EQ(left, 0u) << "deadlock";
  }

  const WorkloadFile& file_;
  std::vector<GraphNode> nodes_;
  std::vector<std::vector<std::size_t>> lanes_;  // nodes, in program order
  std::vector<std::size_t> previous_;
  std::vector<std::vector<std::uint64_t>> reach_;  // by node: bitset of nodes before it
};

}  // namespace alloctape::formats::test
