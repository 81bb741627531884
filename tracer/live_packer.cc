#include "tracer/live_packer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include "formats/trace_file.h"
#include "tracer/live_trace.h"
#include "tracer/tick_rate.h"
#include "tracer/trace_rewrite.h"

namespace alloctape::tracer {
namespace {

constexpr std::uint64_t kIdleNs = 50'000'000;   // between two looks that found nothing
constexpr std::uint64_t kBusyNs = 100'000'000;  // before the machine is asked again
constexpr std::uint64_t kAskNs = 20'000'000;    // of finish()
constexpr std::uint64_t kSyncBytes = 64ull
                                     << 20;  // what was written seconds ago need not be synced

// The kernel gives this thread what no other wants, of the processors and of the disk.
void step_back() {
  sched_param none{};
  pthread_setschedparam(pthread_self(), SCHED_IDLE, &none);
#if defined(SYS_ioprio_set)
  constexpr int kWhoProcess = 1, kClassIdle = 3, kClassShift = 13;
  syscall(SYS_ioprio_set, kWhoProcess, 0, kClassIdle << kClassShift);
#endif
}

void block_signals() {
  // The file may be as large as the limit allows: an error code, no signal. And the program's
  // signals are the main thread's to pass on.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

// More threads want to run than there are processors: even an idle one would cost them their
// caches.
bool machine_is_busy() {
  static const long processors = sysconf(_SC_NPROCESSORS_ONLN);
  std::FILE* file = std::fopen("/proc/loadavg", "re");
  if (file == nullptr) return false;
  long running = 0;
  const int fields = std::fscanf(file, "%*f %*f %*f %ld", &running);
  std::fclose(file);
  return fields == 1 && running > processors + 1;  // one of them is this thread
}

void tell_tick_rate(const std::string& path, std::uint64_t ticks_per_second) {
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return;
  wire::TraceHeader header;
  if (read_fully(fd, &header, sizeof header, 0) && header.ticks_per_second == 0 &&
      std::memcmp(header.magic, wire::kTraceMagic, sizeof header.magic) == 0) {
    const bool tsc = header.clock_kind == wire::ClockKind::kTsc;
    header.ticks_per_second = tsc ? ticks_per_second : 1'000'000'000;
    write_fully(fd, &header.ticks_per_second, sizeof header.ticks_per_second,
                offsetof(wire::TraceHeader, ticks_per_second));
  }
  close(fd);
}

}  // namespace

LivePacker::LivePacker(int level, PackWhen when)
    : level_(level), when_(when), packer_(std::max(level, 1)) {
  if (level_ > 0) worker_ = std::thread([this] { work(false); });
}

LivePacker::~LivePacker() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (worker_.joinable()) worker_.join();
}

void LivePacker::update(const std::vector<Image>& images, std::uint64_t ticks_per_second) {
  if (level_ == 0) return;
  const std::lock_guard lock(mutex_);
  ticks_per_second_ = ticks_per_second;
  for (; known_ < images.size(); ++known_) {
    auto trace = std::make_unique<Trace>();
    trace->path = images[known_].trace_path;
    trace->done = !images[known_].readable;
    traces_.push_back(std::move(trace));
  }
  for (std::size_t i = 0; i < known_; ++i) {
    Trace& trace = *traces_[i];
    if (trace.ended || images[i].end == ImageEnd::kRunning) continue;
    trace.ended = true;
    if (!trace.done) ++left_;
  }
}

void LivePacker::finish(const std::vector<Image>& images, std::uint64_t ticks_per_second,
                        const std::function<bool(const std::string&)>& go_on) {
  if (level_ == 0) return;
  update(images, ticks_per_second);
  // A thread that has stepped back may not step forward again without privileges: another takes
  // over.
  std::unique_lock lock(mutex_);
  stop_ = true;
  lock.unlock();
  wake_.notify_all();
  worker_.join();
  stop_ = false;
  worker_ = std::thread([this] { work(true); });
  lock.lock();
  while (left_ != 0 && !stop_) {
    wake_.wait_for(lock, std::chrono::nanoseconds(kAskNs));
    const std::string text = fmt::format("packing, {} to go", left_);
    lock.unlock();
    const bool on = go_on(text);
    lock.lock();
    stop_ = stop_ || !on;
  }
  stop_ = true;
  lock.unlock();
  wake_.notify_all();
  worker_.join();
}

void LivePacker::rest(std::uint64_t ns) {
  std::unique_lock lock(mutex_);
  wake_.wait_for(lock, std::chrono::nanoseconds(ns), [this] { return stop_; });
}

bool LivePacker::stopped() {
  const std::lock_guard lock(mutex_);
  return stop_;
}

void LivePacker::work(bool finishing) {
  block_signals();
  const bool hold_back = !finishing && when_ != PackWhen::kAlways;
  if (hold_back) step_back();
  for (;;) {
    Trace* ended = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (stop_) return;
      for (const auto& trace : traces_) {
        if (trace->ended && !trace->done) {
          ended = trace.get();
          break;
        }
      }
      if (ended == nullptr && finishing) return;
    }
    if (hold_back && machine_is_busy()) {
      rest(kBusyNs);
      continue;
    }
    if (ended != nullptr) {
      if (!rewrite(*ended)) return;
      const std::lock_guard lock(mutex_);
      ended->done = true;
      --left_;
      wake_.notify_all();
    } else if (when_ == PackWhen::kEnd || !pack_live()) {
      rest(kIdleNs);
    }
  }
}

// One group of one trace. False: there is nothing to do now.
bool LivePacker::pack_live() {
  std::vector<Trace*> running;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& trace : traces_) {
      if (!trace->ended && !trace->done) running.push_back(trace.get());
    }
  }
  bool worked = false;
  for (Trace* trace : running) {
    if (!trace->opened) {
      trace->opened = true;
      trace->harvest = BlockHarvest::open(trace->path);
    }
    BlockHarvest* harvest = trace->harvest.get();
    if (harvest == nullptr || harvest->gave_up()) continue;
    harvest->look();
    const std::uint64_t before = TickRate::now_monotonic_ns();
    if (harvest->pack_one(packer_)) {
      worked = true;
      // At most half of a processor: the caches that it fills are the program's too.
      if (when_ != PackWhen::kAlways) rest(TickRate::now_monotonic_ns() - before);
    }
    harvest->release_old();
  }
  return worked;
}

// A trace of which not everything can be read stays as it is, with all that somebody might yet find
// in it. So does a ring, whose reader may be at work.
bool LivePacker::rewrite(Trace& trace) {
  trace.harvest.reset();
  std::uint64_t ticks_per_second = 0;
  {
    const std::lock_guard lock(mutex_);
    ticks_per_second = ticks_per_second_;
  }
  tell_tick_rate(trace.path, ticks_per_second);
  auto opened = formats::TraceFile::open(trace.path);
  if (!opened) return true;  // told by the summary
  const formats::TraceFile& file = *opened;
  const wire::TraceHeader& header = file.header();
  if (!file.warnings().empty() || file.truncated() || (header.features & wire::kFeatureRing) != 0 ||
      image_is_running(header, trace.path)) {
    return true;
  }
  RewriteOptions options;
  options.pack.level = level_;
  options.pack.cancelled = [this] { return stopped(); };
  options.sync = file.file_bytes() >= kSyncBytes;
  const auto totals = rewrite_trace(file, options);
  if (!totals) {
    if (stopped()) return false;
    warnings_.push_back(fmt::format("{} stays as the program wrote it: {}", trace.path,
                                    totals.error().to_string()));
  }
  return true;
}

}  // namespace alloctape::tracer
