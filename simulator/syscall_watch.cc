#include "simulator/syscall_watch.h"

#include <linux/futex.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <map>
#include <thread>
#include <vector>

#include "simulator/replayer/syscall_filter.h"

namespace alloctape::simulator {
namespace {

std::uint64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(t.tv_nsec);
}

// Kills a process in which nothing happens any more: the loop below sleeps in waitpid.
class Watchdog {
 public:
  Watchdog(pid_t pid, SharedHeader* shared, std::uint64_t timeout_ns)
      : thread_([this, pid, shared, timeout_ns] {
          std::uint64_t last = ~std::uint64_t{0}, since = now_ns();
          while (!stop_.load(std::memory_order_relaxed)) {
            usleep(50'000);
            const std::uint64_t words = words_done(shared);
            if (words != last) last = words, since = now_ns();
            if (now_ns() - since < timeout_ns) continue;
            fired_.store(true, std::memory_order_relaxed);
            kill(pid, SIGKILL);
            return;
          }
        }) {}
  ~Watchdog() {
    stop_.store(true, std::memory_order_relaxed);
    thread_.join();
  }
  bool fired() const { return fired_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> stop_{false}, fired_{false};
  std::thread thread_;
};

struct Pending {
  long number;
  std::uint64_t arguments[6];
  std::uint64_t began_ns;
};

class Counter {
 public:
  Counter(SharedHeader* shared, formats::SyscallCounts& counts)
      : shared_(shared), counts_(counts) {}

  void add(pid_t tid, const Pending& call, std::int64_t result, std::uint64_t ended_ns) {
    const std::uint64_t took = ended_ns - call.began_ns;
    if (call.number == SYS_madvise && call.arguments[0] == kCalibrationAddress) {
      calibration_.push_back(took);
      std::sort(calibration_.begin(), calibration_.end());
      counts_.overhead_ns = static_cast<double>(calibration_[calibration_.size() / 2]);
      return;
    }
    if (shared_->phase.load(std::memory_order_relaxed) != Phase::kRunning || is_harness(call))
      return;
    const auto overhead = static_cast<std::uint64_t>(counts_.overhead_ns);
    const std::uint64_t net = took > overhead ? took - overhead : 0;
    const char* name = "";
    for (const WatchedCall& watched : kWatchedCalls)
      if (watched.number == call.number) name = watched.name;
    add_to(counts_.by_function[name], call, result, net);
    add_to(counts_.by_lane[lane_of(tid)][name], call, result, net);
  }

 private:
  static void add_to(formats::SyscallFigures& f, const Pending& call, std::int64_t result,
                     std::uint64_t net) {
    ++f.count;
    f.failed += result < 0;
    f.total_ns += net;
    f.max_ns = std::max(f.max_ns, net);
    if (call.number != SYS_futex && call.number != SYS_brk && result >= 0)
      f.bytes += call.arguments[1];
  }
  bool is_harness(const Pending& call) const {
    for (const auto& range : shared_->harness_ranges)
      if (call.arguments[0] >= range.from && call.arguments[0] < range.to) return true;
    return false;
  }
  std::string lane_of(pid_t tid) const {
    for (std::uint32_t lane = 0; lane < shared_->lanes; ++lane)
      if (lanes_of(shared_)[lane].tid.load(std::memory_order_relaxed) == tid)
        return std::to_string(lane);
    return "other";  // a thread of the allocator's own
  }

  SharedHeader* shared_;
  formats::SyscallCounts& counts_;
  std::vector<std::uint64_t> calibration_;
};

}  // namespace

ProcessEnd watch_syscalls(pid_t pid, SharedHeader* shared, std::uint64_t timeout_ns,
                          formats::SyscallCounts& counts) {
  ProcessEnd end;
  const long options =
      PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;
  const bool attached = ptrace(PTRACE_SEIZE, pid, nullptr, options) == 0;
  // Release: pairs with the replayer's acquire. Without us it goes on without the filter.
  shared->tracer_state.store(attached ? kTracerReady : kTracerRefused, std::memory_order_release);
  Watchdog watchdog(pid, shared, timeout_ns);
  Counter counter(shared, counts);
  counts.available = attached;
  std::map<pid_t, Pending> pending;
  for (;;) {
    int status = 0;
    const pid_t tid = waitpid(attached ? -1 : pid, &status, __WALL);
    const std::uint64_t now = now_ns();
    if (tid < 0) {
      if (errno == EINTR) continue;
      break;
    }
    if (WIFEXITED(status) || WIFSIGNALED(status)) {
      pending.erase(tid);
      if (tid != pid) continue;
      if (WIFSIGNALED(status)) end.signal = WTERMSIG(status);
      if (WIFEXITED(status)) end.exit_code = WEXITSTATUS(status);
      break;
    }
    if (!WIFSTOPPED(status)) continue;
    const int signal = WSTOPSIG(status), event = status >> 16;
    if (event == PTRACE_EVENT_SECCOMP) {
      __ptrace_syscall_info info = {};
      ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info);
      Pending& call = pending[tid];
      call.number = static_cast<long>(info.seccomp.nr);
      std::copy_n(info.seccomp.args, 6, call.arguments);
      call.began_ns = now_ns();
      ptrace(PTRACE_SYSCALL, tid, nullptr, nullptr);
    } else if (event == 0 && signal == (SIGTRAP | 0x80)) {
      if (const auto it = pending.find(tid); it != pending.end()) {
        __ptrace_syscall_info info = {};
        ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info);
        counter.add(tid, it->second, info.exit.rval, now);
        pending.erase(it);
      }
      ptrace(PTRACE_CONT, tid, nullptr, nullptr);
    } else {
      // A thread's start, a group stop: nothing to deliver. Else a signal that is the process' own.
      ptrace(PTRACE_CONT, tid, nullptr, event != 0 ? 0L : static_cast<long>(signal));
    }
  }
  end.timed_out = watchdog.fired();
  return end;
}

}  // namespace alloctape::simulator
