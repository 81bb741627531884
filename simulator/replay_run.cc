#include "simulator/replay_run.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <new>
#include <system_error>

#include "simulator/memory_sampler.h"
#include "simulator/replay_collect.h"
#include "simulator/replay_failure.h"
#include "simulator/syscall_watch.h"

extern char** environ;

namespace alloctape::simulator {
namespace {

using formats::RunResult;
using formats::RunStatus;

constexpr int kLookEveryMs = 20;
constexpr std::uint32_t kSamples = 2000;  // along progress
constexpr std::uint64_t kFewestSampleWords = 64;
constexpr std::uint64_t kExitGraceNs = 10'000'000'000;

[[noreturn]] void give_up(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

std::uint64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(t.tv_nsec);
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

// Above the numbers that the replayer expects: posix_spawn's dup2s must not hit each other.
int high_descriptor(int fd) {
  if (fd < 0) return fd;
  const int high = fcntl(fd, F_DUPFD_CLOEXEC, 10);
  close(fd);
  return high;
}

class SharedMemory {
 public:
  SharedMemory(int fd, std::uint64_t bytes) : bytes_(bytes) {
    if (ftruncate(fd, static_cast<off_t>(bytes)) != 0) give_up("memory for the results");
    memory_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory_ == MAP_FAILED) give_up("memory for the results");
  }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory() { munmap(memory_, bytes_); }
  void* get() const { return memory_; }

 private:
  void* memory_;
  std::uint64_t bytes_;
};

Timing timing_for(const RunSettings& settings) {
  if (!settings.timed) return Timing::kNone;
  // Where the kernel does not trust the TSC, neither do we.
  std::ifstream file("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  std::string source;
  file >> source;
  return source == "tsc" ? Timing::kTsc : Timing::kClock;
}

std::uint32_t cores_for_us() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return static_cast<std::uint32_t>(std::max(1, CPU_COUNT(&set)));
}

void add_mallopt(SharedHeader& h, const std::vector<MalloptSetting>& settings) {
  for (const MalloptSetting& setting : settings)
    if (h.mallopt_count < kMalloptCalls)
      h.mallopt[h.mallopt_count++] = {setting.parameter, setting.value};
}

// How an allocator is told to ask for transparent huge pages; empty where it cannot be told.
std::optional<Setting> huge_page_setting(const Candidate& candidate) {
  if (candidate.name == "glibc") return Setting{"GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"};
  if (candidate.name == "jemalloc") return Setting{"MALLOC_CONF", "thp:always"};
  if (candidate.name == "mimalloc") return Setting{"MIMALLOC_ALLOW_LARGE_OS_PAGES", "1"};
  return std::nullopt;
}

// The candidate's own settings, those for all, and what an option stands for: lists are joined.
std::vector<Setting> settings_for(const Candidate& candidate, const RunSettings& settings) {
  std::vector<Setting> all = settings.environment;
  auto add = [&](const Setting& setting, const char* separator) {
    for (Setting& other : all) {
      if (other.first != setting.first) continue;
      other.second = *separator ? other.second + separator + setting.second : setting.second;
      return;
    }
    all.push_back(setting);
  };
  if (settings.huge_pages == RunSettings::HugePages::kOn)
    if (const auto setting = huge_page_setting(candidate))
      add(*setting, setting->first == "GLIBC_TUNABLES" ? ":" : ",");
  for (const Setting& setting : candidate.environment)
    add(setting, setting.first == "GLIBC_TUNABLES" ? ":" : "");
  return all;
}

void fill_in_options(SharedHeader& h, const wire::WorkloadHeader& header, std::uint64_t words,
                     const RunSettings& settings) {
  h.timing = timing_for(settings);
  h.sample_every = settings.sample_every;
  h.touch = settings.touch;
  h.touch_percent = settings.touch_percent;
  h.touch_zeroed = settings.touch_calloc;
  h.touch_reads = settings.touch_reads;
  h.verify = settings.verify;
  h.usable = settings.usable;
  h.count_syscalls = settings.syscalls;
  h.settle_ns = settings.settle_ns;
  h.recorded_peak_live_bytes = header.peak_live_bytes;
  h.purge_calls = settings.purge_calls;
  h.purge_bytes = settings.purge_bytes;
  h.purge_ns = settings.purge_ns;
  h.no_huge_pages = settings.huge_pages == RunSettings::HugePages::kOff;
  h.cpu_count = static_cast<std::uint32_t>(std::min(settings.cpus.size(), std::size(h.cpus)));
  std::copy_n(settings.cpus.begin(), h.cpu_count, h.cpus);
  if (settings.verify) h.touch = Touch::kNone;  // the pattern takes its place
  h.lanes = header.lanes;
  h.cores =
      settings.cpus.empty() ? cores_for_us() : static_cast<std::uint32_t>(settings.cpus.size());
  h.sample_words = std::max(kFewestSampleWords, words / kSamples);
  // Progress samples, one for each percent that the live maximum grows by, begin and end.
  h.sample_capacity = kSamples + header.lanes + 4096;
  assign_histograms(&h, header.ops_by_kind);
  if (h.timing == Timing::kNone) h.histograms = 0;
  h.skip_maps = settings.maps ? 0 : 1;
  // All lanes together keep back at most a 2000th of the recorded peak.
  h.live_flush_bytes = header.lanes > 1 ? header.peak_live_bytes / 2000 / header.lanes : 0;
}

std::vector<std::string> environment_for(const Candidate& candidate, const RunSettings& settings) {
  std::map<std::string, std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const auto at = text.find('=');
    if (at != std::string::npos) variables[text.substr(0, at)] = text.substr(at + 1);
  }
  variables.erase("LD_PRELOAD");  // the candidate alone
  for (const auto& [key, value] : settings_for(candidate, settings)) variables[key] = value;
  if (!candidate.preload_path.empty()) variables["LD_PRELOAD"] = candidate.preload_path;
  std::vector<std::string> all;
  for (const auto& [key, value] : variables) all.push_back(key + "=" + value);
  return all;
}

pid_t start(const RunSettings& settings, const Candidate& candidate, int shared, int workload) {
  std::vector<std::string> texts = environment_for(candidate, settings);
  std::vector<char*> environment;
  for (std::string& text : texts) environment.push_back(text.data());
  environment.push_back(nullptr);
  std::string name = "alloctape-replay";
  char* arguments[] = {name.data(), nullptr};

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, shared, kSharedFd);
  posix_spawn_file_actions_adddup2(&actions, workload, kWorkloadFd);
  // Our standard output is for results: an allocator's statistics go to standard error.
  posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  pid_t pid = -1;
  const int error = posix_spawn(&pid, settings.replayer.c_str(), &actions, nullptr, arguments,
                                environment.data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    errno = error;
    give_up(settings.replayer.c_str());
  }
  return pid;
}

class Watch {
 public:
  Watch(pid_t pid, SharedHeader* shared, const formats::WorkloadFile& workload,
        std::uint64_t timeout_ns)
      : pid_(pid),
        shared_(shared),
        workload_(workload),
        timeout_ns_(timeout_ns),
        process_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))),
        statm_(open(("/proc/" + std::to_string(pid) + "/statm").c_str(), O_RDONLY | O_CLOEXEC)) {}

  ProcessEnd run(const std::function<void(std::uint64_t, std::uint64_t)>& progress,
                 std::uint64_t total_words) {
    const MemorySampler sampler(statm_.get(), static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)));
    std::uint64_t last_change = now_ns();
    std::uint64_t last_seen = ~std::uint64_t{0};
    Phase last_phase = Phase::kStarting;
    for (;;) {
      if (ended(kLookEveryMs)) return end_;
      const std::uint64_t now = now_ns();
      const MemoryFigures memory = sampler.sample();
      if (memory.anon_bytes != 0) samples_.push_back({now, memory.anon_bytes, memory.vm_bytes});
      const std::uint64_t words = words_done(shared_);
      const Phase phase = shared_->phase.load(std::memory_order_relaxed);
      if (words != last_seen || phase != last_phase) {
        last_seen = words;
        last_phase = phase;
        last_change = now;
        if (progress) progress(words, total_words);
      }
      // At exit nothing is left to measure: no need to wait as long as for an op.
      const std::uint64_t limit =
          phase == Phase::kComplete ? std::min(timeout_ns_, kExitGraceNs) : timeout_ns_;
      if (now - last_change > limit) {
        end_.timed_out = true;
        ask_where_it_hangs(phase);
        kill(pid_, SIGKILL);
        while (!ended(1000)) {
        }
        return end_;
      }
    }
  }
  const std::vector<OutsideSample>& samples() const { return samples_; }

 private:
  // The thread's handler writes a backtrace, if it still can.
  void ask_where_it_hangs(Phase phase) {
    constexpr int kPatience = 30;
    if (phase != Phase::kRunning && phase != Phase::kPrologue) return;
    const std::uint32_t lane =
        phase == Phase::kPrologue ? shared_->lanes : guilty_lane(shared_, workload_);
    if (lane == kNoLane) return;
    const std::int32_t tid = lanes_of(shared_)[lane].tid.load(std::memory_order_relaxed);
    if (tid == 0 || syscall(SYS_tgkill, pid_, tid, kReportSignal) != 0) return;
    for (int i = 0; i < kPatience; ++i) {
      if (shared_->frames_done.load(std::memory_order_acquire)) return;
      usleep(10'000);
    }
  }
  bool ended(int wait_ms) {
    if (process_.get() >= 0) {
      pollfd ready{process_.get(), POLLIN, 0};
      poll(&ready, 1, wait_ms);
    } else {
      usleep(static_cast<useconds_t>(wait_ms) * 1000);
    }
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) != pid_) return false;
    if (WIFSIGNALED(status)) end_.signal = WTERMSIG(status);
    if (WIFEXITED(status)) end_.exit_code = WEXITSTATUS(status);
    return true;
  }

  pid_t pid_;
  SharedHeader* shared_;
  const formats::WorkloadFile& workload_;
  std::uint64_t timeout_ns_;
  Descriptor process_, statm_;
  ProcessEnd end_;
  std::vector<OutsideSample> samples_;
};

// The dynamic linker ignores a preload that it cannot load: then we would measure the C library and
// call it something else.
void check_who_serves(const Candidate& candidate, RunResult& run) {
  if (run.malloc_library.empty() || candidate.preload_path.empty()) return;
  std::error_code error;
  const auto serving = std::filesystem::canonical(run.malloc_library, error);
  const auto wanted = std::filesystem::canonical(candidate.preload_path, error);
  if (serving == wanted) return;
  const std::string name = serving.filename().string();
  if (name.rfind("libc.so", 0) == 0 || name.rfind("libc-", 0) == 0) {
    run.status = RunStatus::kFailed;
    formats::RunFailure failure;
    failure.message = candidate.preload_path +
                      " could not be preloaded, or does not define malloc: the C library served "
                      "the calls";
    failure.phase = "start";
    run.failure = failure;
    return;
  }
  run.notes.push_back("malloc is served by " + run.malloc_library);
}

// A setting that had no effect must not look as if it had.
void check_settings(const SharedHeader& shared, const Candidate& candidate,
                    const RunSettings& settings, RunResult& run) {
  std::vector<MalloptSetting> mallopt = settings.mallopt;
  mallopt.insert(mallopt.end(), candidate.mallopt.begin(), candidate.mallopt.end());
  for (std::size_t i = 0; i < std::min<std::size_t>(mallopt.size(), kMalloptCalls); ++i)
    if (shared.mallopt_refused >> i & 1)
      run.notes.push_back("mallopt " + mallopt[i].text + " had no effect: this allocator has no " +
                          "mallopt, or refused");
  if (shared.purge_impossible)
    run.notes.emplace_back("--trim-every had no effect: this allocator has no way to be told");
  if (settings.huge_pages == RunSettings::HugePages::kOn && !huge_page_setting(candidate))
    run.notes.emplace_back(
        "--hugepages on had no effect: there is no known setting of this allocator for it");
}

}  // namespace

RunResult run_replay(const formats::WorkloadFile& workload, const Candidate& candidate,
                     const RunSettings& settings,
                     const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
  RunResult run;
  run.candidate = candidate.info();
  run.candidate.environment = settings_for(candidate, settings);
  run.workload = workload.path();

  const Descriptor file(high_descriptor(open(workload.path().c_str(), O_RDONLY | O_CLOEXEC)));
  if (file.get() < 0) give_up(workload.path().c_str());
  const Descriptor memfd(high_descriptor(memfd_create("alloctape-replay", MFD_CLOEXEC)));
  if (memfd.get() < 0) give_up("memory for the results");
  std::uint64_t words = 0;
  for (const wire::LaneEntry& lane : workload.lanes()) words += lane.words;

  SharedHeader layout{};
  fill_in_options(layout, workload.header(), words, settings);
  const SharedMemory memory(memfd.get(), lay_out(&layout));
  auto* shared = new (memory.get()) SharedHeader{};
  fill_in_options(*shared, workload.header(), words, settings);
  lay_out(shared);
  shared->next_live_sample.store(
      static_cast<std::int64_t>(workload.header().peak_live_bytes / 1000) + 4096);
  add_mallopt(*shared, settings.mallopt);
  add_mallopt(*shared, candidate.mallopt);
  initialise(shared);

  if (settings.syscalls) {
    const ProcessEnd end = watch_syscalls(start(settings, candidate, memfd.get(), file.get()),
                                          shared, settings.timeout_ns, run.syscalls.emplace());
    collect(shared, memfd.get(), workload, end, {}, run);
    check_who_serves(candidate, run);
    return run;
  }
  Watch watch(start(settings, candidate, memfd.get(), file.get()), shared, workload,
              settings.timeout_ns);
  const ProcessEnd end = watch.run(progress, words);
  collect(shared, memfd.get(), workload, end, watch.samples(), run);
  check_who_serves(candidate, run);
  check_settings(*shared, candidate, settings, run);
  return run;
}

}  // namespace alloctape::simulator
