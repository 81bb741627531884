// The memory that the driver and one replayer process share: options in, results out. It is a
// memfd, so that what a run has measured outlives a crash or a kill of the replayer, and so that
// none of it counts as anonymous memory of the process under measurement (RssShmem, not RssAnon).
//
// Both sides are built from the same tree; the layout is no file format. Atomics are lock-free and
// address-free, which is what makes them usable across processes.
#pragma once

#include <signal.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "formats/wire/opcodes.h"
#include "simulator/block_checks.h"
#include "simulator/latency_histogram.h"
#include "simulator/memory_points.h"
#include "simulator/size_class.h"
#include "simulator/slow_calls.h"

namespace alloctape::simulator {

inline constexpr std::uint64_t kSharedMagic = 0x3159414c50455241;  // "AREPLAY1"
inline constexpr int kSharedFd = 3, kWorkloadFd = 4;  // what the replayer is started with
inline constexpr std::uint32_t kNoLane = 0xffffffffu;
inline constexpr std::uint8_t kNoHistogram = 0xff;
inline constexpr std::uint32_t kTracerReady = 1, kTracerRefused = 2;
inline constexpr std::uint32_t kFrames = 48;
// The driver asks a thread that hangs where it stands: its handler writes a backtrace.
inline constexpr int kReportSignal = SIGUSR2;
inline constexpr std::uint64_t kNobodyWaits = ~std::uint64_t{0};

enum class Timing : std::uint32_t { kNone, kTsc, kClock };
enum class Touch : std::uint32_t { kNone, kPage, kFull, kPercent };

enum class Phase : std::uint32_t {
  kStarting,  // before the replayer has looked at anything
  kSetUp,     // tables, calibration
  kPrologue,
  kRunning,
  kAfter,     // the run is over and its figures are whole: everything is freed, and a pause made
  kComplete,  // results are whole; what happens from here on is the allocator's exit
  kFailed,    // the replayer could not do its work; `message` says why
};

struct MemorySample {
  std::uint64_t ns;   // CLOCK_MONOTONIC
  std::uint64_t ops;  // API calls so far, over all lanes (a lane reports when it takes a sample)
  std::uint64_t anon_bytes;
  std::uint64_t vm_bytes;
  std::uint64_t live_bytes;
  std::uint64_t usable_bytes;
};

// What others look at: alone on its cache line, so that a publishing lane and the lanes that spin
// on it disturb nobody else. See replayer/sync.h for the protocol.
struct alignas(64) LaneProgress {
  std::atomic<std::uint64_t> position;  // word index passed, published
  std::atomic<std::uint64_t> wanted;    // lowest position a sleeper waits for; kNobodyWaits
  // Of this lane as a sleeper. A line of its own: it is written when others sleep and wake.
  alignas(64) std::atomic<std::uint32_t> wake_sequence;  // the futex word
  std::atomic<std::uint32_t> waits_on;                   // 1 + the lane waited for; 0: none
  std::atomic<std::uint64_t> target;                     // and the position
};

// What the lane's own thread writes.
struct alignas(64) LaneShared {
  LaneProgress progress;
  // Position of the op that runs now. Relaxed: partner is the driver's look after the process died,
  // or its stall detection, for which any recent value will do.
  std::atomic<std::uint64_t> current;
  std::atomic<std::uint32_t> running;  // 1 while a thread of this lane exists
  std::uint32_t threads_started;
  std::atomic<std::int32_t> tid;          // of the lane's current thread
  std::atomic<std::int64_t> usable_live;  // usable bytes it has acquired less those it released
  std::uint64_t failed_ops;        // the candidate returned NULL where the recording has a block
  std::uint64_t skipped_ops;       // on blocks that the candidate failed to provide
  std::uint64_t order_violations;  // slot found empty at a release, or occupied at an acquire
  std::uint64_t unexpected_successes;  // recorded as failed, but the candidate served it
  std::uint64_t sync_waits, sync_blocked, sync_wait_ns;
  std::uint64_t failed_maps;   // ops of mmap's family that the kernel refused
  std::uint64_t skipped_maps;  // on mappings that could not be made, or all of them: --maps skip
  std::uint64_t ops_by_kind[wire::kMapOpLimit];
  std::uint64_t faulted_calls, call_faults;  // timed calls with page faults, and those faults
  SlowCalls slowest;
};

struct SharedHeader {
  std::uint64_t magic;
  std::uint64_t total_bytes;

  // Written by the driver.
  Timing timing;
  std::uint32_t sample_every;  // calls of a lane for one that is timed; 1: all
  Touch touch;
  std::uint32_t touch_percent;   // with Touch::kPercent
  std::uint32_t touch_zeroed;    // 1: blocks of calloc, too
  std::uint32_t verify, usable;  // 1: the careful loop
  std::uint64_t settle_ns;       // pause after everything was freed
  std::uint64_t recorded_peak_live_bytes;
  // Calls between two purges, of a lane; bytes, of all lanes; ns. 0: not that way.
  std::uint64_t purge_calls, purge_bytes, purge_ns;
  std::uint32_t mallopt_count;
  MalloptCall mallopt[kMalloptCalls];
  std::uint32_t no_huge_pages;   // 1: transparent huge pages are off for the process
  std::uint32_t count_syscalls;  // 1: install the filter that stops at system calls of interest
  std::uint32_t cpu_count;       // lanes are pinned to these in turn, or all of them share these
  std::uint16_t cpus[256];
  std::uint32_t touch_reads;  // 1: read a byte in each page before a block is released or resized
  std::uint32_t lanes;  // without the prologue; LaneShared[lanes + 1], the last is the prologue
  // Of each lane: LatencyHistogram[histograms][kSizeClasses]. Sparse: what no call fell into is a
  // hole of the memfd, and must be read so that it stays one.
  std::uint32_t histograms;
  std::uint8_t histogram_of[wire::kApiOpLimit];  // by opcode; kNoHistogram where it does not occur
  std::uint32_t sample_capacity;
  std::uint32_t cores;
  std::uint32_t skip_maps;     // 1: leave the program's own mappings out
  std::uint64_t sample_words;  // a lane samples memory after so many words of its own
  std::uint64_t lanes_at, histograms_at, samples_at;

  // Written by the replayer.
  std::atomic<Phase> phase;
  std::atomic<std::uint32_t> tracer_state;  // of the driver, with count_syscalls
  std::atomic<std::uint32_t> crash_lane;    // the lane whose thread got the deadly signal
  std::uint32_t crash_signal;
  std::uint64_t crash_address;
  char malloc_library[512];  // file that serves malloc
  char message[256];
  std::uint64_t fallbacks;  // bit per opcode: the candidate has no such function
  // Anchors of the stamps' clock against CLOCK_MONOTONIC: before the set-up, after the run.
  std::uint64_t anchor_ticks[2], anchor_ns[2];
  std::uint64_t run_start_ns, run_end_ns;  // CLOCK_MONOTONIC
  double timer_overhead_ticks;             // an empty pair of stamps
  double fault_ticks;                      // the cheapest page fault seen at set-up
  double harness_op_ns;                    // an op of the loop on functions that do nothing
  double sample_ns;                        // a look at the memory
  std::uint64_t baseline_anon_bytes, baseline_vm_bytes;  // right before the prologue
  std::uint64_t start_anon_bytes;                        // right after it
  std::uint64_t end_statm_anon_bytes, end_vm_bytes, end_anon_bytes, end_huge_bytes;
  std::uint64_t user_ns, system_ns, minor_faults, major_faults;
  std::uint64_t voluntary_switches, involuntary_switches;
  std::uint64_t live_flush_bytes;  // a lane keeps up to this much to itself; 0: exact

  // Addresses that are the harness' own, for those who watch its system calls.
  struct {
    std::uint64_t from, to;
  } harness_ranges[3];
  // The closer looks. A lane that takes one claims `point_lock` first; who finds it taken goes on.
  std::atomic<std::uint32_t> point_lock, points;
  MemoryPoint point[kMemoryPoints];
  AllocatorView view_at_peak, view_at_end;
  std::atomic<std::uint64_t> acquired_bytes;  // since the last purge, where that counts
  std::atomic<std::uint64_t> last_purge_ns;
  std::atomic<std::uint64_t> purges, purge_took_ns, point_took_ns;
  std::uint32_t purge_impossible;
  char purge_name[40];
  std::uint32_t mallopt_refused;  // bit per setting

  FaultList faults;  // what verification found
  // Of the thread that crashed, or hung; innermost first.
  std::atomic<std::uint32_t> frames_begun, frame_count, frames_done;
  char frames[kFrames][192];

  alignas(64) std::atomic<std::int64_t> live_bytes;
  std::atomic<std::int64_t> live_peak;
  std::atomic<std::int64_t> next_live_sample;
  std::atomic<std::int64_t> mapped_bytes, mapped_peak, next_mapped_sample;
  std::atomic<std::int64_t> mapped_written;  // of mappings that were written to as a whole
  std::atomic<std::uint64_t> ops_done;
  std::atomic<std::uint32_t> samples;  // taken; beyond sample_capacity they are only counted
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(std::atomic<Phase>::is_always_lock_free);

inline LaneShared* lanes_of(SharedHeader* h) {
  return reinterpret_cast<LaneShared*>(reinterpret_cast<char*>(h) + h->lanes_at);
}
// The progress of all lanes, wherever it lies.
struct LaneTable {
  char* first;
  std::size_t stride;
  std::uint32_t count;
  LaneProgress& operator[](std::uint32_t lane) const {
    return *reinterpret_cast<LaneProgress*>(first + lane * stride);
  }
};
inline LaneTable progress_of(SharedHeader* h) {
  return {reinterpret_cast<char*>(&lanes_of(h)->progress), sizeof(LaneShared), h->lanes};
}
// Usable bytes of all live blocks, as far as lanes have told.
inline std::uint64_t usable_live(SharedHeader* h) {
  std::int64_t sum = 0;
  for (std::uint32_t lane = 0; lane <= h->lanes; ++lane)
    sum += lanes_of(h)[lane].usable_live.load(std::memory_order_relaxed);
  return sum > 0 ? static_cast<std::uint64_t>(sum) : 0;
}
inline std::uint64_t histograms_bytes(const SharedHeader& h) {  // of one lane
  return std::uint64_t{h.histograms} * kSizeClasses * sizeof(LatencyHistogram);
}
inline LatencyHistogram* histograms_of(SharedHeader* h, std::uint32_t lane) {
  return reinterpret_cast<LatencyHistogram*>(reinterpret_cast<char*>(h) + h->histograms_at +
                                             lane * histograms_bytes(*h));
}
inline MemorySample* samples_of(SharedHeader* h) {
  return reinterpret_cast<MemorySample*>(reinterpret_cast<char*>(h) + h->samples_at);
}

// Fills in sections and sizes; returns the bytes needed in all. REQUIRES: lanes, histograms and
// sample_capacity are set.
inline std::uint64_t lay_out(SharedHeader* h) {
  auto up = [](std::uint64_t n) { return (n + 63) & ~std::uint64_t{63}; };
  h->lanes_at = up(sizeof(SharedHeader));
  h->samples_at = up(h->lanes_at + (h->lanes + std::uint64_t{1}) * sizeof(LaneShared));
  h->histograms_at = up(h->samples_at + h->sample_capacity * sizeof(MemorySample));
  h->total_bytes = up(h->histograms_at + h->lanes * histograms_bytes(*h));
  return h->total_bytes;
}

// Gives every opcode with a non-zero count a histogram. Fresh shared memory is zero; this sets what
// must not be.
inline void initialise(SharedHeader* h) {
  h->crash_lane.store(kNoLane, std::memory_order_relaxed);
  for (std::uint32_t lane = 0; lane <= h->lanes; ++lane)
    lanes_of(h)[lane].progress.wanted.store(kNobodyWaits, std::memory_order_relaxed);
  h->magic = kSharedMagic;
}
inline void assign_histograms(SharedHeader* h, const std::uint64_t* ops_by_kind) {
  h->histograms = 0;
  for (int op = 0; op < wire::kApiOpLimit; ++op)
    h->histogram_of[op] =
        ops_by_kind[op] ? static_cast<std::uint8_t>(h->histograms++) : kNoHistogram;
}

}  // namespace alloctape::simulator
