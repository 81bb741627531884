#include "simulator/replayer/calibration.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

#include "simulator/replayer/replay_loop.h"

namespace alloctape::simulator {
namespace {

constexpr std::uint32_t kScriptWords = wire::kChunkWords;
constexpr std::uint64_t kScriptSlots = 64;
constexpr int kRepeats = 6;

template <Timing kTiming>
double stamp_pair_ticks() {
  double best = 1e9;
  for (int batch = 0; batch < 64; ++batch) {
    std::uint64_t sum = 0;
    for (int i = 0; i < 64; ++i) {
      const std::uint64_t began = now_ticks<kTiming>();
      sum += now_ticks<kTiming>() - began;
    }
    const double mean = static_cast<double>(sum) / 64;
    if (mean < best) best = mean;
  }
  return best;
}

// A little world of its own in one shared mapping: a script of malloc and free on functions that do
// nothing, run by the very loop of the replay.
struct Scratch {
  alignas(64) std::uint64_t words[kScriptWords];
  Slot slots[kScriptSlots + 1];
  LaneCursor cursor;
  wire::LaneEntry lanes[2];
  wire::ChunkEntry chunk;
  unsigned char block[8192];
};

double loop_ns_per_op(const Context& real) {
  SharedHeader layout = {};
  layout.lanes = 1;
  layout.histograms = 2;
  layout.sample_capacity = 1;
  const std::uint64_t shared_bytes = lay_out(&layout);
  const std::uint64_t bytes = shared_bytes + sizeof(Scratch);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) return 0;
  auto* shared = new (memory) SharedHeader{};
  shared->lanes = 1;
  shared->sample_capacity = 1;
  shared->sample_every = real.shared->sample_every;
  shared->touch = real.shared->touch;
  shared->touch_percent = real.shared->touch_percent;
  shared->fault_ticks = real.shared->fault_ticks;
  std::uint64_t kinds[wire::kApiOpLimit] = {};
  kinds[static_cast<int>(wire::Op::kMalloc)] = kinds[static_cast<int>(wire::Op::kFree)] = 1;
  assign_histograms(shared, kinds);
  lay_out(shared);
  initialise(shared);
  shared->sample_words = ~std::uint64_t{0} >> 1;
  shared->next_live_sample.store(std::int64_t{1} << 62, std::memory_order_relaxed);

  auto* scratch = reinterpret_cast<Scratch*>(static_cast<char*>(memory) + shared_bytes);
  for (std::uint32_t i = 0; i < kScriptWords; ++i) {
    const std::uint64_t slot = i % kScriptSlots + 1;
    scratch->words[i] = i / kScriptSlots % 2 == 0
                            ? wire::narrow_op(wire::Op::kMalloc, slot, 16 + (i & 7) * 16)
                            : wire::narrow_op(wire::Op::kFree, slot, 0);
  }
  scratch->slots[0].p = reinterpret_cast<void*>(kNullBlock);
  scratch->lanes[0] = {0, 1, kScriptWords, 1};
  scratch->chunk = {0, kScriptWords, 0, 0};

  const ApiTable api = null_api(scratch->block);
  Context context = real;
  context.shared = shared;
  context.api = &api;
  context.workload = reinterpret_cast<const std::byte*>(scratch->words);
  context.lanes = scratch->lanes;
  context.chunks = &scratch->chunk;
  context.slots = scratch->slots;
  context.cursors = &scratch->cursor;
  context.read_ahead = false;
  context.verifier = nullptr;
  context.usable = nullptr;
  std::uint64_t best = ~std::uint64_t{0};
  for (int i = 0; i < kRepeats; ++i) {
    scratch->cursor = {};
    scratch->cursor.next_sample = scratch->cursor.next_purge = shared->sample_words;
    scratch->cursor.live_high = std::int64_t{1} << 61;
    scratch->cursor.live_low = -(std::int64_t{1} << 61);
    const std::uint64_t began = monotonic_ns();
    real.run_lane(context, 0);
    const std::uint64_t took = monotonic_ns() - began;
    if (took < best) best = took;
  }
  munmap(memory, bytes);
  return static_cast<double>(best) / kScriptWords;
}

// The cheapest first touch of a page: what takes much less time than this cannot hold a fault. The
// pages are private, as the allocator's are, and gone again before the baseline is taken.
template <Timing kTiming>
double page_fault_ticks(std::size_t page_bytes) {
  constexpr std::size_t kPages = 64;
  void* memory = mmap(nullptr, kPages * page_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1e18;
  madvise(memory, kPages * page_bytes, MADV_NOHUGEPAGE);
  auto* p = static_cast<volatile char*>(memory);
  std::uint64_t best = ~std::uint64_t{0};
  for (std::size_t i = 0; i < kPages; ++i) {
    const std::uint64_t began = now_ticks<kTiming>();
    p[i * page_bytes] = 1;
    const std::uint64_t took = now_ticks<kTiming>() - began;
    if (took < best) best = took;
  }
  munmap(memory, kPages * page_bytes);
  return static_cast<double>(best);
}

double look_ns(const MemorySampler& sampler) {
  constexpr int kLooks = 32;
  std::uint64_t best = ~std::uint64_t{0};
  for (int i = 0; i < kLooks; ++i) {
    const std::uint64_t began = monotonic_ns();
    sampler.sample();
    const std::uint64_t took = monotonic_ns() - began;
    if (took < best) best = took;
  }
  return static_cast<double>(best);
}

}  // namespace

void calibrate(Context& context) {
  SharedHeader& h = *context.shared;
  if (h.timing == Timing::kTsc) {
    h.timer_overhead_ticks = stamp_pair_ticks<Timing::kTsc>();
    h.fault_ticks = page_fault_ticks<Timing::kTsc>(context.page_bytes);
  }
  if (h.timing == Timing::kClock) {
    h.timer_overhead_ticks = stamp_pair_ticks<Timing::kClock>();
    h.fault_ticks = page_fault_ticks<Timing::kClock>(context.page_bytes);
  }
  h.harness_op_ns = loop_ns_per_op(context);
  h.sample_ns = look_ns(context.sampler);
}

}  // namespace alloctape::simulator
