#include "tracer/preload/file.h"

#include <errno.h>
#include <string.h>

#include "tracer/preload/syscalls.h"
#include "tracer/preload/text.h"

#include "tracer/preload/forbidden.h"

namespace alloctape::tracer {

namespace {

constexpr int kHighDescriptors[] = {1000, 500, 200, 60};
constexpr int kMaxNames = 10000;
// A program that closes descriptors in a loop may get in between looking at ours and using it.
constexpr int kTries = 100;

// Programs count on low descriptor numbers and daemons close them: move ours up.
long move_up(long fd) {
  for (int floor : kHighDescriptors) {
    const long high = sys::fcntl(static_cast<int>(fd), F_DUPFD_CLOEXEC, floor);
    if (high >= 0) {
      sys::close(static_cast<int>(fd));
      return high;
    }
  }
  // Few are allowed: the last of them.
  struct rlimit limit;
  if (sys::getrlimit(RLIMIT_NOFILE, &limit) < 0) return fd;
  for (long floor = static_cast<long>(limit.rlim_cur) - 1; floor > fd; --floor) {
    const long high = sys::fcntl(static_cast<int>(fd), F_DUPFD_CLOEXEC, floor);
    if (high < 0) continue;
    sys::close(static_cast<int>(fd));
    return high;
  }
  return fd;
}

// %p pid, %e executable, %% percent; anything else stays.
void expand_pattern(Text& out, const char* pattern) {
  char exe[1024];
  long n = sys::readlink("/proc/self/exe", exe, sizeof exe - 1);
  exe[n > 0 ? n : 0] = 0;
  const char* slash = strrchr(exe, '/');
  const char* name = n > 0 ? (slash ? slash + 1 : exe) : "unknown";
  for (const char* p = pattern; *p; ++p) {
    if (*p != '%' || !p[1]) {
      out.add(p, 1);
      continue;
    }
    ++p;
    if (*p == 'p')
      out.add(static_cast<uint64_t>(sys::getpid()));
    else if (*p == 'e')
      out.add(name);
    else if (*p == '%')
      out.add("%");
    else
      out.add(p - 1, 2);
  }
}

bool is_our_file(const Image* image, int fd) {
  struct stat st;
  return sys::fstat(fd, &st) == 0 && st.st_dev == image->device && st.st_ino == image->inode;
}

// What `record` has given back to the file system once it was packed does not count.
bool exceeds_max_size(const Image* image, uint64_t end) {
  const wire::TraceHeader* h = image->header;
  return h && h->max_bytes &&
         end - __atomic_load_n(&h->released_bytes, __ATOMIC_RELAXED) > h->max_bytes;
}

bool exceeds_file_size_limit(uint64_t end) {
  struct rlimit limit;
  return sys::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
         end > limit.rlim_cur;
}

char g_path[4096];  // of the image's trace, to open it again; in a fork child, rewritten by the
                    // child

// Under the same number where that is free, since a thread may have a table of descriptors of its
// own (unshare), and the number is one for all tables. Threads that get here at once end up with
// one descriptor.
long reopen(Image* image, int old) {
  long fd = sys::open(g_path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return fd;
  if (!is_our_file(image, static_cast<int>(fd))) {
    sys::close(static_cast<int>(fd));
    return -ENOENT;
  }
  const long at_old = sys::fcntl(static_cast<int>(fd), F_DUPFD_CLOEXEC, old);
  if (at_old >= 0) {
    sys::close(static_cast<int>(fd));
    fd = at_old;
  } else {
    fd = move_up(fd);
  }
  int known = old;
  if (fd == old || (!is_our_file(image, old) &&
                    (__atomic_compare_exchange_n(&image->fd, &known, static_cast<int>(fd), false,
                                                 __ATOMIC_RELAXED, __ATOMIC_RELAXED) ||
                     !is_our_file(image, known)))) {
    __atomic_store_n(&image->fd, static_cast<int>(fd), __ATOMIC_RELAXED);
    return fd;
  }
  sys::close(static_cast<int>(fd));
  return known;
}

// Calls op(descriptor), again where the descriptor was closed just before.
template <typename Op>
long on_file(Image* image, Op op) {
  long r = -EBADF;
  for (int i = 0; i < kTries && r == -EBADF; ++i) {
    r = ensure_descriptor(image);
    if (r >= 0) r = op(static_cast<int>(r));
    if (r == -EINTR) r = -EBADF;
  }
  return r;
}

}  // namespace

// The program may have closed our descriptor, and may have got its number for a file of its own.
long ensure_descriptor(Image* image) {
  const int fd = __atomic_load_n(&image->fd, __ATOMIC_RELAXED);
  return is_our_file(image, fd) ? fd : reopen(image, fd);
}

long create_trace_file(char* path, size_t path_capacity, uint32_t* sequence) {
  for (uint32_t i = 0; i < kMaxNames; ++i) {
    Text name(path, path_capacity);
    expand_pattern(name, g_config.output);
    if (i) name.add(".").add(uint64_t{i});
    if (name.truncated()) return -ENAMETOOLONG;
    const long fd = sys::open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd == -EEXIST) continue;
    if (fd < 0) return fd;
    *sequence = i;
    Text(g_path, sizeof g_path).add(path);
    return move_up(fd);
  }
  return -EEXIST;
}

uint64_t claim(Image* image, uint64_t bytes, uint64_t alignment) {
  uint64_t* end = &image->header->file_end;
  uint64_t old = __atomic_load_n(end, __ATOMIC_RELAXED);
  for (;;) {
    const uint64_t start = (old + alignment - 1) & ~(alignment - 1);
    const uint64_t next =
        (start + bytes + wire::kBlockAlign - 1) & ~uint64_t{wire::kBlockAlign - 1};
    // Relaxed: the range is exclusive by the atomicity of the swap alone.
    if (__atomic_compare_exchange_n(end, &old, next, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
      return start;
  }
}

long write_at(Image* image, struct iovec* parts, int count, uint64_t offset) {
  uint64_t bytes = 0;
  for (int i = 0; i < count; ++i) bytes += parts[i].iov_len;
  if (exceeds_max_size(image, offset + bytes)) return kMaxSizeReached;
  sys::SignalsBlocked signals;
  while (bytes) {
    if (exceeds_file_size_limit(offset + bytes)) return -EFBIG;
    long r = on_file(image, [&](int fd) { return sys::pwritev(fd, parts, count, offset); });
    if (r == -EFBIG) signals.take_back(SIGXFSZ);
    if (r < 0) return r;
    if (r == 0) return -EIO;
    bytes -= r;
    offset += r;
    while (count && static_cast<size_t>(r) >= parts->iov_len) {
      r -= parts->iov_len;
      ++parts;
      --count;
    }
    if (count) {
      parts->iov_base = static_cast<char*>(parts->iov_base) + r;
      parts->iov_len -= r;
    }
  }
  return 0;
}

long read_at(Image* image, void* to, uint64_t bytes, uint64_t offset) {
  long r;
  for (uint64_t done = 0; done < bytes; done += r) {
    r = on_file(image, [&](int fd) {
      return sys::pread(fd, static_cast<char*>(to) + done, bytes - done, offset + done);
    });
    if (r < 0) return r;
    if (r == 0) {
      memset(static_cast<char*>(to) + done, 0, bytes - done);
      return 0;
    }
  }
  return 0;
}

// File systems without fallocate get zeros written.
long allocate(Image* image, uint64_t offset, uint64_t bytes) {
  if (exceeds_max_size(image, offset + bytes)) return kMaxSizeReached;
  if (exceeds_file_size_limit(offset + bytes)) return -EFBIG;
  sys::SignalsBlocked signals;
  long r = on_file(image, [&](int fd) { return sys::fallocate(fd, offset, bytes); });
  if (r == -EOPNOTSUPP || r == -ENOSYS || r == -EINVAL) {
    static const char zeros[4096] = {};
    r = 0;
    for (uint64_t done = 0; done < bytes && r >= 0; done += sizeof zeros)
      r = on_file(image,
                  [&](int fd) { return sys::pwrite(fd, zeros, sizeof zeros, offset + done); });
  }
  if (r == -EFBIG) signals.take_back(SIGXFSZ);
  return r < 0 ? r : 0;
}

long map_extent(Image* image, uint64_t bytes, void** mapping) {
  const uint64_t offset = claim(image, bytes, image->header->page_bytes);
  long r = allocate(image, offset, bytes);
  if (r < 0) return r;
  r = on_file(image, [&](int fd) {
    const long at = sys::map(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
    if (at < 0 && at > -4096) return at;
    // Had the number become another file's in between, that file would be what is mapped.
    if (is_our_file(image, fd)) return at;
    sys::munmap(reinterpret_cast<void*>(at), bytes);
    return long{-EBADF};
  });
  if (r < 0) return r;
  void* p = reinterpret_cast<void*>(r);
  sys::madvise(p, bytes, MADV_DONTFORK);
  *mapping = p;
  return 0;
}

}  // namespace alloctape::tracer
