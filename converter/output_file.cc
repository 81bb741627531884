#include "converter/output_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace alloctape::converter {
namespace {

using formats::Error;
using formats::ErrorCode;

// What the signal handler unlinks: it may not touch a std::string. Set (release) once the text is
// whole, read (acquire) by the handler.
char g_temporary[PATH_MAX];
std::atomic<bool> g_temporary_set{false};

void remove_and_die(int signal) {
  if (g_temporary_set.load(std::memory_order_acquire)) ::unlink(g_temporary);
  ::raise(signal);  // SA_RESETHAND: the default action, so that the parent sees the signal
}

void remember(const std::string& path) {
  if (path.size() >= sizeof g_temporary) return;
  std::memcpy(g_temporary, path.c_str(), path.size() + 1);
  g_temporary_set.store(true, std::memory_order_release);
}

Error io_error(const std::string& path, std::string message) {
  return {ErrorCode::kIo, std::move(message), path, {}, {}};
}

}  // namespace

formats::Result<OutputFile> OutputFile::beside(const std::string& target) {
  OutputFile file;
  file.target_ = target;
  if (char* real = ::realpath(target.c_str(), nullptr)) {
    file.target_ = real;
    std::free(real);
    struct stat st {};
    if (::stat(file.target_.c_str(), &st) == 0 && !S_ISREG(st.st_mode)) {
      return io_error(target, "cannot be replaced: it is not a regular file");
    }
  }
  file.temporary_ = file.target_ + "." + std::to_string(::getpid()) + ".tmp";
  remember(file.temporary_);
  return file;
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : target_(std::move(other.target_)), temporary_(std::exchange(other.temporary_, {})) {}

OutputFile::~OutputFile() {
  if (temporary_.empty()) return;
  g_temporary_set.store(false, std::memory_order_release);
  ::unlink(temporary_.c_str());
}

formats::Status OutputFile::commit() {
  if (std::rename(temporary_.c_str(), target_.c_str()) != 0) {
    return io_error(target_, std::string("cannot replace: ") + std::strerror(errno));
  }
  g_temporary_set.store(false, std::memory_order_release);
  temporary_.clear();
  return formats::Nothing{};
}

void OutputFile::remove_on_signals() {
  struct sigaction action {};
  action.sa_handler = remove_and_die;
  action.sa_flags = SA_RESETHAND | SA_NODEFER;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before {};
    ::sigaction(signal, nullptr, &before);
    if (before.sa_handler != SIG_IGN) ::sigaction(signal, &action, nullptr);  // nohup stays nohup
  }
}

}  // namespace alloctape::converter
