// The hot loop: decode an op, call the allocator, keep the books. No allocation, no lock, no system
// call but what stands at the edges of segments; the workload was validated, so that no op needs a
// check against the file.
//
// What is timed is the call alone: slot look-up before the first stamp, bookkeeping and touching
// after the second. A chained stamp (the end of one op as the start of the next) would be 9 ns
// cheaper, and would charge the candidate for our cache misses in the slot table; so it is a pair,
// whose cost is calibrated and reported.
#pragma once

#include <sys/mman.h>

#include <new>

#include "simulator/replayer/careful_hooks.h"
#include "simulator/replayer/fault_watch.h"
#include "simulator/replayer/mappings.h"
#include "simulator/replayer/replay_context.h"
#include "simulator/replayer/sync.h"
#include "simulator/replayer/touching.h"

namespace alloctape::simulator {

template <Timing kTiming>
inline std::uint64_t now_ticks() {
  if constexpr (kTiming == Timing::kTsc) {
#if defined(__x86_64__)
    std::uint32_t low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return static_cast<std::uint64_t>(high) << 32 | low;
#else
    return monotonic_ns();
#endif
  } else {
    return monotonic_ns();
  }
}

template <Timing kTiming, bool kCareful>
class ReplayLoop {
 public:
  ReplayLoop(Context& context, std::uint32_t lane)
      : c_(context),
        api_(*context.api),
        slots_(context.slots),
        lane_(lane),
        entry_(context.lanes[lane]),
        shared_(lanes_of(context.shared)[lane]),
        progress_(progress_of(context.shared)),
        cursor_(context.cursors[lane]),
        page_(context.page_bytes),
        alone_(context.shared->lanes == 1),
        touching_(*context.shared, context.page_bytes),
        hooks_(context, lane),
        delta_(cursor_.live_delta),
        high_(cursor_.live_high),
        low_(cursor_.live_low) {
    for (int op = 0; op < wire::kApiOpLimit; ++op) {
      const std::uint8_t h = context.shared->histogram_of[op];
      histograms_[op] =
          h == kNoHistogram ? nullptr : histograms_of(context.shared, lane) + h * kSizeClasses;
    }
    if constexpr (kTiming != Timing::kNone) {
      sample_every_ = context.shared->sample_every;
      // Where the lane's last thread left off, so that short threads are not always caught at their
      // first call.
      random_ = cursor_.random != 0 ? cursor_.random : random_ + lane;
      until_timed_ = cursor_.until_timed;
      if (until_timed_ == 0) until_timed_ = sample_every_ == 1 ? 1 : random_interval();
      // Faults are told where every stretch of time is seen, and not where calls are sampled.
      watches_faults_ = sample_every_ == 1;
      const auto fault = static_cast<std::uint64_t>(context.shared->fault_ticks / 2);
      gap_limit_ = watches_faults_ ? fault : ~std::uint64_t{0};
      slow_limit_ = watches_faults_ ? fault : shared_.slowest.floor_ticks();
      last_ended_ = now_ticks<kTiming>();
      fault_watch_.take();
    }
  }

  // Runs the lane's next thread: until its exit op, or to the end of the lane.
  void run() {
    while (cursor_.chunk < entry_.chunks) {
      const wire::ChunkEntry& chunk = c_.chunks[entry_.first_chunk + cursor_.chunk];
      const auto* words = reinterpret_cast<const std::uint64_t*>(c_.workload + chunk.offset);
      const std::uint64_t* p = words + cursor_.word;
      const std::uint64_t* const chunk_end = words + chunk.words;
      // Position of the word at address a: (a - origin_) / 8, whatever chunk it lies in.
      origin_ = reinterpret_cast<std::uintptr_t>(words) - chunk.first_word * 8;
      if (c_.read_ahead && cursor_.word == 0) read_ahead();
      while (p < chunk_end) {
        const std::uint64_t stop =
            cursor_.next_sample < cursor_.next_purge ? cursor_.next_sample : cursor_.next_purge;
        const std::uint64_t to_stop = stop - position_of(p);
        const auto left = static_cast<std::uint64_t>(chunk_end - p);
        p = run_words(p, to_stop < left ? p + to_stop : chunk_end);
        if (position_of(p) >= cursor_.next_purge) [[unlikely]]
          cursor_.next_purge = position_of(p) + purge_if_due(c_);
        if (position_of(p) >= cursor_.next_sample) sample_on_progress(position_of(p));
        if (exited_) {
          cursor_.word = static_cast<std::uint64_t>(p - words);
          if (p == chunk_end) next_chunk();
          finish(position_of(p));
          return;
        }
      }
      next_chunk();
      if (cursor_.chunk == entry_.chunks) break;
      publish(progress_, lane_, position_of(p));
    }
    finish(entry_.words);
  }

 private:
  std::uint64_t position_of(const std::uint64_t* p) const {
    return (reinterpret_cast<std::uintptr_t>(p) - origin_) >> 3;
  }
  void next_chunk() {
    ++cursor_.chunk;
    cursor_.word = 0;
  }
  void finish(std::uint64_t position) {
    count_ops();
    if (!alone_) flush_live();
    cursor_.live_delta = delta_;
    cursor_.live_high = high_;
    cursor_.live_low = low_;
    cursor_.until_timed = until_timed_;
    cursor_.random = random_;
    publish(progress_, lane_, position);
  }

  // Returns where it stopped: at or just past `end` (ops are whole), or after an exit.
  const std::uint64_t* run_words(const std::uint64_t* p, const std::uint64_t* const end) {
    while (p < end) {
      const std::uint64_t w = *p;
      shared_.current.store(position_of(p), std::memory_order_relaxed);
      const wire::Op op = wire::op_of(w);
      std::uint64_t slot, size, third = 0;
      unsigned flags = 0;
      if (!wire::is_wide(w)) [[likely]] {
        slot = w >> wire::kSlotAt & ((1u << wire::kNarrowSlotBits) - 1);
        size = wire::narrow_size(w);
        ++p;
      } else {
        const unsigned words = wire::op_words(w);
        if (wire::is_map_op(op)) [[unlikely]] {
          if (replay_map(c_, lane_, p)) sample_now();
          p += words;
          if (w & wire::kPublishBit) publish_op(position_of(p));
          continue;
        }
        slot = w >> wire::kWideSlotAt;
        flags = wire::op_flags(w);
        size = words > 1 ? p[1] : 0;
        if (words > 2) third = p[2];
        p += words;
      }
      if (!run_op(op, slot, size, third, flags)) {
        exited_ = true;
        return p;
      }
      if (w & wire::kPublishBit) [[unlikely]]
        publish_op(position_of(p));
    }
    return p;
  }

  // False: the thread ends here.
  [[gnu::always_inline]] bool run_op(wire::Op op, std::uint64_t slot, std::uint64_t size,
                                     std::uint64_t third, unsigned flags) {
    using wire::Op;
    const auto align = static_cast<std::align_val_t>(third);
    if constexpr (kCareful) third_ = third;
    // clang-format off
    switch (op) {
      case Op::kMalloc: acquire(op, slot, size, flags, [&] { return api_.malloc_(size); }); break;
      case Op::kCalloc: acquire(op, slot, times(size, third), flags, [&] { return api_.calloc_(third ? third : 1, size); }); break;
      case Op::kRealloc: resize(op, slot, size, flags, [&](void* q) { return api_.realloc_(q, size); }); break;
      case Op::kReallocarray: resize(op, slot, times(size, third), flags, [&](void* q) { return api_.reallocarray_(q, third ? third : 1, size); }); break;
      case Op::kFree: release(op, slot, [&](void* q) { api_.free_(q); }); break;
      case Op::kPosixMemalign:
        acquire(op, slot, size, flags, [&] {
          void* q = nullptr;
          return api_.posix_memalign_(&q, third, size) == 0 ? q : nullptr;
        });
        break;
      case Op::kAlignedAlloc: acquire(op, slot, size, flags, [&] { return api_.aligned_alloc_(third, size); }); break;
      case Op::kMemalign: acquire(op, slot, size, flags, [&] { return api_.memalign_(third, size); }); break;
      case Op::kValloc: acquire(op, slot, size, flags, [&] { return api_.valloc_(size); }); break;
      case Op::kPvalloc: acquire(op, slot, size, flags, [&] { return api_.pvalloc_(size); }); break;
      case Op::kMallocUsableSize: query(op, slot, [&](void* q) { api_.malloc_usable_size_(q); }); break;
      case Op::kFreeSized: release(op, slot, [&](void* q) { api_.free_sized_(q, size); }); break;
      case Op::kFreeAlignedSized: release(op, slot, [&](void* q) { api_.free_aligned_sized_(q, third, size); }); break;
      case Op::kNew: acquire(op, slot, size, flags, [&] { return caught([&] { return api_.new_(size); }); }); break;
      case Op::kNewArray: acquire(op, slot, size, flags, [&] { return caught([&] { return api_.new_array(size); }); }); break;
      case Op::kNewNothrow: acquire(op, slot, size, flags, [&] { return api_.new_nothrow(size, std::nothrow); }); break;
      case Op::kNewArrayNothrow: acquire(op, slot, size, flags, [&] { return api_.new_array_nothrow(size, std::nothrow); }); break;
      case Op::kNewAligned: acquire(op, slot, size, flags, [&] { return caught([&] { return api_.new_aligned(size, align); }); }); break;
      case Op::kNewArrayAligned: acquire(op, slot, size, flags, [&] { return caught([&] { return api_.new_array_aligned(size, align); }); }); break;
      case Op::kNewAlignedNothrow: acquire(op, slot, size, flags, [&] { return api_.new_aligned_nothrow(size, align, std::nothrow); }); break;
      case Op::kNewArrayAlignedNothrow: acquire(op, slot, size, flags, [&] { return api_.new_array_aligned_nothrow(size, align, std::nothrow); }); break;
      case Op::kDelete: release(op, slot, [&](void* q) { api_.delete_(q); }); break;
      case Op::kDeleteArray: release(op, slot, [&](void* q) { api_.delete_array(q); }); break;
      case Op::kDeleteNothrow: release(op, slot, [&](void* q) { api_.delete_nothrow(q, std::nothrow); }); break;
      case Op::kDeleteArrayNothrow: release(op, slot, [&](void* q) { api_.delete_array_nothrow(q, std::nothrow); }); break;
      case Op::kDeleteSized: release(op, slot, [&](void* q) { api_.delete_sized(q, size); }); break;
      case Op::kDeleteArraySized: release(op, slot, [&](void* q) { api_.delete_array_sized(q, size); }); break;
      case Op::kDeleteAligned: release(op, slot, [&](void* q) { api_.delete_aligned(q, align); }); break;
      case Op::kDeleteArrayAligned: release(op, slot, [&](void* q) { api_.delete_array_aligned(q, align); }); break;
      case Op::kDeleteAlignedNothrow: release(op, slot, [&](void* q) { api_.delete_aligned_nothrow(q, align, std::nothrow); }); break;
      case Op::kDeleteArrayAlignedNothrow: release(op, slot, [&](void* q) { api_.delete_array_aligned_nothrow(q, align, std::nothrow); }); break;
      case Op::kDeleteSizedAligned: release(op, slot, [&](void* q) { api_.delete_sized_aligned(q, size, align); }); break;
      case Op::kDeleteArraySizedAligned: release(op, slot, [&](void* q) { api_.delete_array_sized_aligned(q, size, align); }); break;
      case Op::kWait: wait(static_cast<std::uint32_t>(slot), size); break;
      case Op::kSpawn: spawn(static_cast<std::uint32_t>(size)); break;
      case Op::kExit: return false;
      default: break;  // the recorded clock: nothing to do at full pace
    }
    // clang-format on
    return true;
  }

  // A count is kept where the product would not fit: there the call must fail, and `times` is
  // unused.
  static std::uint64_t times(std::uint64_t size, std::uint64_t count) {
    return count ? size * count : size;
  }

  template <typename F>
  [[gnu::always_inline]] static void* caught(F call) {
    try {
      return call();
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
  }

  // `size` and `slot` are for the record: of the block that comes or goes.
  template <typename F>
  [[gnu::always_inline]] void timed(wire::Op op, std::uint64_t slot, std::uint64_t size, F call) {
    const int i = static_cast<int>(op);
    if constexpr (kTiming == Timing::kNone) {
      call();
    } else if (--until_timed_ != 0) {
      call();
    } else {
      until_timed_ = sample_every_ == 1 ? 1 : random_interval();
      std::uint64_t began = now_ticks<kTiming>();
      if (began - last_ended_ > gap_limit_) [[unlikely]] {
        fault_watch_.take();  // what fell into the gap is not the next call's
        began = now_ticks<kTiming>();
      }
      call();
      const std::uint64_t ended = now_ticks<kTiming>();
      // A thread that migrated may read a clock some ticks behind.
      const std::uint64_t ticks = ended > began ? ended - began : 0;
      last_ended_ = ended;
      if (ticks > slow_limit_) [[unlikely]]
        slow_call(i, slot, size, ticks, ended);
      histograms_[i][size_class(size)].add(ticks);
    }
    ++shared_.ops_by_kind[i];
  }
  // 1 .. 2 * sample_every - 1, evenly: a fixed step could fall in with the workload's own rhythm,
  // and see nothing but its frees.
  std::uint32_t random_interval() {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 17;
    random_ ^= random_ << 5;
    const std::uint64_t span = 2 * std::uint64_t{sample_every_} - 1;
    return 1 + static_cast<std::uint32_t>(random_ * span >> 32);
  }
  [[gnu::noinline]] void slow_call(int op, std::uint64_t slot, std::uint64_t size,
                                   std::uint64_t ticks, std::uint64_t ended) {
    FaultWatch::Counts counts{kUnknownCount, kUnknownCount};
    if (watches_faults_) {
      counts = fault_watch_.take();
      shared_.faulted_calls += counts.faults != 0;
      shared_.call_faults += counts.faults;
    }
    SlowCalls& slowest = shared_.slowest;
    if (ticks > slowest.floor_ticks()) {
      slowest.add({ticks, ended, calls_so_far(), shared_.current.load(std::memory_order_relaxed),
                   size, slot, static_cast<std::uint32_t>(op), counts.faults, counts.switches, 0});
      if (!watches_faults_) slow_limit_ = slowest.floor_ticks();
    }
    if constexpr (kTiming != Timing::kNone) last_ended_ = now_ticks<kTiming>();
  }
  // API calls of the lane that are over, those that could not be carried out included.
  std::uint64_t calls_so_far() const {
    std::uint64_t calls = shared_.skipped_ops;
    for (const std::uint64_t n : shared_.ops_by_kind) calls += n;
    return calls;
  }

  template <typename F>
  [[gnu::always_inline]] void acquire(wire::Op op, std::uint64_t slot, std::uint64_t size,
                                      unsigned flags, F call) {
    void* q;
    timed(op, slot, size, [&] { q = call(); });
    if (flags & wire::kOpFailed) [[unlikely]] {
      give_back(q);
      return;
    }
    Slot& s = slots_[slot];
    if (s.p != nullptr) [[unlikely]]
      ++shared_.order_violations;
    if (q == nullptr) [[unlikely]] {
      s.p = no_block(size);
      s.size = 0;
      return;
    }
    s.p = q;
    s.size = size;
    // Before the books: a memory sample taken there must see the block in use.
    if (op != wire::Op::kCalloc || touching_.writes_zeroed()) touching_.write(q, 0, size);
    if constexpr (kCareful) hooks_.acquired(op, slot, q, size, third_);
    account(static_cast<std::int64_t>(size));
  }

  template <typename F>
  [[gnu::always_inline]] void release(wire::Op op, std::uint64_t slot, F call) {
    Slot& s = slots_[slot];
    void* q = s.p;
    if (reinterpret_cast<std::uintptr_t>(q) <= kLastMark) [[unlikely]] {
      if (!usable_mark(q)) return;
      if (slot != 0) s.p = nullptr;
      q = nullptr;
      timed(op, slot, 0, [&] { call(q); });
      return;
    }
    const std::uint64_t size = s.size;
    s.p = nullptr;
    if (touching_.reads()) [[unlikely]]
      touching_.read(q, size);
    if constexpr (kCareful) hooks_.releasing(op, slot, q);
    timed(op, slot, size, [&] { call(q); });
    account(-static_cast<std::int64_t>(size));
  }

  template <typename F>
  [[gnu::always_inline]] void query(wire::Op op, std::uint64_t slot, F call) {
    void* q = slots_[slot].p;
    if (reinterpret_cast<std::uintptr_t>(q) <= kLastMark) [[unlikely]] {
      if (!usable_mark(q)) return;
      q = nullptr;
    }
    timed(op, slot, q != nullptr ? slots_[slot].size : 0, [&] { call(q); });
  }

  template <typename F>
  [[gnu::always_inline]] void resize(wire::Op op, std::uint64_t slot, std::uint64_t size,
                                     unsigned flags, F call) {
    Slot& s = slots_[slot];
    void* q = s.p;
    std::uint64_t old_size = s.size;
    if (flags & wire::kOpFromNull) {
      if (q != nullptr && slot != 0) [[unlikely]]
        ++shared_.order_violations;
      q = nullptr;
      old_size = 0;
    } else if (reinterpret_cast<std::uintptr_t>(q) <= kLastMark) [[unlikely]] {
      if (!usable_mark(q)) return;
      q = nullptr;
    }
    if (touching_.reads() && q != nullptr) [[unlikely]]
      touching_.read(q, old_size);
    if constexpr (kCareful)
      if (q != nullptr) hooks_.resizing(op, slot, q);
    void* r;
    timed(op, slot, size, [&] { r = call(q); });
    if (flags & (wire::kOpFailed | wire::kOpFreesBlock)) [[unlikely]] {
      resize_without_block(s, slot, r, old_size, flags);
      if constexpr (kCareful) {
        if (flags & wire::kOpFreesBlock)
          hooks_.gone(slot);
        else if (q != nullptr)
          hooks_.resized(op, slot, r, old_size);
      }
      return;
    }
    if (r == nullptr) [[unlikely]] {
      if (size == 0 || q == nullptr) {  // the old block is gone, or there was none
        account(-static_cast<std::int64_t>(old_size));
        s.p = no_block(size);
        s.size = 0;
        if constexpr (kCareful) hooks_.gone(slot);
      } else {
        ++shared_.failed_ops;  // and the old block lives on with its old size
        if constexpr (kCareful) hooks_.resized(op, slot, nullptr, 0);
      }
      return;
    }
    s.p = r;
    s.size = size;
    touching_.write(r, old_size, size);
    if constexpr (kCareful) {
      if (q != nullptr)
        hooks_.resized(op, slot, r, size);
      else
        hooks_.acquired(op, slot, r, size, 0);
    }
    account(static_cast<std::int64_t>(size - old_size));
  }

  // realloc calls that left no new block in the recording.
  [[gnu::noinline]] void resize_without_block(Slot& s, std::uint64_t slot, void* r,
                                              std::uint64_t old_size, unsigned flags) {
    if (flags & wire::kOpFreesBlock) {
      if (r != nullptr) api_.free_(r);  // this candidate keeps a block for realloc(p, 0)
      s.p = nullptr;
      account(-static_cast<std::int64_t>(old_size));
    } else if (r != nullptr) {  // failed in the recording
      ++shared_.unexpected_successes;
      if (slot == 0)
        api_.free_(r);
      else
        s.p = r;
    }
  }
  [[gnu::noinline]] void give_back(void* q) {
    if (q == nullptr) return;
    ++shared_.unexpected_successes;
    api_.free_(q);
  }
  // What to remember of an acquire that gave NULL: lawful for no bytes, a failure otherwise.
  [[gnu::noinline]] void* no_block(std::uint64_t size) {
    if (size == 0) return reinterpret_cast<void*>(kNullBlock);
    ++shared_.failed_ops;
    return reinterpret_cast<void*>(kFailedBlock);
  }
  // Whether an op on this slot can be carried out (on NULL).
  [[gnu::noinline]] bool usable_mark(const void* mark) {
    if (reinterpret_cast<std::uintptr_t>(mark) == kNullBlock) return true;
    if (mark == nullptr) ++shared_.order_violations;
    ++shared_.skipped_ops;
    return false;
  }

  // Live bytes. A lane alone keeps the exact figure: delta_ is the live bytes, high_ their maximum,
  // low_ out of reach. Several lanes keep small differences to themselves and add them to the
  // shared figure when they leave [low_, high_], which bounds the error of the shared maximum by
  // lanes * live_flush_bytes.
  [[gnu::always_inline]] void account(std::int64_t change) {
    delta_ += change;
    if (delta_ > high_ || delta_ < low_) [[unlikely]]
      account_slowly();
  }
  void account_slowly() {
    if (!alone_) {
      flush_live();
      return;
    }
    high_ = delta_;
    SharedHeader& h = *c_.shared;
    h.live_peak.store(high_, std::memory_order_relaxed);
    if (high_ > h.next_live_sample.load(std::memory_order_relaxed)) sample_on_growth(high_);
  }
  [[gnu::noinline]] void flush_live() {
    SharedHeader& h = *c_.shared;
    // Relaxed throughout: the counters order nothing; each is a figure of its own.
    const std::int64_t live = h.live_bytes.fetch_add(delta_, std::memory_order_relaxed) + delta_;
    delta_ = 0;
    std::int64_t peak = h.live_peak.load(std::memory_order_relaxed);
    while (live > peak &&
           !h.live_peak.compare_exchange_weak(peak, live, std::memory_order_relaxed)) {
    }
    if (live > h.next_live_sample.load(std::memory_order_relaxed)) sample_on_growth(live);
  }
  // One sample for each further percent of the live maximum, whoever reaches it; a closer look at
  // each of some shares of the recorded peak.
  [[gnu::noinline]] void sample_on_growth(std::int64_t live) {
    std::int64_t due = c_.shared->next_live_sample.load(std::memory_order_relaxed);
    const auto peak = static_cast<double>(c_.shared->recorded_peak_live_bytes);
    std::int64_t next = live + live / 100 + 1;
    bool closer = false;
    for (const double share : kGrowingShares) {
      const std::int64_t at = static_cast<std::int64_t>(peak * share) - 1;
      closer |= due <= at && live > at;
      if (at > live && at < next) next = at;
    }
    while (live > due) {
      if (c_.shared->next_live_sample.compare_exchange_weak(due, next, std::memory_order_relaxed)) {
        count_ops();
        take_sample(c_, live);
        if (closer) take_point(c_, Moment::kGrowing, live);
        return;
      }
    }
  }
  [[gnu::noinline]] void sample_on_progress(std::uint64_t position) {
    cursor_.next_sample = position + c_.shared->sample_words;
    sample_now();
  }
  [[gnu::noinline]] void sample_now() {
    count_ops();
    take_sample(c_, alone_ ? delta_ : c_.shared->live_bytes.load(std::memory_order_relaxed));
  }
  void count_ops() {
    std::uint64_t ops = 0;
    for (const std::uint64_t n : shared_.ops_by_kind) ops += n;
    c_.shared->ops_done.fetch_add(ops - cursor_.counted_ops, std::memory_order_relaxed);
    cursor_.counted_ops = ops;
  }

  [[gnu::noinline]] void publish_op(std::uint64_t position) { publish(progress_, lane_, position); }
  [[gnu::noinline]] void wait(std::uint32_t other, std::uint64_t position) {
    const WaitCounts counts = wait_for(progress_, lane_, other, position, c_.spins);
    ++shared_.sync_waits;
    shared_.sync_blocked += counts.blocked;
    shared_.sync_wait_ns += counts.ns;
  }
  [[gnu::noinline]] void spawn(std::uint32_t other) { spawn_lane(c_, other); }
  [[gnu::noinline]] void read_ahead() {
    // Two chunks ahead, for as long as they follow each other in the file or not: chunks of one
    // lane.
    for (std::uint64_t ahead = 1; ahead <= 2 && cursor_.chunk + ahead < entry_.chunks; ++ahead) {
      const wire::ChunkEntry& next = c_.chunks[entry_.first_chunk + cursor_.chunk + ahead];
      const std::uint64_t start = next.offset & ~std::uint64_t{page_ - 1};
      madvise(const_cast<std::byte*>(c_.workload) + start,
              next.offset + next.words * std::uint64_t{8} - start, MADV_WILLNEED);
    }
  }

  Context& c_;
  const ApiTable& api_;
  Slot* const slots_;
  const std::uint32_t lane_;
  const wire::LaneEntry& entry_;
  LaneShared& shared_;
  const LaneTable progress_;
  LaneCursor& cursor_;
  const std::uint64_t page_;
  const bool alone_;
  const Touching touching_;
  CarefulHooks hooks_;
  std::uint64_t third_ = 0;
  bool exited_ = false;
  bool watches_faults_ = false;
  std::uint32_t sample_every_ = 1, until_timed_ = 1, random_ = 2463534242u;
  std::uint64_t gap_limit_ = 0, slow_limit_ = 0, last_ended_ = 0;
  FaultWatch fault_watch_;
  std::uintptr_t origin_ = 0;
  std::int64_t delta_, high_, low_;
  LatencyHistogram* histograms_[wire::kApiOpLimit];
};

}  // namespace alloctape::simulator
