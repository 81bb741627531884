#include "tracer/process_view.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>

namespace alloctape::tracer {
namespace {

// More than any real process has: a process's memory is its own to fill with nonsense.
constexpr int kMaxLoadedObjects = 8192, kMaxProgramHeaders = 256, kMaxDynamicEntries = 1024;

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::optional<std::string> read_link(const std::string& path) {
  char buffer[PATH_MAX];
  const ssize_t n = readlink(path.c_str(), buffer, sizeof buffer);
  if (n < 0) return std::nullopt;
  return std::string(buffer, static_cast<std::size_t>(n));
}

std::vector<std::string> split_at_zeros(const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\0', at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

// The value of "KEY:\tVALUE" in a status file.
std::string field_of(const std::string& status, const std::string& key) {
  std::istringstream lines(status);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(key + ":")) continue;
    const std::size_t at = line.find_first_not_of(" \t", key.size() + 1);
    return at == std::string::npos ? "" : line.substr(at);
  }
  return {};
}

std::string service_unit(const std::string& cgroups) {
  std::istringstream lines(cgroups);
  for (std::string line; std::getline(lines, line);) {
    const std::string last = line.substr(line.rfind('/') + 1);
    // A user's own processes live in user@1000.service without being it.
    if (last.ends_with(".service") && !last.starts_with("user@")) return last;
  }
  return {};
}

bool same_file(const std::string& a, const std::string& b) {
  struct stat left, right;
  if (stat(a.c_str(), &left) != 0 || stat(b.c_str(), &right) != 0) return true;  // cannot tell
  return left.st_dev == right.st_dev && left.st_ino == right.st_ino;
}

std::map<std::uint64_t, std::uint64_t> auxiliary_vector(const std::string& bytes) {
  std::map<std::uint64_t, std::uint64_t> values;
  for (std::size_t at = 0; at + sizeof(Elf64_auxv_t) <= bytes.size(); at += sizeof(Elf64_auxv_t)) {
    Elf64_auxv_t entry;
    std::memcpy(&entry, bytes.data() + at, sizeof entry);
    values[entry.a_type] = entry.a_un.a_val;
  }
  return values;
}

// Another process's memory, through /proc/PID/mem.
class Memory {
 public:
  explicit Memory(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~Memory() {
    if (fd_ >= 0) close(fd_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  template <typename T>
  bool read(std::uint64_t address, T& to) const {
    return fd_ >= 0 && pread(fd_, &to, sizeof to, static_cast<off_t>(address)) == sizeof to;
  }
  std::string text(std::uint64_t address) const {
    // Byte by byte near the end of a mapping would be slow for all; a short read is no failure.
    char buffer[PATH_MAX];
    const ssize_t n = fd_ < 0 ? -1 : pread(fd_, buffer, sizeof buffer, static_cast<off_t>(address));
    return n <= 0 ? std::string{}
                  : std::string(buffer, strnlen(buffer, static_cast<std::size_t>(n)));
  }

 private:
  int fd_;
};

// Where the loader keeps its list, for debuggers: DT_DEBUG of the executable's dynamic section.
std::uint64_t debug_address(const Memory& memory, std::uint64_t headers, std::uint64_t count) {
  std::uint64_t bias = 0, dynamic = 0;
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>(count, kMaxProgramHeaders); ++i) {
    Elf64_Phdr segment;
    if (!memory.read(headers + i * sizeof segment, segment)) return 0;
    if (segment.p_type == PT_PHDR) bias = headers - segment.p_vaddr;
    if (segment.p_type == PT_DYNAMIC) dynamic = segment.p_vaddr;
  }
  if (dynamic == 0) return 0;
  for (std::uint64_t i = 0; i < kMaxDynamicEntries; ++i) {
    Elf64_Dyn entry;
    if (!memory.read(bias + dynamic + i * sizeof entry, entry) || entry.d_tag == DT_NULL) return 0;
    if (entry.d_tag == DT_DEBUG) return entry.d_un.d_ptr;
  }
  return 0;
}

std::vector<std::string> loaded_files(const Memory& memory,
                                      const std::map<std::uint64_t, std::uint64_t>& auxv,
                                      const std::string& executable) {
  const auto value = [&auxv](std::uint64_t key) {
    const auto found = auxv.find(key);
    return found == auxv.end() ? 0 : found->second;
  };
  r_debug debug;
  const std::uint64_t at = debug_address(memory, value(AT_PHDR), value(AT_PHNUM));
  if (at == 0 || !memory.read(at, debug)) return {};
  std::vector<std::string> files;
  auto next = reinterpret_cast<std::uint64_t>(debug.r_map);
  for (int i = 0; i < kMaxLoadedObjects && next != 0; ++i) {
    link_map object;
    if (!memory.read(next, object)) break;
    next = reinterpret_cast<std::uint64_t>(object.l_next);
    const std::string name =
        i == 0 ? executable : memory.text(reinterpret_cast<std::uint64_t>(object.l_name));
    // The kernel's own object has no file.
    if (name.find('/') != std::string::npos) files.push_back(name);
  }
  return files;
}

}  // namespace

std::string ProcessView::inside(const std::string& path) const {
  return fmt::format("/proc/{}/root{}", pid, path);
}

std::vector<MemoryRegion> parse_smaps(const std::string& text) {
  std::vector<MemoryRegion> mappings;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    unsigned long start = 0, end = 0;
    char permissions[8] = {};
    int path_at = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx %7s %*s %*s %*s %n", &start, &end, permissions,
                    &path_at) >= 3) {
      MemoryRegion mapping;
      mapping.start = start;
      mapping.end = end;
      mapping.permissions = permissions;
      if (path_at > 0) mapping.path = line.substr(static_cast<std::size_t>(path_at));
      mappings.push_back(std::move(mapping));
    } else if (line.starts_with("Anonymous:") && !mappings.empty()) {
      mappings.back().anonymous_bytes = std::strtoull(line.c_str() + 10, nullptr, 10) * 1024;
    }
  }
  return mappings;
}

AnonymousMemory anonymous_memory(const std::vector<MemoryRegion>& mappings) {
  AnonymousMemory memory;
  for (const MemoryRegion& mapping : mappings) {
    if (mapping.path == "[heap]") {
      memory.heap_bytes += mapping.anonymous_bytes;
    } else if (mapping.path.starts_with("[stack")) {
      memory.stack_bytes += mapping.anonymous_bytes;
    } else if (mapping.is_file()) {
      memory.file_bytes += mapping.anonymous_bytes;
    } else {
      memory.mapped_bytes += mapping.anonymous_bytes;
    }
  }
  return memory;
}

ProcessView view_process(pid_t pid) {
  ProcessView view;
  view.pid = pid;
  const std::string proc = fmt::format("/proc/{}/", pid);
  const std::string status = read_file(proc + "status");
  if (status.empty()) {
    view.access = ProcessView::Access::kNoSuchProcess;
    return view;
  }
  view.name = field_of(status, "Name");
  view.no_new_privileges = field_of(status, "NoNewPrivs") == "1";
  view.seccomp_mode = std::atoi(field_of(status, "Seccomp").c_str());
  view.command_line = split_at_zeros(read_file(proc + "cmdline"));
  view.unit = service_unit(read_file(proc + "cgroup"));
  if (field_of(status, "State").starts_with("Z")) {
    view.access = ProcessView::Access::kEnded;
    return view;
  }
  const auto executable = read_link(proc + "exe");
  if (!executable) {
    view.access =
        errno == ENOENT ? ProcessView::Access::kKernelThread : ProcessView::Access::kDenied;
    return view;
  }
  view.executable = *executable;
  if (std::ifstream file(proc + "environ", std::ios::binary); file) {
    view.environment.emplace();
    for (const std::string& entry : split_at_zeros(read_file(proc + "environ"))) {
      const std::size_t equals = entry.find('=');
      if (equals != std::string::npos) {
        view.environment->emplace(entry.substr(0, equals), entry.substr(equals + 1));
      }
    }
  }
  const auto auxv = auxiliary_vector(read_file(proc + "auxv"));
  if (const auto found = auxv.find(AT_SECURE); found != auxv.end()) {
    view.secure = found->second != 0;
  }
  view.other_root = !same_file(proc + "root/", "/");
  const auto mounts = read_link(proc + "ns/mnt"), our_mounts = read_link("/proc/self/ns/mnt");
  view.other_mounts = mounts && our_mounts && *mounts != *our_mounts;
  view.mappings = parse_smaps(read_file(proc + "smaps"));
  view.load_order = loaded_files(Memory(proc + "mem"), auxv, view.executable);
  return view;
}

}  // namespace alloctape::tracer
