// Whether a page fault, or the loss of the CPU, fell into a call, without asking the kernel at
// every call. getrusage(RUSAGE_THREAD) takes about 200 ns; a fault takes several times that. So
// only a stretch of time that is long enough to hold a fault is asked about, and the kernel's
// counters are compared with what they were when last asked: after a long stretch *between* two
// calls (that is where blocks are touched, and lanes wait), and after a long call. Whatever they
// grew by since then belongs to the stretch that has just ended, because all others were too short.
//
// "Long" is half of the cheapest fault that this process has seen at set-up.
#pragma once

#include <sys/resource.h>

#include <cstdint>

namespace alloctape::simulator {

class FaultWatch {
 public:
  struct Counts {
    std::uint32_t faults, switches;
  };
  // What has happened to this thread since it was last asked.
  Counts take() {
    rusage now;
    getrusage(RUSAGE_THREAD, &now);
    const auto faults = static_cast<std::uint64_t>(now.ru_minflt + now.ru_majflt);
    const auto switches = static_cast<std::uint64_t>(now.ru_nvcsw + now.ru_nivcsw);
    const Counts grown{static_cast<std::uint32_t>(faults - faults_),
                       static_cast<std::uint32_t>(switches - switches_)};
    faults_ = faults;
    switches_ = switches;
    return grown;
  }

 private:
  std::uint64_t faults_ = 0, switches_ = 0;
};

}  // namespace alloctape::simulator
