#include "simulator/replayer/mappings.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "formats/wire/map_event.h"
#include "simulator/replayer/touching.h"

namespace alloctape::simulator {
namespace {

// The slot of a mapping holds its address and its length in whole pages, with these bits: all of it
// may be written to; parts of it were unmapped, and may belong to others now; it is among the
// written bytes.
constexpr std::uint64_t kWritable = 1, kHoles = 2, kCounted = 4;
constexpr std::uint64_t kLengthBits = ~(kMappingBit | kWritable | kHoles | kCounted);

struct MapOp {
  wire::Op op;
  unsigned flags;
  std::uint64_t slot, size, offset, value;
};

MapOp read_op(const std::uint64_t* words) {
  const unsigned n = wire::op_words(words[0]);
  return {wire::op_of(words[0]), wire::op_flags(words[0]), wire::op_slot(words[0]), words[1],
          n > 2 ? words[2] : 0,  n > 3 ? words[3] : 0};
}

// By the system call: an allocator may have put its own functions in the place of libc's.
void* map(void* at, std::uint64_t size, std::uint64_t prot_and_flags, std::uint32_t more_flags) {
  const long p = syscall(SYS_mmap, at, size, wire::map_prot(prot_and_flags),
                         wire::map_flags(prot_and_flags) | more_flags, -1, 0);
  return p == -1 ? nullptr : reinterpret_cast<void*>(p);
}

class MapReplay {
 public:
  MapReplay(Context& c, LaneShared& shared, const MapOp& op)
      : h_(*c.shared),
        page_(c.page_bytes),
        touching_(h_, c.page_bytes),
        shared_(shared),
        op_(op),
        slot_(c.slots[op.slot]) {}

  bool run() {
    ++shared_.ops_by_kind[static_cast<int>(op_.op)];
    if (op_.op == wire::Op::kMmap && op_.flags != wire::kOpInPlace) return make();
    if (reinterpret_cast<std::uintptr_t>(slot_.p) <= kLastMark) {  // could not be mapped
      ++shared_.skipped_maps;
      if (op_.flags & wire::kOpFreesBlock) slot_ = {};
      return false;
    }
    switch (op_.op) {
      case wire::Op::kMmap:
        replace();
        return false;
      case wire::Op::kMunmap:
        unmap();
        return false;
      case wire::Op::kMremap:
        return remap();
      default:
        // Advice that this kernel does not know is no failure: nothing depends on it.
        syscall(SYS_madvise, part(), op_.size, op_.value);
        return false;
    }
  }

 private:
  std::uint64_t pages(std::uint64_t size) const { return (size + page_ - 1) / page_ * page_; }
  unsigned char* part() const { return static_cast<unsigned char*>(slot_.p) + op_.offset; }
  static bool writable(std::uint64_t prot_and_flags) {
    return (wire::map_prot(prot_and_flags) & wire::kProtWrite) != 0 &&
           (wire::map_flags(prot_and_flags) & wire::kMapNoReserve) == 0;
  }

  bool make() {
    if (slot_.p != nullptr) ++shared_.order_violations;
    void* p = map(nullptr, op_.size, op_.value, 0);
    if (p == nullptr) {
      ++shared_.failed_maps;
      slot_ = {reinterpret_cast<void*>(kFailedBlock), kMappingBit};
      return false;
    }
    const bool touches = writable(op_.value);
    slot_ = {p, pages(op_.size) | kMappingBit | (touches ? kWritable : 0)};
    // Shared memory is no anonymous memory of the process.
    if (touches && touching_.writes() &&
        (wire::map_flags(op_.value) & wire::kMapTypeMask) == wire::kMapPrivate) {
      slot_.size |= kCounted;
    }
    if (touches) touching_.write(p, 0, op_.size);
    written(static_cast<std::int64_t>(op_.size));
    return account(static_cast<std::int64_t>(op_.size));
  }
  void replace() {
    if (map(part(), op_.size, op_.value, wire::kMapFixed) == nullptr) {
      ++shared_.failed_maps;
      return;
    }
    // Of a mapping with more than one protection nothing is known but what the op tells.
    if (!writable(op_.value)) {
      written(-static_cast<std::int64_t>(slot_.size & kLengthBits));
      slot_.size &= ~(kWritable | kCounted);
    }
    if (writable(op_.value)) touching_.write(part(), 0, op_.size);
  }
  void unmap() {
    if (syscall(SYS_munmap, part(), op_.size) != 0) ++shared_.failed_maps;
    written(-static_cast<std::int64_t>(op_.size));
    slot_.size |= kHoles;
    if (op_.flags & wire::kOpFreesBlock) slot_ = {};
    account(-static_cast<std::int64_t>(op_.size));
  }
  bool remap() {
    const std::uint64_t old_size = slot_.size & kLengthBits;
    const long p = syscall(SYS_mremap, slot_.p, old_size, pages(op_.size), wire::kRemapMayMove);
    if (p == -1) {
      // With another length than the ops to come believe, it could only do harm.
      ++shared_.failed_maps;
      written(-static_cast<std::int64_t>(old_size));
      syscall(SYS_munmap, slot_.p, old_size);
      slot_ = {reinterpret_cast<void*>(kFailedBlock), kMappingBit};
      return account(-static_cast<std::int64_t>(old_size));
    }
    const bool touches = (slot_.size & kWritable) != 0;
    slot_ = {reinterpret_cast<void*>(p), pages(op_.size) | (slot_.size & ~kLengthBits)};
    if (touches) touching_.write(slot_.p, old_size, op_.size);
    const auto change = static_cast<std::int64_t>(pages(op_.size) - old_size);
    written(change);
    return account(change);
  }

  void written(std::int64_t change) {
    if (slot_.size & kCounted) h_.mapped_written.fetch_add(change, std::memory_order_relaxed);
  }
  // True for each further percent of the maximum.
  bool account(std::int64_t change) {
    // Relaxed: figures of their own, which order nothing.
    const std::int64_t now = h_.mapped_bytes.fetch_add(change, std::memory_order_relaxed) + change;
    std::int64_t peak = h_.mapped_peak.load(std::memory_order_relaxed);
    while (now > peak &&
           !h_.mapped_peak.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
    }
    std::int64_t due = h_.next_mapped_sample.load(std::memory_order_relaxed);
    return now > due && h_.next_mapped_sample.compare_exchange_strong(
                            due, now + now / 100 + kLeastGrowth, std::memory_order_relaxed);
  }
  static constexpr std::int64_t kLeastGrowth = 64 << 10;

  SharedHeader& h_;
  const std::uint64_t page_;
  const Touching touching_;
  LaneShared& shared_;
  const MapOp op_;
  Slot& slot_;
};

}  // namespace

void unmap_left(Slot& slot) {
  // The holes may be the allocator's by now: what has some stays.
  if (reinterpret_cast<std::uintptr_t>(slot.p) > kLastMark && !(slot.size & kHoles))
    syscall(SYS_munmap, slot.p, slot.size & kLengthBits);
  slot = {};
}

bool replay_map(Context& context, std::uint32_t lane, const std::uint64_t* words) {
  LaneShared& shared = lanes_of(context.shared)[lane];
  if (context.shared->skip_maps != 0) {
    ++shared.skipped_maps;
    return false;
  }
  return MapReplay(context, shared, read_op(words)).run();
}

}  // namespace alloctape::simulator
