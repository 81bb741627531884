#include "simulator/replayer/syscall_filter.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <cstddef>
#include <iterator>

namespace alloctape::simulator {

bool install_syscall_filter() {
  constexpr std::size_t kCalls = std::size(kWatchedCalls);
  constexpr int kCalibrations = 101;
  // The process is native and makes native calls: no look at the architecture.
  sock_filter code[kCalls + 3];
  std::size_t n = 0;
  code[n++] = BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr));
  for (std::size_t i = 0; i < kCalls; ++i)
    code[n++] =
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(kWatchedCalls[i].number),
                 static_cast<std::uint8_t>(kCalls - i), 0);
  code[n++] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  code[n++] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
  const sock_fprog program{static_cast<unsigned short>(n), code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) return false;
  for (int i = 0; i < kCalibrations; ++i)
    madvise(reinterpret_cast<void*>(kCalibrationAddress), 0, 12345);
  return true;
}

}  // namespace alloctape::simulator
