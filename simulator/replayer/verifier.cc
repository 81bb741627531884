#include "simulator/replayer/verifier.h"

#include <sched.h>

#include <cstring>

namespace alloctape::simulator {
namespace {

constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15;

std::uint64_t pattern_word(std::uint64_t key, std::uint64_t index) {
  return (key + index) * kOdd ^ key << 7;
}

// Fills the bytes [from, size) of a block.
void fill(unsigned char* block, std::uint64_t key, std::uint64_t from, std::uint64_t size) {
  for (; from < size && from % 8 != 0; ++from)
    block[from] = static_cast<unsigned char>(pattern_word(key, from / 8) >> from % 8 * 8);
  for (; from + 8 <= size; from += 8) {
    const std::uint64_t word = pattern_word(key, from / 8);
    std::memcpy(block + from, &word, 8);
  }
  for (; from < size; ++from)
    block[from] = static_cast<unsigned char>(pattern_word(key, from / 8) >> from % 8 * 8);
}

// Offset of the first byte of [0, size) that differs from the pattern; `size` when none does.
std::uint64_t first_difference(const unsigned char* block, std::uint64_t key, std::uint64_t size) {
  std::uint64_t i = 0;
  for (; i + 8 <= size; i += 8) {
    std::uint64_t word;
    std::memcpy(&word, block + i, 8);
    if (word != pattern_word(key, i / 8)) break;
  }
  for (; i < size; ++i)
    if (block[i] != static_cast<unsigned char>(pattern_word(key, i / 8) >> i % 8 * 8)) return i;
  return size;
}

std::uint64_t first_nonzero(const unsigned char* block, std::uint64_t size) {
  std::uint64_t i = 0;
  for (; i + 8 <= size; i += 8) {
    std::uint64_t word;
    std::memcpy(&word, block + i, 8);
    if (word != 0) break;
  }
  for (; i < size; ++i)
    if (block[i] != 0) return i;
  return size;
}

bool is_power_of_two(std::uint64_t n) { return n != 0 && (n & (n - 1)) == 0; }

}  // namespace

void Verifier::wait_a_little() { sched_yield(); }

std::uint64_t Verifier::due_alignment(wire::Op op, std::uint64_t size, std::uint64_t asked) const {
  if (wire::traits(op).takes_alignment) return is_power_of_two(asked) ? asked : 1;
  if (op == wire::Op::kValloc || op == wire::Op::kPvalloc) return page_;
  // For any object that fits (C17 7.22.3): what is smaller needs no more than its own size.
  std::uint64_t due = alignof(std::max_align_t);
  while (due > 1 && due > size) due /= 2;
  return due;
}

void Verifier::report(const At& at, FoundFault fault) {
  const std::uint32_t index = faults_.count.fetch_add(1, std::memory_order_relaxed);
  if (index >= kKeptFaults) return;
  fault.op = static_cast<std::uint32_t>(at.op);
  fault.lane = at.lane;
  fault.op_index = at.op_index;
  fault.position = at.position;
  fault.slot = at.slot;
  faults_.kept[index] = fault;
}

void Verifier::enter(const At& at, void* block, std::uint64_t size, std::uint64_t alignment) {
  const auto start = reinterpret_cast<std::uintptr_t>(block);
  FoundFault fault{};
  fault.size = size;
  fault.address = start;
  if (const std::uint64_t due = due_alignment(at.op, size, alignment); start % due != 0) {
    fault.fault = Fault::kAlignment;
    fault.wanted = due;
    report(at, fault);
  }
  if (usable_ != nullptr) {
    const std::uint64_t usable = usable_(block);
    if (usable < size) {
      fault.fault = Fault::kUsableSize;
      fault.found = usable;
      report(at, fault);
    }
  }
  const auto n = static_cast<std::uint32_t>(at.slot);
  lock();
  const std::uint32_t other = live_.overlapping(start, size);
  if (other != 0) {
    fault.fault = Fault::kOverlap;
    fault.other_slot = other;
    fault.other_size = nodes_[other].size;
    fault.other_address = nodes_[other].start;
  }
  nodes_[n].start = start;
  nodes_[n].size = size;
  live_.insert(n);
  unlock();
  if (other != 0) report(at, fault);
}

void Verifier::check_contents(const At& at, const IntervalNode& node, Fault what,
                              std::uint64_t length) {
  const auto* block = reinterpret_cast<const unsigned char*>(node.start);
  const std::uint64_t i = first_difference(block, node.key, length);
  if (i == length) return;
  FoundFault fault{};
  fault.fault = what;
  fault.size = node.size;
  fault.address = node.start;
  fault.at = i;
  fault.found = block[i];
  fault.wanted = pattern_word(node.key, i / 8) >> i % 8 * 8 & 0xff;
  report(at, fault);
}

void Verifier::acquired(const At& at, void* block, std::uint64_t size, std::uint64_t alignment) {
  enter(at, block, size, alignment);
  auto* bytes = static_cast<unsigned char*>(block);
  IntervalNode& node = nodes_[at.slot];
  if (at.op == wire::Op::kCalloc) {
    if (const std::uint64_t i = first_nonzero(bytes, size); i != size) {
      FoundFault fault{};
      fault.fault = Fault::kNotZero;
      fault.size = size;
      fault.address = node.start;
      fault.at = i;
      fault.found = bytes[i];
      report(at, fault);
    }
  }
  node.key = next_key_.fetch_add(1, std::memory_order_relaxed) * kOdd;
  fill(bytes, node.key, 0, size);
}

void Verifier::releasing(const At& at, void* block) {
  (void)block;
  IntervalNode& node = nodes_[at.slot];
  if (node.in_tree == 0) return;
  check_contents(at, node, Fault::kContents, node.size);
  faults_.blocks.fetch_add(1, std::memory_order_relaxed);
  faults_.bytes.fetch_add(node.size, std::memory_order_relaxed);
  lock();
  live_.remove(static_cast<std::uint32_t>(at.slot));
  unlock();
}

void Verifier::resizing(const At& at, void* block) { releasing(at, block); }

void Verifier::resized(const At& at, void* now, std::uint64_t size) {
  IntervalNode& node = nodes_[at.slot];
  if (now == nullptr) {  // the old block lives on, where it was
    lock();
    live_.insert(static_cast<std::uint32_t>(at.slot));
    unlock();
    return;
  }
  const std::uint64_t kept = node.size < size ? node.size : size;
  enter(at, now, size, 0);
  check_contents(at, node, Fault::kMovedContents, kept);
  fill(static_cast<unsigned char*>(now), node.key, kept, size);
}

void Verifier::check_rest(std::uint64_t slots) {
  for (std::uint64_t slot = 1; slot <= slots; ++slot)
    if (nodes_[slot].in_tree != 0)
      check_contents({wire::Op::kNone, kNoLane, 0, 0, slot}, nodes_[slot], Fault::kContents,
                     nodes_[slot].size);
}

}  // namespace alloctape::simulator
