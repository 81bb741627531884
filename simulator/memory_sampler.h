// What the kernel says about this process' memory, without allocating: a pread of an open
// /proc/self/statm (under a microsecond), and smaps_rollup (some tens of them) where a figure is to
// be reported. Kernels 6.2 to 6.16 keep the counters behind statm per CPU: it may then lag by some
// dozens of pages; smaps_rollup walks the page tables and does not.
//
// Thread safety: sample() may be called from any thread.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

namespace alloctape::simulator {

struct MemoryFigures {
  std::uint64_t anon_bytes = 0;
  std::uint64_t vm_bytes = 0;
};

class MemorySampler {
 public:
  // Of the process `statm_fd` belongs to; -1 gives zeros.
  MemorySampler(int statm_fd, std::uint64_t page_bytes) : fd_(statm_fd), page_(page_bytes) {}

  // Anonymous memory is resident less shared, where "shared" is file pages and shmem.
  MemoryFigures sample() const {
    char text[160];
    const ssize_t n = pread(fd_, text, sizeof text - 1, 0);
    if (n <= 0) return {};
    text[n] = 0;
    std::uint64_t fields[3] = {};
    const char* p = text;
    for (std::uint64_t& field : fields) {
      while (*p == ' ') ++p;
      while (*p >= '0' && *p <= '9') field = field * 10 + static_cast<std::uint64_t>(*p++ - '0');
    }
    const std::uint64_t anon = fields[1] > fields[2] ? fields[1] - fields[2] : 0;
    return {anon * page_, fields[0] * page_};
  }

 private:
  int fd_;
  std::uint64_t page_;
};

// Bytes of a "Name:   123 kB" line of smaps_rollup text; 0 when it is not there.
inline std::uint64_t smaps_field(const char* text, const char* name) {
  const std::size_t length = std::strlen(name);
  for (const char* line = text; line != nullptr && *line;) {
    if (std::strncmp(line, name, length) == 0) {
      std::uint64_t kib = 0;
      const char* p = line + length;
      while (*p == ' ') ++p;
      while (*p >= '0' && *p <= '9') kib = kib * 10 + static_cast<std::uint64_t>(*p++ - '0');
      return kib * 1024;
    }
    line = std::strchr(line, '\n');
    if (line != nullptr) ++line;
  }
  return 0;
}

// Reads a small file of /proc into `text`, zero-terminated; false when it cannot be read.
inline bool read_proc_file(const char* path, char* text, std::size_t capacity) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  std::size_t have = 0;
  for (ssize_t n; have + 1 < capacity && (n = read(fd, text + have, capacity - 1 - have)) > 0;)
    have += static_cast<std::size_t>(n);
  close(fd);
  text[have] = 0;
  return have > 0;
}

}  // namespace alloctape::simulator
