#include "tracer/live_trace.h"

#include <unistd.h>

#include <cerrno>

namespace alloctape::tracer {

bool set_control(wire::TraceHeader* header, wire::ControlState state) {
  const bool keep = state == wire::ControlState::kNone;
  std::uint32_t old = __atomic_load_n(&header->control, __ATOMIC_RELAXED), word;
  do {
    const auto current = wire::control_state(old);
    if (current == wire::ControlState::kNone || (!keep && current == state)) return false;
    word = wire::control_word(wire::control_generation(old) + 1, keep ? current : state);
    // Relaxed: the word orders nothing. Each thread obeys when it sees it, and says so in its
    // stream.
  } while (!__atomic_compare_exchange_n(&header->control, &old, word, true, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED));
  return true;
}

bool append_block(int fd, wire::TraceHeader* header, std::string block) {
  block.resize((block.size() + wire::kBlockAlign - 1) / wire::kBlockAlign * wire::kBlockAlign);
  // The program claims space the same way; each range has one owner, and nothing is ordered by it.
  const std::uint64_t offset =
      __atomic_fetch_add(&header->file_end, block.size(), __ATOMIC_RELAXED);
  if (offset % wire::kBlockAlign != 0) {
    errno = EINVAL;  // no header of ours
    return false;
  }
  return write_fully(fd, block.data(), block.size(), offset);
}

bool read_fully(int fd, void* data, std::size_t bytes, std::uint64_t offset) {
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t n =
        pread(fd, static_cast<char*>(data) + done, bytes - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n == 0) errno = ENODATA;
    if (n <= 0) return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}

bool write_fully(int fd, const void* data, std::size_t bytes, std::uint64_t offset) {
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t n = pwrite(fd, static_cast<const char*>(data) + done, bytes - done,
                             static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}

}  // namespace alloctape::tracer
