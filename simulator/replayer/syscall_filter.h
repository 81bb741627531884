// Which system calls `--syscalls` looks at, and the filter that stops at them and at no others.
#pragma once

#include <sys/syscall.h>

#include <cstdint>

namespace alloctape::simulator {

struct WatchedCall {
  long number;
  const char* name;
};
inline constexpr WatchedCall kWatchedCalls[] = {
    {SYS_brk, "brk"},         {SYS_mmap, "mmap"},       {SYS_munmap, "munmap"},
    {SYS_mremap, "mremap"},   {SYS_madvise, "madvise"}, {SYS_mprotect, "mprotect"},
    {SYS_mincore, "mincore"}, {SYS_futex, "futex"},
};
// madvise at this address is the calibration: it fails at once.
inline constexpr std::uint64_t kCalibrationAddress = 1;

// Installs the filter for this thread and those that it will start, and makes the calls of the
// calibration. REQUIRES: a tracer is attached; without one the calls would fail.
bool install_syscall_filter();

}  // namespace alloctape::simulator
