#include "tracer/trace_rewrite.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "tracer/process_info.h"

namespace alloctape::tracer {
namespace {

using formats::Error;
using formats::ErrorCode;

Error io_error(const std::string& path, const char* what) {
  return {ErrorCode::kIo, fmt::format("{}: {}", what, std::strerror(errno)), path, {}, {}};
}

// The file itself, so that a link to it stays a link.
std::string real_path(const std::string& path) {
  char* resolved = ::realpath(path.c_str(), nullptr);
  std::string result = resolved != nullptr ? resolved : path;
  std::free(resolved);
  return result;
}

// A file that vanishes unless it gets its name.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& beside)
      : path_(fmt::format("{}.packing-{}", beside, ::getpid())) {
    ::unlink(path_.c_str());  // of an earlier process of our number
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  }
  ~TemporaryFile() {
    if (fd_ >= 0) ::close(fd_);
    if (!named_ && fd_ >= 0) ::unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }
  bool name(const std::string& path) {
    named_ = ::rename(path_.c_str(), path.c_str()) == 0;
    return named_;
  }

 private:
  std::string path_;
  int fd_ = -1;
  bool named_ = false;
};

void sync_directory(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

}  // namespace

bool image_is_running(const wire::TraceHeader& header, const std::string& path) {
  const auto pid = static_cast<pid_t>(header.pid);
  const auto stat = process_stat(pid);
  if (!stat || stat->state == 'Z' || stat->state == 'X') return false;
  if (header.process_start_ticks != 0 && stat->start_ticks != header.process_start_ticks) {
    return false;  // another process has its number by now
  }
  // An image that exec'ed leaves its process behind, and its mappings go.
  const auto mappings = process_mappings(pid);
  struct stat st;
  if (!mappings || mappings->empty() || ::stat(path.c_str(), &st) != 0) return true;
  for (const auto& mapping : *mappings) {
    if (mapping.shared && mapping.inode == st.st_ino) return true;
  }
  return false;
}

formats::Result<formats::PackTotals> rewrite_trace(const formats::TraceFile& trace,
                                                   const RewriteOptions& options) {
  const bool in_place = options.output.empty();
  const std::string target = real_path(in_place ? trace.path() : options.output);
  TemporaryFile file(target);
  if (file.fd() < 0) return io_error(file.path(), "cannot create this file");
  auto totals = formats::write_packed(trace, file.fd(), options.pack);
  if (!totals) {
    Error error = totals.error();
    if (error.path.empty()) error.path = file.path();
    return error;
  }
  struct stat st;
  if (::stat(trace.path().c_str(), &st) == 0) {
    // To another owner first: a mode that lets others in is meant for that one.
    [[maybe_unused]] const int owner = ::fchown(file.fd(), st.st_uid, st.st_gid);
    ::fchmod(file.fd(), st.st_mode & 0777);
  }
  if (options.sync && ::fsync(file.fd()) != 0) {
    return io_error(file.path(), "cannot bring this file to the disk");
  }
  if (in_place && !options.keep_as.empty() &&
      ::link(target.c_str(), options.keep_as.c_str()) != 0) {
    return io_error(options.keep_as, "cannot keep the old trace under this name");
  }
  if (!file.name(target)) return io_error(target, "cannot replace this file");
  if (options.sync) sync_directory(target);
  return totals;
}

}  // namespace alloctape::tracer
