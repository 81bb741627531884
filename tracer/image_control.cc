#include "tracer/image_control.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <optional>
#include <utility>

#include "tracer/live_trace.h"
#include "tracer/process_info.h"
#include "tracer/tick_rate.h"

namespace alloctape::tracer {
namespace {

using Kind = ControlError::Kind;

constexpr char kTracerLibrary[] = "liballoctape-preload.so";
// Longer than any call needs from its look at the control word to the end of its record.
constexpr timespec kCallsEnd = {0, 2'000'000};

[[noreturn]] void fail(Kind kind, std::string what, std::string remedy = {}) {
  throw ControlError{kind, std::move(what), std::move(remedy)};
}

// Opens a regular file that goes by such a name; -1 if that is none, or not allowed. Looked at
// before it is opened: a process may map devices, which act when they are opened.
int open_regular(const std::string& path) {
  struct stat st;
  if (stat(path.c_str(), &st) != 0) return -1;
  if (!S_ISREG(st.st_mode)) {
    errno = EINVAL;
    return -1;
  }
  return open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK);
}

std::string no_such_process(pid_t pid) { return fmt::format("there is no process {}", pid); }

bool same_inode(const std::string& path, std::uint64_t inode) {
  struct stat st;
  return stat(path.c_str(), &st) == 0 && st.st_ino == inode;
}

// A mapped file, whatever became of its name and whichever mount namespace it has one in. The
// kernel lets only the privileged go by the mapping itself; others may have it by the descriptor
// that the tracer keeps, or by its name as the process sees it.
int open_mapped(pid_t pid, const Mapping& mapping) {
  int fd =
      open_regular(fmt::format("/proc/{}/map_files/{:x}-{:x}", pid, mapping.start, mapping.end));
  if (fd >= 0) return fd;
  const std::string by_name = fmt::format("/proc/{}/root{}", pid, mapping.path);
  if (same_inode(by_name, mapping.inode)) return open_regular(by_name);
  for (const int number : open_descriptors(pid)) {
    const std::string by_descriptor = fmt::format("/proc/{}/fd/{}", pid, number);
    if (same_inode(by_descriptor, mapping.inode)) return open_regular(by_descriptor);
  }
  return -1;
}

bool is_header(const wire::TraceHeader& h) {
  return std::memcmp(h.magic, wire::kTraceMagic, sizeof h.magic) == 0 &&
         h.version == wire::kTraceVersion && h.header_bytes == wire::kTraceHeaderBytes;
}

[[noreturn]] void fail_unreadable(pid_t pid, int error) {
  if (error == ENOENT || error == ESRCH) fail(Kind::kNoProcess, no_such_process(pid));
  if (error == EACCES || error == EPERM) {
    fail(Kind::kNoPermission,
         fmt::format("process {} ({}) belongs to another user, or is protected", pid,
                     program_name(pid)),
         "run this as that user, or as root");
  }
  fail(Kind::kFailed, fmt::format("cannot look into process {}: {}", pid, std::strerror(error)));
}

[[noreturn]] void fail_not_traced(pid_t pid, bool tracer_loaded) {
  const std::string who = fmt::format("process {} ({})", pid, program_name(pid));
  if (tracer_loaded) {
    fail(Kind::kNotTraced, who + " has the tracer in it, but no trace",
         "it could not create one, or made no call yet: look for the tracer's line on its stderr");
  }
  fail(Kind::kNotTraced, who + " is not being traced",
       fmt::format("it was started without the tracer (alloctape record -- PROGRAM); `alloctape "
                   "doctor {}` tells what can be done",
                   pid));
}

}  // namespace

std::vector<ImageControl> ImageControl::of_process(pid_t pid) {
  const auto ids = process_ids(pid);
  const auto stat = ids ? process_stat(ids->process) : std::nullopt;
  if (!stat) fail(Kind::kNoProcess, no_such_process(pid));
  if (stat->state == 'Z' || stat->state == 'X') {
    fail(Kind::kEnded, fmt::format("process {} has ended", pid),
         "its trace is complete: alloctape info FILE");
  }
  const auto mappings = process_mappings(ids->process);
  if (!mappings) fail_unreadable(pid, errno);

  std::vector<ImageControl> images;
  bool tracer_loaded = false, refused = false;
  for (const Mapping& mapping : *mappings) {
    tracer_loaded = tracer_loaded || mapping.path.find(kTracerLibrary) != std::string::npos;
    if (!mapping.shared || mapping.offset != 0 || mapping.inode == 0) continue;
    const int fd = open_mapped(ids->process, mapping);
    if (fd < 0) {
      refused = refused || errno == EACCES || errno == EPERM;
      continue;
    }
    ImageControl image = map(fd, ids->process, mapping.path);
    // Others map a trace too: `record`, readers, a vfork child that still has its parent's memory.
    if (image.header_ == nullptr || image.header_->pid != static_cast<std::uint32_t>(ids->inner) ||
        image.header_->process_start_ticks != stat->start_ticks) {
      continue;
    }
    images.push_back(std::move(image));
  }
  if (images.empty() && refused) fail_unreadable(pid, EACCES);
  if (images.empty()) fail_not_traced(ids->process, tracer_loaded);
  return images;
}

ImageControl ImageControl::of_trace(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) {
    fail(Kind::kFailed, fmt::format("cannot open {}: {}", path, std::strerror(errno)));
  }
  ImageControl image = map(fd, 0, path);
  if (image.header_ == nullptr) fail(Kind::kFailed, path + " is no trace");
  image.pid_ = static_cast<pid_t>(image.header_->pid);
  return image;
}

// Takes the descriptor. header_ stays null when the file is no trace.
ImageControl ImageControl::map(int fd, pid_t pid, std::string path) {
  ImageControl image;
  image.fd_ = fd;
  image.pid_ = pid;
  image.path_ = std::move(path);
  struct stat st;
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < wire::kTraceHeaderBytes) {
    return image;
  }
  void* page = mmap(nullptr, wire::kTraceHeaderBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (page == MAP_FAILED) return image;
  if (is_header(*static_cast<wire::TraceHeader*>(page))) {
    image.header_ = static_cast<wire::TraceHeader*>(page);
  } else {
    munmap(page, wire::kTraceHeaderBytes);
  }
  return image;
}

ImageControl::ImageControl(ImageControl&& other) noexcept { *this = std::move(other); }

ImageControl& ImageControl::operator=(ImageControl&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(header_, other.header_);
  return *this;
}

ImageControl::~ImageControl() {
  if (header_ != nullptr) munmap(header_, wire::kTraceHeaderBytes);
  if (fd_ >= 0) close(fd_);
}

wire::ControlState ImageControl::commanded() const {
  return wire::control_state(__atomic_load_n(&header_->control, __ATOMIC_RELAXED));
}

std::uint64_t ImageControl::now_stamp() const {
  const bool tsc = header_->clock_kind == wire::ClockKind::kTsc;
  return (tsc ? TickRate::now_ticks() : TickRate::now_monotonic_ns()) >> header_->clock_shift;
}

bool ImageControl::command(wire::ControlState state) const {
  const bool on = state == wire::ControlState::kRecord;
  if (on && __atomic_load_n(&header_->state, __ATOMIC_RELAXED) == wire::TraceState::kStopped) {
    fail(Kind::kEnded,
         fmt::format("the recording of process {} ended at a limit ({}) and cannot go on", pid_,
                     std::strerror(static_cast<int>(header_->stop_errno))),
         "start the program anew, with more space");
  }
  return set_control(header_, state);
}

void ImageControl::reset() const {
  // First the command, so that threads tell sizes of what they release; then the stamp, so that
  // what counts was recorded by threads that knew.
  set_control(header_, wire::ControlState::kNone);
  nanosleep(&kCallsEnd, nullptr);
  __atomic_store_n(&header_->reset_stamp, now_stamp(), __ATOMIC_RELAXED);
}

// Buffers that are being filled are pages of the file too: nothing need be asked of the process.
void ImageControl::sync() const {
  if (fdatasync(fd_) == 0) return;
  fail(Kind::kFailed, fmt::format("cannot sync {}: {}", path_, std::strerror(errno)));
}

void ImageControl::mark(const std::string& text) const {
  wire::BlockHeader block{};
  block.magic = wire::kBlockMagic;
  block.type = wire::BlockType::kMark;
  block.payload_bytes = sizeof(wire::MarkEntry) + text.size();
  block.first_stamp = now_stamp();
  const wire::MarkEntry entry{block.first_stamp, 0, static_cast<std::uint32_t>(text.size())};
  std::string data(reinterpret_cast<const char*>(&block), sizeof block);
  data.append(reinterpret_cast<const char*>(&entry), sizeof entry);
  data += text;
  if (!append_block(fd_, header_, std::move(data))) {
    fail(Kind::kFailed,
         fmt::format("cannot append the mark to {}: {}", path_, std::strerror(errno)));
  }
}

}  // namespace alloctape::tracer
