#include "cli/output.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "cli/cli.h"

namespace alloctape::cli {

void Output::flush() {
  const char* at = buffer_.data();
  std::size_t left = buffer_.size();
  while (left > 0) {
    const ssize_t n = ::write(STDOUT_FILENO, at, left);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int error = errno;
      buffer_.clear();
      if (error == EPIPE) throw OutputClosed{};
      fail(std::string("cannot write to standard output: ") + std::strerror(error),
           error == ENOSPC ? "Free some space, or write to another file system." : "");
    }
    at += n;
    left -= static_cast<std::size_t>(n);
  }
  buffer_.clear();
}

}  // namespace alloctape::cli
