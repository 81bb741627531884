#include "tracer/preload/file.h"

#include <errno.h>
#include <string.h>

#include "tracer/preload/forbidden.h"
#include "tracer/preload/syscalls.h"
#include "tracer/preload/text.h"

namespace alloctape::tracer {

namespace {

constexpr int kHighDescriptors[] = {1000, 500, 200, 60};
constexpr int kMaxNames = 10000;

// Programs count on low descriptor numbers and daemons close them: move ours up.
long move_up(long fd) {
  for (int floor : kHighDescriptors) {
    const long high = sys::fcntl(static_cast<int>(fd), F_DUPFD_CLOEXEC, floor);
    if (high >= 0) {
      sys::close(static_cast<int>(fd));
      return high;
    }
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

// The program may have closed our descriptor, and may have got its number for a file of its own.
bool descriptor_is_ours(const Image* image) { return is_our_file(image, image->fd); }

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

long reopen(Image* image) {
  long fd = sys::open(g_path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return fd;
  if (!is_our_file(image, static_cast<int>(fd))) {
    sys::close(static_cast<int>(fd));
    return -ENOENT;
  }
  fd = move_up(fd);
  __atomic_store_n(&image->fd, static_cast<int>(fd), __ATOMIC_RELAXED);
  return 0;
}

}  // namespace

long ensure_descriptor(Image* image) { return descriptor_is_ours(image) ? 0 : reopen(image); }

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
  if (exceeds_file_size_limit(offset + bytes)) return -EFBIG;
  long r = ensure_descriptor(image);
  if (r < 0) return r;
  while (bytes) {
    r = sys::pwritev(image->fd, parts, count, offset);
    if (r == -EINTR) continue;
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
  long r = ensure_descriptor(image);
  if (r < 0) return r;
  for (uint64_t done = 0; done < bytes; done += r) {
    r = sys::pread(image->fd, static_cast<char*>(to) + done, bytes - done, offset + done);
    if (r == -EINTR)
      r = 0;
    else if (r < 0)
      return r;
    else if (r == 0) {
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
  long r = ensure_descriptor(image);
  if (r < 0) return r;
  r = sys::fallocate(image->fd, offset, bytes);
  if (r != -EOPNOTSUPP && r != -ENOSYS && r != -EINVAL) return r;
  static const char zeros[4096] = {};
  for (uint64_t done = 0; done < bytes; done += sizeof zeros) {
    r = sys::pwrite(image->fd, zeros, sizeof zeros, offset + done);
    if (r < 0) return r;
  }
  return 0;
}

long map_extent(Image* image, uint64_t bytes, void** mapping) {
  const uint64_t offset = claim(image, bytes, image->header->page_bytes);
  const long r = allocate(image, offset, bytes);
  if (r < 0) return r;
  void* p = sys::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, image->fd, offset);
  if (!p) return -ENOMEM;
  sys::madvise(p, bytes, MADV_DONTFORK);
  *mapping = p;
  return 0;
}

}  // namespace alloctape::tracer
