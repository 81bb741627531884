// alloctape-replay: replays one workload once, under the allocator that the dynamic linker was
// given. Started by `alloctape replay` and `alloctape compare` alone: descriptor 3 is the shared
// memory (replay_shared.h), descriptor 4 the workload, which the driver has validated.
//
// This process is the instrument. It never allocates for itself: no iostreams, no strings, no
// containers; its memory is in shared mappings, so that its anonymous memory is the allocator's.
// What remains is constant and is reported as the baseline: libstdc++'s emergency pool (72 KB, at
// start), a few pages of libraries' data and of the main thread's stack.
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <utility>

#include "simulator/replayer/allocator_hooks.h"
#include "simulator/replayer/calibration.h"
#include "simulator/replayer/mappings.h"
#include "simulator/replayer/replay_loop.h"
#include "simulator/replayer/syscall_filter.h"
#include "simulator/replayer/touching.h"
#include "simulator/replayer/verifier.h"

namespace alloctape::simulator {
namespace {

constexpr std::uint64_t kStackBytes = 512 << 10;  // touched as far as used
constexpr std::uint64_t kGuardedLanes = 1024;     // each guard page costs the process a mapping
constexpr std::uint64_t kPopulateLimit = std::uint64_t{256} << 20;
constexpr std::uint64_t kPopulateHistograms = std::uint64_t{32} << 20;  // most stay empty
constexpr int kSpins = 200;                                             // some 10 us

std::uint64_t rounded(std::uint64_t bytes, std::uint64_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

void* harness_memory(Context& c, std::uint64_t bytes, int flags) {
  void* p = mmap(nullptr, rounded(bytes ? bytes : 1, c.page_bytes), PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS | flags, -1, 0);
  if (p == MAP_FAILED)
    replay_failed(c, "cannot map memory for the harness: ", strerrordesc_np(errno));
  return p;
}

// Thread-local memory of everything that was loaded: it lies on the stacks that we provide.
std::uint64_t static_tls_bytes() {
  std::uint64_t bytes = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* sum) {
        for (int i = 0; i < info->dlpi_phnum; ++i)
          if (info->dlpi_phdr[i].p_type == PT_TLS)
            *static_cast<std::uint64_t*>(sum) += info->dlpi_phdr[i].p_memsz;
        return 0;
      },
      &bytes);
  return bytes;
}

// A small workload is read in whole, before the clock starts; a larger one while it runs, ahead of
// the lanes.
void map_workload(Context& c) {
  struct stat info;
  if (fstat(kWorkloadFd, &info) != 0)
    replay_failed(c, "cannot look at the workload: ", strerrordesc_np(errno));
  const auto bytes = static_cast<std::uint64_t>(info.st_size);
  const auto available = static_cast<std::uint64_t>(sysconf(_SC_AVPHYS_PAGES)) * c.page_bytes;
  c.read_ahead = bytes > available / 2;
  void* p = mmap(nullptr, bytes, PROT_READ, MAP_SHARED | (c.read_ahead ? 0 : MAP_POPULATE),
                 kWorkloadFd, 0);
  if (p == MAP_FAILED) replay_failed(c, "cannot map the workload: ", strerrordesc_np(errno));
  if (c.read_ahead) madvise(p, bytes, MADV_SEQUENTIAL);
  c.workload = static_cast<const std::byte*>(p);
  c.header = reinterpret_cast<const wire::WorkloadHeader*>(c.workload);
  c.lanes = reinterpret_cast<const wire::LaneEntry*>(c.workload + c.header->lane_table.offset);
  c.chunks = reinterpret_cast<const wire::ChunkEntry*>(c.workload + c.header->chunk_table.offset);
}

void make_room(Context& c) {
  SharedHeader& h = *c.shared;
  const std::uint64_t eager =
      h.total_bytes - h.histograms_at <= kPopulateHistograms ? h.total_bytes : h.histograms_at;
  madvise(c.shared, eager, MADV_POPULATE_WRITE);  // older kernels: faulted in as it is used
  const int populate =
      (c.header->slots + 1) * sizeof(Slot) <= kPopulateLimit * 16 ? MAP_POPULATE : 0;
  c.slots = static_cast<Slot*>(harness_memory(c, (c.header->slots + 1) * sizeof(Slot), populate));
  c.slots[0].p = reinterpret_cast<void*>(kNullBlock);
  c.cursors =
      static_cast<LaneCursor*>(harness_memory(c, (h.lanes + 1) * sizeof(LaneCursor), MAP_POPULATE));
  c.stack_bytes = rounded(kStackBytes + 2 * static_tls_bytes(), c.page_bytes);
  c.stacks = static_cast<char*>(
      harness_memory(c, (h.lanes + std::uint64_t{1}) * c.stack_bytes, MAP_NORESERVE));
  for (std::uint64_t lane = 0; lane <= h.lanes && h.lanes <= kGuardedLanes; ++lane)
    mprotect(c.stacks + lane * c.stack_bytes, c.page_bytes, PROT_NONE);

  if (h.usable)
    c.usable = static_cast<std::uint64_t*>(
        harness_memory(c, (c.header->slots + 1) * sizeof(std::uint64_t), populate));

  const bool alone = h.lanes == 1;
  const auto flush = static_cast<std::int64_t>(alone ? 0 : h.live_flush_bytes);
  for (std::uint32_t lane = 0; lane < h.lanes; ++lane) {
    LaneCursor& cursor = c.cursors[lane];
    cursor.context = &c;
    cursor.lane = lane;
    cursor.next_sample = h.sample_words;
    cursor.next_purge = h.purge_calls + h.purge_bytes + h.purge_ns != 0
                            ? (h.purge_calls != 0 ? h.purge_calls : 1)
                            : ~std::uint64_t{0} >> 1;
    cursor.live_high = flush;
    cursor.live_low = alone ? LLONG_MIN : -flush;
  }
}

void prepare_verifier(Context& c) {
  if (!c.shared->verify) return;
  auto* nodes = static_cast<IntervalNode*>(
      harness_memory(c, (c.header->slots + 1) * sizeof(IntervalNode), 0));
  const bool asks = (c.api->fallbacks >> static_cast<int>(wire::Op::kMallocUsableSize) & 1) == 0;
  static Verifier verifier(c.shared->faults, nodes, asks ? c.api->malloc_usable_size_ : nullptr,
                           c.page_bytes);
  c.verifier = &verifier;
}

// Blocks from before the recording: made, not timed. Those of known size are live from the start;
// the others count nothing among the live bytes (as in `stat` and `convert`) until a realloc tells.
void run_prologue(Context& c) {
  std::int64_t live = 0;
  const wire::LaneEntry& entry = c.lanes[c.shared->lanes];
  LaneShared& shared = lanes_of(c.shared)[c.shared->lanes];
  const Touching touching(*c.shared, c.page_bytes);
  std::uint64_t blocks = 0;
  for (std::uint64_t k = 0; k < entry.chunks; ++k) {
    const wire::ChunkEntry& chunk = c.chunks[entry.first_chunk + k];
    const auto* p = reinterpret_cast<const std::uint64_t*>(c.workload + chunk.offset);
    for (const auto* end = p + chunk.words; p < end; p += wire::op_words(*p)) {
      shared.current.store(chunk.first_word + chunk.words - static_cast<std::uint64_t>(end - p),
                           std::memory_order_relaxed);
      const std::uint64_t size = wire::is_wide(*p) ? p[1] : wire::narrow_size(*p);
      auto* block = static_cast<unsigned char*>(c.api->malloc_(size));
      Slot& slot = c.slots[wire::op_slot(*p)];
      slot.size = 0;
      slot.p = block;
      if (block == nullptr) {
        slot.p = reinterpret_cast<void*>(size == 0 ? kNullBlock : kFailedBlock);
        shared.failed_ops += size != 0;
      } else {
        if (wire::op_flags(*p) & wire::kOpSizeKnown) {
          slot.size = size;
          live += static_cast<std::int64_t>(size);
        }
        touching.write(block, 0, size);
        const std::uint64_t s = wire::op_slot(*p);
        if (c.verifier != nullptr)
          c.verifier->acquired({wire::Op::kMalloc, c.shared->lanes, blocks,
                                shared.current.load(std::memory_order_relaxed), s},
                               block, size, 0);
        if (c.usable != nullptr) {
          c.usable[s] = c.api->malloc_usable_size_(block);
          shared.usable_live.fetch_add(static_cast<std::int64_t>(c.usable[s]),
                                       std::memory_order_relaxed);
        }
      }
      ++blocks;
    }
  }
  // Nobody else runs yet.
  SharedHeader& h = *c.shared;
  if (h.lanes == 1) {
    c.cursors[0].live_delta = live;
    c.cursors[0].live_high = std::max(c.cursors[0].live_high, live);
  }
  h.live_bytes.store(live, std::memory_order_relaxed);
  h.live_peak.store(live, std::memory_order_relaxed);
}

void add_usage(SharedHeader& h, const rusage& before, const rusage& after) {
  auto ns = [](const timeval& a, const timeval& b) {
    return static_cast<std::uint64_t>((b.tv_sec - a.tv_sec) * 1'000'000'000LL +
                                      (b.tv_usec - a.tv_usec) * 1000LL);
  };
  h.user_ns = ns(before.ru_utime, after.ru_utime);
  h.system_ns = ns(before.ru_stime, after.ru_stime);
  h.minor_faults = static_cast<std::uint64_t>(after.ru_minflt - before.ru_minflt);
  h.major_faults = static_cast<std::uint64_t>(after.ru_majflt - before.ru_majflt);
  h.voluntary_switches = static_cast<std::uint64_t>(after.ru_nvcsw - before.ru_nvcsw);
  h.involuntary_switches = static_cast<std::uint64_t>(after.ru_nivcsw - before.ru_nivcsw);
}

void drop_anchor(SharedHeader& h, int which) {
  h.anchor_ns[which] = monotonic_ns();
  h.anchor_ticks[which] =
      h.timing == Timing::kTsc ? now_ticks<Timing::kTsc>() : now_ticks<Timing::kClock>();
}

void run_all(Context& c) {
  SharedHeader& h = *c.shared;
  rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  h.run_start_ns = monotonic_ns();
  h.last_purge_ns.store(h.run_start_ns, std::memory_order_relaxed);
  take_sample(c, h.live_bytes.load(std::memory_order_relaxed));

  adopt_lane(c, 0);
  LaneShared& main_lane = lanes_of(c.shared)[0];
  main_lane.running.store(1, std::memory_order_relaxed);
  ++main_lane.threads_started;
  c.run_lane(c, 0);
  main_lane.running.store(0, std::memory_order_relaxed);
  // Other lanes may still be starting each other's threads, so wait for their last positions before
  // joining: only then is each lane's `thread` its last one, and nobody else's to join.
  for (std::uint32_t lane = 1; lane < h.lanes; ++lane) {
    wait_for(progress_of(c.shared), 0, lane, c.lanes[lane].words, 0);
    if (c.cursors[lane].started) pthread_join(c.cursors[lane].thread, nullptr);
  }

  h.run_end_ns = monotonic_ns();
  getrusage(RUSAGE_SELF, &after);
  add_usage(h, before, after);
}

void final_figures(Context& c) {
  SharedHeader& h = *c.shared;
  if (h.lanes == 1) h.live_bytes.store(c.cursors[0].live_delta, std::memory_order_relaxed);
  take_sample(c, h.live_bytes.load(std::memory_order_relaxed));
  const MemoryFigures end = c.sampler.sample();
  h.end_statm_anon_bytes = end.anon_bytes;
  h.end_vm_bytes = end.vm_bytes;
  char text[4096];
  if (read_proc_file("/proc/self/smaps_rollup", text, sizeof text)) {
    h.end_anon_bytes = smaps_field(text, "Anonymous:");
    h.end_huge_bytes = smaps_field(text, "AnonHugePages:");
  } else {
    h.end_anon_bytes = end.anon_bytes;
  }
}

// What a program's end would leave behind, and after a pause.
void free_everything(Context& c) {
  SharedHeader& h = *c.shared;
  for (std::uint64_t slot = 1; slot <= c.header->slots; ++slot) {
    void* p = c.slots[slot].p;
    if (is_mapping(c.slots[slot])) {
      unmap_left(c.slots[slot]);
      continue;
    }
    if (reinterpret_cast<std::uintptr_t>(p) <= kLastMark) continue;
    c.slots[slot].p = nullptr;
    c.api->free_(p);
  }
  take_point(c, Moment::kFreed, 0);
  if (h.settle_ns == 0) return;
  const timespec pause{static_cast<time_t>(h.settle_ns / 1'000'000'000),
                       static_cast<long>(h.settle_ns % 1'000'000'000)};
  nanosleep(&pause, nullptr);
  take_point(c, Moment::kSettled, 0);
}

// Usable bytes of what is live, of one who did not keep books: now nobody else works on the slots.
void count_usable(Context& c) {
  if (c.shared->usable || c.api->fallbacks >> static_cast<int>(wire::Op::kMallocUsableSize) & 1)
    return;
  std::int64_t sum = 0;
  for (std::uint64_t slot = 1; slot <= c.header->slots; ++slot) {
    void* p = c.slots[slot].p;
    if (reinterpret_cast<std::uintptr_t>(p) > kLastMark && !is_mapping(c.slots[slot]))
      sum += static_cast<std::int64_t>(c.api->malloc_usable_size_(p));
  }
  lanes_of(c.shared)[0].usable_live.store(sum, std::memory_order_relaxed);
  c.shared->usable = 1;  // known from here on
}

// Hands the system calls of the run to the driver, when it has come to watch them.
void hand_over_syscalls(Context& c, std::uint64_t workload_bytes) {
  SharedHeader& h = *c.shared;
  if (!h.count_syscalls) return;
  auto range = [](const void* from, std::uint64_t bytes) {
    const auto at = reinterpret_cast<std::uint64_t>(from);
    return std::pair{at, at + bytes};
  };
  std::tie(h.harness_ranges[0].from, h.harness_ranges[0].to) = range(&h, h.total_bytes);
  std::tie(h.harness_ranges[1].from, h.harness_ranges[1].to) =
      range(c.stacks, (h.lanes + std::uint64_t{1}) * c.stack_bytes);
  std::tie(h.harness_ranges[2].from, h.harness_ranges[2].to) = range(c.workload, workload_bytes);
  // Acquire: pairs with the driver's release.
  while (h.tracer_state.load(std::memory_order_acquire) == 0) {
    const timespec pause{0, 1'000'000};
    nanosleep(&pause, nullptr);
  }
  if (h.tracer_state.load(std::memory_order_acquire) == kTracerReady && !install_syscall_filter())
    replay_failed(c, "cannot install a filter for system calls: ", strerrordesc_np(errno));
}

void apply_settings(Context& c) {
  SharedHeader& h = *c.shared;
  for (std::uint32_t i = 0; i < h.mallopt_count; ++i)
    if (!c.hooks->set_option(h.mallopt[i].parameter, h.mallopt[i].value))
      h.mallopt_refused |= 1u << i;
  if (const char* name = c.hooks->purge_name())
    std::strncpy(h.purge_name, name, sizeof h.purge_name - 1);
}

int replay() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // a driver that dies takes its replayer along
  struct stat info;
  if (fstat(kSharedFd, &info) != 0 || info.st_size < static_cast<off_t>(sizeof(SharedHeader)))
    return 3;
  void* memory = mmap(nullptr, static_cast<std::size_t>(info.st_size), PROT_READ | PROT_WRITE,
                      MAP_SHARED, kSharedFd, 0);
  if (memory == MAP_FAILED) return 3;
  auto* shared = static_cast<SharedHeader*>(memory);
  if (shared->magic != kSharedMagic ||
      shared->total_bytes > static_cast<std::uint64_t>(info.st_size))
    return 3;

  // The allocator is at work since before main: what the process is to be like from the start on
  // takes a second start.
  if (shared->no_huge_pages && prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 0 &&
      prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0) {
    char name[] = "alloctape-replay";
    char* arguments[] = {name, nullptr};
    execve("/proc/self/exe", arguments, environ);
  }
  shared->phase.store(Phase::kSetUp, std::memory_order_relaxed);
  drop_anchor(*shared, 0);
  static Context c;
  static ApiTable api;
  static AllocatorHooks hooks;
  c.shared = shared;
  c.api = &api;
  c.page_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  c.spins = shared->lanes <= shared->cores ? kSpins : 0;
  c.run_lane = choose_loop(shared->timing, shared->verify || shared->usable || shared->purge_bytes);
  if (const char* missing = resolve_api(api); missing != nullptr)
    replay_failed(c, "nobody provides the function ", missing);
  shared->fallbacks = api.fallbacks;
  hooks.resolve(api);
  c.hooks = &hooks;
  apply_settings(c);
  std::strncpy(shared->malloc_library, library_of(reinterpret_cast<const void*>(api.malloc_)),
               sizeof shared->malloc_library - 1);
  map_workload(c);
  make_room(c);
  prepare_verifier(c);
  catch_deadly_signals(c);
  adopt_lane(c, shared->lanes);
  c.sampler = MemorySampler(open("/proc/self/statm", O_RDONLY | O_CLOEXEC), c.page_bytes);
  calibrate(c);
  hand_over_syscalls(c, c.header->file_bytes);

  const MemoryFigures baseline = c.sampler.sample();
  shared->baseline_anon_bytes = baseline.anon_bytes;
  shared->baseline_vm_bytes = baseline.vm_bytes;
  shared->phase.store(Phase::kPrologue, std::memory_order_relaxed);
  run_prologue(c);
  shared->start_anon_bytes = c.sampler.sample().anon_bytes;

  shared->phase.store(Phase::kRunning, std::memory_order_relaxed);
  run_all(c);
  drop_anchor(*shared, 1);
  final_figures(c);
  count_usable(c);
  take_point(c, Moment::kEnd, shared->live_bytes.load(std::memory_order_relaxed));
  hooks.look(shared->view_at_end);
  if (c.verifier != nullptr) c.verifier->check_rest(c.header->slots);
  // Release: pairs with the driver's acquire, as that of the last phase below.
  shared->phase.store(Phase::kAfter, std::memory_order_release);
  free_everything(c);
  // Release: pairs with the driver's acquire; whoever sees this phase sees all results.
  shared->phase.store(Phase::kComplete, std::memory_order_release);
  return 0;
}

}  // namespace
}  // namespace alloctape::simulator

int main() {
  // A normal exit, so that an allocator's own statistics at exit get their turn.
  return alloctape::simulator::replay();
}
