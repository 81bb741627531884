#include "tracer/image_monitor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "tracer/tick_rate.h"

namespace alloctape::tracer {
namespace {

// More samples than this are thinned out, and taken half as often from then on.
constexpr std::size_t kMaxSamples = 4096;
constexpr std::uint64_t kExeCheckNs = 100'000'000;

std::string proc_path(std::uint32_t pid, const char* entry) {
  return fmt::format("/proc/{}/{}", pid, entry);
}

std::uint64_t sample_ticks(wire::ClockKind kind) {
  return kind == wire::ClockKind::kTsc ? TickRate::now_ticks() : TickRate::now_monotonic_ns();
}

// Maps the header page of a trace that some process is writing; nullptr when it is none.
wire::TraceHeader* map_header(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return nullptr;
  struct stat st;
  void* map = MAP_FAILED;
  if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size >= wire::kTraceHeaderBytes) {
    map = mmap(nullptr, wire::kTraceHeaderBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  close(fd);
  if (map == MAP_FAILED) return nullptr;
  auto* header = static_cast<wire::TraceHeader*>(map);
  if (std::memcmp(header->magic, wire::kTraceMagic, sizeof wire::kTraceMagic) == 0) return header;
  munmap(map, wire::kTraceHeaderBytes);
  return nullptr;
}

// Moves the tick of the control word on, so that the next event of each thread reads the clock. A
// command that comes at the same moment wins: it has the same effect.
void tick(wire::TraceHeader* header) {
  std::uint32_t word = __atomic_load_n(&header->control, __ATOMIC_RELAXED);
  if (wire::control_state(word) != wire::ControlState::kRecord) return;
  __atomic_compare_exchange_n(&header->control, &word, wire::control_ticked(word), false,
                              __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

// Keeps every second sample; of each pair the one with more memory, so that peaks stay.
void thin_out(std::vector<wire::RssSample>& samples) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < samples.size(); i += 2) {
    const bool pair = i + 1 < samples.size();
    const bool second = pair && samples[i + 1].anon_bytes > samples[i].anon_bytes;
    samples[kept++] = samples[second ? i + 1 : i];
  }
  samples.resize(kept);
}

bool write_fully(int fd, const std::string& data, std::uint64_t offset) {
  std::size_t done = 0;
  while (done < data.size()) {
    const ssize_t n =
        pwrite(fd, data.data() + done, data.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}

}  // namespace

ImageMonitor::~ImageMonitor() {
  for (auto& [pid, follow] : follows_) {
    if (follow.header != nullptr) munmap(follow.header, wire::kTraceHeaderBytes);
    if (follow.statm >= 0) close(follow.statm);
  }
}

void ImageMonitor::poll() { poll_images(false); }

void ImageMonitor::poll_images(bool all) {
  const std::uint64_t now = TickRate::now_monotonic_ns();
  for (const auto& registration : session_.take_new()) take_in(registration, now);
  for (auto at = follows_.begin(); at != follows_.end();) {
    Follow& follow = at->second;
    ImageEnd how = ImageEnd::kRunning;
    tick(follow.header);
    if (all || now >= follow.next_ns) {
      if (!still_the_program(follow, now)) {
        how = ImageEnd::kExeced;
      } else if (!sample(follow, now)) {
        how = ImageEnd::kGone;
      }
    }
    if (how == ImageEnd::kRunning) {
      ++at;
    } else {
      end(follow, how);
      at = follows_.erase(at);
    }
  }
}

void ImageMonitor::take_in(const RecordSession::Registration& registration, std::uint64_t now_ns) {
  Follow follow;
  follow.image = images_.size();
  Image& image = images_.emplace_back();
  image.pid = registration.pid;
  image.trace_path = registration.trace_path;
  follow.header = map_header(image.trace_path);
  image.readable = follow.header != nullptr;
  // A pid that registers again has exec'ed, or has ended and was given to another process: either
  // way what it was before is over.
  if (const auto older = follows_.find(image.pid); older != follows_.end()) {
    Follow& before = older->second;
    if (follow.header != nullptr && before.header != nullptr &&
        before.header->clock_kind == follow.header->clock_kind) {
      const std::uint64_t start = follow.header->start_ticks;
      std::erase_if(before.samples, [start](const auto& s) { return s.ticks >= start; });
    }
    end(before, ImageEnd::kExeced);
    follows_.erase(older);
  }
  if (follow.header == nullptr) {
    images_.back().end = ImageEnd::kGone;
    return;
  }
  follow.statm = open(proc_path(registration.pid, "statm").c_str(), O_RDONLY | O_CLOEXEC);
  struct stat st;
  if (stat(proc_path(registration.pid, "exe").c_str(), &st) == 0) {
    follow.exe_device = st.st_dev;
    follow.exe_inode = st.st_ino;
  }
  follow.next_exe_check_ns = now_ns + kExeCheckNs;
  follows_.emplace(registration.pid, std::move(follow));
}

// A program that cannot be traced registers no image, but would leave its memory in the samples of
// the image that became it.
bool ImageMonitor::still_the_program(Follow& follow, std::uint64_t now_ns) {
  if (follow.exe_inode == 0 || now_ns < follow.next_exe_check_ns) return true;
  follow.next_exe_check_ns = now_ns + kExeCheckNs;
  struct stat st;
  if (stat(proc_path(images_[follow.image].pid, "exe").c_str(), &st) != 0) return true;
  if (st.st_dev == follow.exe_device && st.st_ino == follow.exe_inode) return true;
  char path[4096];
  const ssize_t n =
      readlink(proc_path(images_[follow.image].pid, "exe").c_str(), path, sizeof path);
  if (n > 0) images_[follow.image].went_on_as.assign(path, static_cast<std::size_t>(n));
  return false;
}

bool ImageMonitor::sample(Follow& follow, std::uint64_t now_ns) {
  static const auto page_bytes = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  follow.next_ns = now_ns + follow.interval_ns;
  char text[128];
  const ssize_t n = follow.statm < 0 ? -1 : pread(follow.statm, text, sizeof text - 1, 0);
  if (n <= 0) return false;
  text[n] = '\0';
  unsigned long long size = 0, resident = 0, shared = 0;
  // A process that has ended but was not waited for has no memory: all figures are 0.
  if (std::sscanf(text, "%llu %llu %llu", &size, &resident, &shared) != 3 || size == 0)
    return false;
  const std::uint64_t anon = resident > shared ? (resident - shared) * page_bytes : 0;
  follow.samples.push_back({sample_ticks(follow.header->clock_kind), anon, size * page_bytes});
  follow.last_anon_bytes = anon;
  images_[follow.image].anon_bytes = anon;
  if (follow.samples.size() > kMaxSamples) {
    thin_out(follow.samples);
    follow.interval_ns *= 2;
  }
  return true;
}

void ImageMonitor::end(Follow& follow, ImageEnd how) {
  Image& image = images_[follow.image];
  image.end = how;
  for (const auto& s : follow.samples) {
    image.peak_anon_bytes = std::max(image.peak_anon_bytes, s.anon_bytes);
  }
  image.samples = follow.samples.size();
  append_samples(follow);
  if (how != ImageEnd::kRunning) {
    ended_bytes_ += __atomic_load_n(&follow.header->file_end, __ATOMIC_RELAXED);
  }
  munmap(follow.header, wire::kTraceHeaderBytes);
  if (follow.statm >= 0) close(follow.statm);
  follow.header = nullptr;
  follow.statm = -1;
}

void ImageMonitor::append_samples(Follow& follow) {
  if (follow.samples.empty()) return;
  Image& image = images_[follow.image];
  wire::TraceHeader& header = *follow.header;
  const int fd = open(image.trace_path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  wire::TraceHeader on_disk;
  if (fd < 0 || pread(fd, &on_disk, sizeof on_disk, 0) != sizeof on_disk ||
      on_disk.image_id != header.image_id) {
    warnings_.push_back(
        fmt::format("{} was removed or replaced while it was recorded: its memory samples are lost",
                    image.trace_path));
    if (fd >= 0) close(fd);
    return;
  }
  const auto* samples = reinterpret_cast<const char*>(follow.samples.data());
  const std::size_t sample_bytes = follow.samples.size() * sizeof(wire::RssSample);
  wire::BlockHeader block{};
  block.magic = wire::kBlockMagic;
  block.type = wire::BlockType::kRss;
  block.payload_bytes = sample_bytes;
  block.first_stamp = follow.samples.front().ticks >> header.clock_shift;
  std::string data(reinterpret_cast<const char*>(&block), sizeof block);
  data.append(samples, sample_bytes);
  data.resize((data.size() + wire::kBlockAlign - 1) / wire::kBlockAlign * wire::kBlockAlign);
  // An image that lives on claims space too, hence the same atomic add (relaxed: it orders nothing,
  // each claimed range has one owner). A failed write leaves a hole of zeros, which readers step
  // over.
  const std::uint64_t offset = __atomic_fetch_add(&header.file_end, data.size(), __ATOMIC_RELAXED);
  if (offset % wire::kBlockAlign != 0 || !write_fully(fd, data, offset)) {
    warnings_.push_back(fmt::format("cannot append the memory samples to {}: {}", image.trace_path,
                                    std::strerror(errno)));
    image.samples = 0;
  }
  close(fd);
}

void ImageMonitor::finish(std::uint64_t ticks_per_second) {
  poll_images(true);
  for (auto& [pid, follow] : follows_) end(follow, ImageEnd::kRunning);
  follows_.clear();
  for (const Image& image : images_) {
    if (!image.readable) continue;
    wire::TraceHeader* header = map_header(image.trace_path);
    if (header == nullptr) continue;
    if (__atomic_load_n(&header->ticks_per_second, __ATOMIC_RELAXED) == 0) {
      const bool tsc = header->clock_kind == wire::ClockKind::kTsc;
      __atomic_store_n(&header->ticks_per_second, tsc ? ticks_per_second : 1'000'000'000,
                       __ATOMIC_RELAXED);
    }
    munmap(header, wire::kTraceHeaderBytes);
  }
}

ImageMonitor::Live ImageMonitor::live() const {
  Live live;
  live.bytes = ended_bytes_;
  for (const auto& [pid, follow] : follows_) {
    live.bytes += __atomic_load_n(&follow.header->file_end, __ATOMIC_RELAXED);
    live.anon_bytes += follow.last_anon_bytes;
    ++live.alive;
  }
  return live;
}

}  // namespace alloctape::tracer
