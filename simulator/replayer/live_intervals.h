// The address ranges of live blocks, to find any two that overlap: a treap in harness memory whose
// nodes are the slots themselves, so that nothing is ever allocated. Ordered by start (and slot,
// since a bad allocator may give the same address twice).
//
// Thread safety: none; the user holds a lock.
#pragma once

#include <cstdint>

namespace alloctape::simulator {

struct IntervalNode {
  std::uintptr_t start;
  std::uint64_t size;  // requested
  std::uint64_t key;   // of the pattern in the block
  std::uint32_t left, right, priority;
  std::uint32_t in_tree;  // 1
};

// Node 0 stands for "none".
class LiveIntervals {
 public:
  explicit LiveIntervals(IntervalNode* nodes) : nodes_(nodes) {}

  // A node whose bytes overlap [start, start + size), or 0. A block of no bytes counts as one byte:
  // its address must be its own, too.
  std::uint32_t overlapping(std::uintptr_t start, std::uint64_t size) const {
    // Without overlaps in the tree the ranges are disjoint, and the neighbours alone can overlap.
    const std::uintptr_t end = start + (size ? size : 1);
    std::uint32_t before = 0, after = 0;
    for (std::uint32_t n = root_; n != 0;) {
      if (nodes_[n].start < start) {
        before = n;
        n = nodes_[n].right;
      } else {
        after = n;
        n = nodes_[n].left;
      }
    }
    if (after != 0 && nodes_[after].start < end) return after;
    if (before != 0 &&
        nodes_[before].start + (nodes_[before].size ? nodes_[before].size : 1) > start)
      return before;
    return 0;
  }

  // REQUIRES: the node is not in the tree, its start is set.
  void insert(std::uint32_t n) {
    IntervalNode& node = nodes_[n];
    random_ ^= random_ << 13;
    random_ ^= random_ >> 17;
    random_ ^= random_ << 5;
    node.priority = random_;
    node.in_tree = 1;
    std::uint32_t* link = &root_;
    while (*link != 0 && nodes_[*link].priority >= node.priority)
      link = less(n, *link) ? &nodes_[*link].left : &nodes_[*link].right;
    split(*link, n, node.left, node.right);
    *link = n;
  }
  // REQUIRES: the node is in the tree.
  void remove(std::uint32_t n) {
    std::uint32_t* link = &root_;
    while (*link != n) link = less(n, *link) ? &nodes_[*link].left : &nodes_[*link].right;
    *link = merged(nodes_[n].left, nodes_[n].right);
    nodes_[n].in_tree = 0;
  }

 private:
  bool less(std::uint32_t a, std::uint32_t b) const {
    return nodes_[a].start != nodes_[b].start ? nodes_[a].start < nodes_[b].start : a < b;
  }
  // The nodes of `tree` before and after the node n.
  void split(std::uint32_t tree, std::uint32_t n, std::uint32_t& before, std::uint32_t& after) {
    std::uint32_t *low = &before, *high = &after;
    while (tree != 0) {
      if (less(tree, n)) {
        *low = tree;
        low = &nodes_[tree].right;
        tree = *low;
      } else {
        *high = tree;
        high = &nodes_[tree].left;
        tree = *high;
      }
    }
    *low = *high = 0;
  }
  // REQUIRES: all of a lies before all of b.
  std::uint32_t merged(std::uint32_t a, std::uint32_t b) {
    std::uint32_t root = 0, *link = &root;
    while (a != 0 && b != 0) {
      if (nodes_[a].priority >= nodes_[b].priority) {
        *link = a;
        link = &nodes_[a].right;
        a = *link;
      } else {
        *link = b;
        link = &nodes_[b].left;
        b = *link;
      }
    }
    *link = a != 0 ? a : b;
    return root;
  }

  IntervalNode* nodes_;
  std::uint32_t root_ = 0;
  std::uint32_t random_ = 2463534242u;
};

}  // namespace alloctape::simulator
