#include "tracer/record_session.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "cli/cli.h"
#include "cli/units.h"

namespace alloctape::tracer {
namespace {

constexpr std::size_t kFileBytes =
    sizeof(wire::SessionHeader) + std::size_t{wire::kSessionSlots} * sizeof(wire::SessionSlot);

std::string temporary_folder() {
  const char* folder = std::getenv("TMPDIR");
  return folder && folder[0] == '/' ? folder : "/tmp";
}

}  // namespace

RecordSession::RecordSession() {
  path_ = temporary_folder() + "/alloctape-session.XXXXXX";
  const auto give_up = [this](const char* doing) {
    const int error = errno;
    if (map_ == nullptr) unlink(path_.c_str());
    cli::fail(fmt::format("cannot {} the session file {}: {}", doing, path_, std::strerror(error)),
              "set TMPDIR to a directory that can be written to");
  };
  // Beyond the limit, ftruncate would raise SIGXFSZ.
  rlimit limit{};
  if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < kFileBytes) {
    cli::fail(fmt::format("files may have {} here (ulimit -f), and the session file needs {}",
                          cli::bytes(limit.rlim_cur), cli::bytes(kFileBytes)),
              "raise the limit, and limit the traces by --max-size");
  }
  const int fd = mkostemp(path_.data(), O_CLOEXEC);  // mode 0600
  if (fd < 0) give_up("create");
  // Sparse: only the slots that are used take space.
  if (ftruncate(fd, kFileBytes) != 0) give_up("size");
  void* map = mmap(nullptr, kFileBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) give_up("map");
  close(fd);
  map_ = map;
  std::memcpy(header().magic, wire::kSessionMagic, sizeof wire::kSessionMagic);
}

RecordSession::~RecordSession() {
  if (map_ != nullptr) munmap(map_, kFileBytes);
  unlink(path_.c_str());
}

wire::SessionHeader& RecordSession::header() const {
  return *static_cast<wire::SessionHeader*>(map_);
}

wire::SessionSlot& RecordSession::slot(std::uint32_t index) const {
  auto* first =
      reinterpret_cast<wire::SessionSlot*>(static_cast<char*>(map_) + sizeof(wire::SessionHeader));
  return first[index];
}

void RecordSession::set_ticks_per_second(std::uint64_t rate) {
  // Relaxed: one self-contained number, read by images when they start.
  __atomic_store_n(&header().ticks_per_second, rate, __ATOMIC_RELAXED);
}

void RecordSession::set_initial_state(wire::ControlState state) {
  __atomic_store_n(&header().initial_state, static_cast<std::uint32_t>(state), __ATOMIC_RELAXED);
}

std::vector<RecordSession::Registration> RecordSession::take_new() {
  const std::uint32_t claimed =
      std::min(__atomic_load_n(&header().next_slot, __ATOMIC_RELAXED), wire::kSessionSlots);
  while (seen_ < claimed) pending_.push_back(seen_++);
  std::vector<Registration> found;
  std::vector<std::uint32_t> still_pending;
  for (const std::uint32_t index : pending_) {
    wire::SessionSlot& s = slot(index);
    // Acquire: pairs with the image's release store of `ready`, after pid and path.
    if (__atomic_load_n(&s.ready, __ATOMIC_ACQUIRE) == 0) {
      still_pending.push_back(index);
      continue;
    }
    found.push_back({index, s.pid, std::string(s.path, strnlen(s.path, sizeof s.path))});
  }
  pending_.swap(still_pending);
  return found;
}

std::uint32_t RecordSession::unregistered() const {
  const std::uint32_t claimed = __atomic_load_n(&header().next_slot, __ATOMIC_RELAXED);
  return claimed > wire::kSessionSlots ? claimed - wire::kSessionSlots : 0;
}

}  // namespace alloctape::tracer
