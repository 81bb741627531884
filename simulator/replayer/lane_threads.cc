// Threads of lanes, what they report, and how they die.
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "simulator/replayer/allocator_hooks.h"
#include "simulator/replayer/backtrace.h"
#include "simulator/replayer/replay_context.h"
#include "simulator/replayer/sync.h"

namespace alloctape::simulator {
namespace {

constexpr std::size_t kSignalStackBytes = 32 << 10;  // an AVX-512 or AMX frame is up to 11 KiB

Context* g_context = nullptr;
thread_local std::uint32_t t_lane = kNoLane;

void copy_text(char* to, std::size_t capacity, const char* a, const char* b) {
  std::size_t n = 0;
  for (const char* from : {a, b})
    for (; *from && n + 1 < capacity; ++from) to[n++] = *from;
  to[n] = 0;
}

// Leaves the lane in shared memory, then lets the signal do what it would have done.
void on_deadly_signal(int number, siginfo_t* info, void*) {
  SharedHeader& h = *g_context->shared;
  std::uint32_t nobody = kNoLane;
  if (h.crash_lane.compare_exchange_strong(nobody, t_lane, std::memory_order_relaxed)) {
    h.crash_signal = static_cast<std::uint32_t>(number);
    h.crash_address = reinterpret_cast<std::uint64_t>(info->si_addr);
    write_backtrace(h);
  }
  signal(number, SIG_DFL);
  raise(number);  // delivered when this handler returns
}

void on_report_signal(int, siginfo_t*, void*) { write_backtrace(*g_context->shared); }

// With as many CPUs as lanes each lane has one to itself; else all share what there is.
void choose_cpus(const SharedHeader& h, std::uint32_t lane) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (h.lanes <= h.cpu_count && lane < h.lanes)
    CPU_SET(h.cpus[lane], &set);
  else
    for (std::uint32_t i = 0; i < h.cpu_count; ++i) CPU_SET(h.cpus[i], &set);
  sched_setaffinity(0, sizeof set, &set);
}

void* lane_main(void* argument) {
  auto& cursor = *static_cast<LaneCursor*>(argument);
  Context& context = *cursor.context;
  LaneShared& shared = lanes_of(context.shared)[cursor.lane];
  adopt_lane(context, cursor.lane);
  ++shared.threads_started;
  shared.running.store(1, std::memory_order_relaxed);
  context.run_lane(context, cursor.lane);
  shared.running.store(0, std::memory_order_relaxed);
  return nullptr;
}

}  // namespace

void catch_deadly_signals(Context& context) {
  g_context = &context;
  struct sigaction action = {};
  action.sa_sigaction = on_deadly_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (const int number : {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGTRAP, SIGSYS})
    sigaction(number, &action, nullptr);
  action.sa_sigaction = on_report_signal;
  action.sa_flags |= SA_RESTART;
  sigaction(kReportSignal, &action, nullptr);
}

void adopt_lane(Context& context, std::uint32_t lane) {
  t_lane = lane;
  lanes_of(context.shared)[lane].tid.store(static_cast<std::int32_t>(syscall(SYS_gettid)),
                                           std::memory_order_relaxed);
  if (context.shared->cpu_count != 0) choose_cpus(*context.shared, lane);
  stack_t alternate = {};
  alternate.ss_sp = context.stacks + lane * context.stack_bytes + context.page_bytes;
  alternate.ss_size = kSignalStackBytes;
  sigaltstack(&alternate, nullptr);
}

void spawn_lane(Context& context, std::uint32_t lane) {
  LaneCursor& cursor = context.cursors[lane];
  if (cursor.started) pthread_join(cursor.thread, nullptr);
  cursor.started = true;
  const std::size_t below = context.page_bytes + kSignalStackBytes;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  int error =
      pthread_attr_setstack(&attributes, context.stacks + lane * context.stack_bytes + below,
                            context.stack_bytes - below);
  if (error == 0) error = pthread_create(&cursor.thread, &attributes, lane_main, &cursor);
  pthread_attr_destroy(&attributes);
  if (error != 0) replay_failed(context, "cannot start a thread: ", strerrordesc_np(error));
}

void take_sample(Context& context, std::int64_t live) {
  SharedHeader& h = *context.shared;
  const std::uint32_t index = h.samples.fetch_add(1, std::memory_order_relaxed);
  if (index >= h.sample_capacity) return;
  const MemoryFigures now = context.sampler.sample();
  MemorySample& sample = samples_of(&h)[index];
  sample.ns = monotonic_ns();
  sample.ops = h.ops_done.load(std::memory_order_relaxed);
  sample.anon_bytes = now.anon_bytes;
  sample.vm_bytes = now.vm_bytes;
  sample.live_bytes = live > 0 ? static_cast<std::uint64_t>(live) : 0;
  sample.usable_bytes = h.usable ? usable_live(&h) : 0;
}

void take_point(Context& context, Moment moment, std::int64_t live) {
  SharedHeader& h = *context.shared;
  if (h.point_lock.exchange(1, std::memory_order_acquire) != 0) return;
  const std::uint32_t index = h.points.load(std::memory_order_relaxed);
  if (index < kMemoryPoints) {
    const std::uint64_t began = monotonic_ns();
    MemoryPoint& point = h.point[index];
    point.moment = moment;
    point.has_usable = h.usable;
    point.ns = began;
    point.live_bytes = live > 0 ? static_cast<std::uint64_t>(live) : 0;
    point.usable_bytes = usable_live(&h);
    const MemoryFigures now = context.sampler.sample();
    point.anon_bytes = now.anon_bytes;
    point.vm_bytes = now.vm_bytes;
    const std::int64_t mapped = h.mapped_written.load(std::memory_order_relaxed);
    point.mapped_bytes = mapped > 0 ? static_cast<std::uint64_t>(mapped) : 0;
    char text[2048];
    if (read_proc_file("/proc/self/smaps_rollup", text, sizeof text)) {
      point.anon_bytes = smaps_field(text, "Anonymous:");
      point.lazy_free_bytes = smaps_field(text, "LazyFree:");
      point.huge_bytes = smaps_field(text, "AnonHugePages:");
    }
    if (h.usable && moment == Moment::kGrowing) context.hooks->look(h.view_at_peak);
    // Release: pairs with the driver's acquire.
    h.points.store(index + 1, std::memory_order_release);
    h.point_took_ns.fetch_add(monotonic_ns() - began, std::memory_order_relaxed);
  }
  h.point_lock.store(0, std::memory_order_release);
}

std::uint64_t purge_if_due(Context& context) {
  constexpr std::uint64_t kLookEvery = 512;  // words
  SharedHeader& h = *context.shared;
  const std::uint64_t next = h.purge_calls != 0 ? h.purge_calls : kLookEvery;
  const std::uint64_t began = monotonic_ns();
  if (h.purge_bytes != 0) {
    std::uint64_t bytes = h.acquired_bytes.load(std::memory_order_relaxed);
    // Whoever takes the bytes away makes the purge.
    if (bytes < h.purge_bytes ||
        !h.acquired_bytes.compare_exchange_strong(bytes, 0, std::memory_order_relaxed))
      return next;
  } else if (h.purge_ns != 0) {
    std::uint64_t last = h.last_purge_ns.load(std::memory_order_relaxed);
    if (began - last < h.purge_ns ||
        !h.last_purge_ns.compare_exchange_strong(last, began, std::memory_order_relaxed))
      return next;
  }
  if (!context.hooks->purge()) {
    h.purge_impossible = 1;
    return ~std::uint64_t{0} >> 2;
  }
  h.purges.fetch_add(1, std::memory_order_relaxed);
  h.purge_took_ns.fetch_add(monotonic_ns() - began, std::memory_order_relaxed);
  return next;
}

void replay_failed(Context& context, const char* what, const char* detail) {
  copy_text(context.shared->message, sizeof context.shared->message, what, detail);
  // Release: pairs with the driver's acquire; it reads the message when it sees the phase.
  context.shared->phase.store(Phase::kFailed, std::memory_order_release);
  _exit(4);
}

}  // namespace alloctape::simulator
