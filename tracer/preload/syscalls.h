// System calls without libc: no errno, no cancellation point, no interposition. Each returns the
// kernel's answer, errors as -errno. Async-signal-safe and fork-safe.
#pragma once

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "tracer/preload/law.h"

#ifndef __x86_64__
#error "alloctape's tracer knows x86-64 only so far: port syscalls.h and clock.h"
#endif

namespace alloctape::tracer::sys {

ALLOCTAPE_INLINE long call(long n, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                           long f = 0) {
  long result;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}
template <typename T>
ALLOCTAPE_INLINE long word(T* p) {
  return reinterpret_cast<long>(p);
}

inline long open_at(int dir, const char* path, int flags, int mode) {
  return call(SYS_openat, dir, word(path), flags, mode);
}
inline long open(const char* path, int flags, int mode = 0) {
  return open_at(AT_FDCWD, path, flags, mode);
}
inline long close(int fd) { return call(SYS_close, fd); }
inline long read(int fd, void* p, size_t n) { return call(SYS_read, fd, word(p), n); }
inline long write(int fd, const void* p, size_t n) { return call(SYS_write, fd, word(p), n); }
inline long pwrite(int fd, const void* p, size_t n, uint64_t at) {
  return call(SYS_pwrite64, fd, word(p), n, at);
}
inline long pread(int fd, void* p, size_t n, uint64_t at) {
  return call(SYS_pread64, fd, word(p), n, at);
}
inline long pwritev(int fd, const struct iovec* v, int n, uint64_t at) {
  return call(SYS_pwritev, fd, word(v), n, at, 0);
}
inline long fallocate(int fd, uint64_t at, uint64_t n) {
  return call(SYS_fallocate, fd, 0, static_cast<long>(at), static_cast<long>(n));
}
inline long fstat(int fd, struct stat* st) { return call(SYS_fstat, fd, word(st)); }
inline long fcntl(int fd, int cmd, long arg) { return call(SYS_fcntl, fd, cmd, arg); }
inline long readlink(const char* path, char* buf, size_t n) {
  return call(SYS_readlinkat, AT_FDCWD, word(path), word(buf), n);
}
inline long getcwd(char* buf, size_t n) { return call(SYS_getcwd, word(buf), n); }
inline int getpid() { return static_cast<int>(call(SYS_getpid)); }
inline int getppid() { return static_cast<int>(call(SYS_getppid)); }
inline int gettid() { return static_cast<int>(call(SYS_gettid)); }
inline long getrlimit(int what, struct rlimit* r) {
  return call(SYS_prlimit64, 0, what, 0, word(r));
}
inline long poll(struct pollfd* fds, unsigned n, int milliseconds) {
  return call(SYS_poll, word(fds), n, milliseconds);
}
inline void sched_yield() { call(SYS_sched_yield); }
// The address, or -errno.
inline long map(void* at, size_t n, int prot, int flags, int fd, uint64_t off) {
  return call(SYS_mmap, word(at), static_cast<long>(n), prot, flags, fd, static_cast<long>(off));
}
inline void* mmap(void* at, size_t n, int prot, int flags, int fd, uint64_t off) {
  const long r = map(at, n, prot, flags, fd, off);
  return r < 0 && r > -4096 ? nullptr : reinterpret_cast<void*>(r);
}
inline long munmap(void* p, size_t n) { return call(SYS_munmap, word(p), static_cast<long>(n)); }
inline long madvise(void* p, size_t n, int advice) {
  return call(SYS_madvise, word(p), static_cast<long>(n), advice);
}

// All signals blocked while this lives: nothing of the program runs on this thread meanwhile.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    const uint64_t all = ~uint64_t{0};
    call(SYS_rt_sigprocmask, SIG_SETMASK, word(&all), word(&old_), sizeof all);
  }
  ~SignalsBlocked() { call(SYS_rt_sigprocmask, SIG_SETMASK, word(&old_), 0, sizeof old_); }
  // Takes back a signal that a call of ours has just raised for this thread: SIGPIPE, SIGXFSZ.
  void take_back(int signal) {
    const uint64_t wanted = uint64_t{1} << (signal - 1);
    const struct timespec now = {0, 0};
    call(SYS_rt_sigtimedwait, word(&wanted), 0, word(&now), sizeof wanted);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  uint64_t old_ = 0;
};

}  // namespace alloctape::tracer::sys
