#include "tracer/process_info.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string_view>
#include <utility>

namespace alloctape::tracer {
namespace {

// Whole, in one go where possible: what /proc shows is made up while it is read.
std::optional<std::string> read_text(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  std::string text;
  char part[65536];
  ssize_t n;
  while ((n = read(fd, part, sizeof part)) > 0 || (n < 0 && errno == EINTR)) {
    if (n > 0) text.append(part, static_cast<std::size_t>(n));
  }
  const int error = errno;
  close(fd);
  errno = error;
  if (n < 0) return std::nullopt;
  return text;
}

std::vector<int> numbered_entries(const std::string& folder) {
  std::vector<int> numbers;
  DIR* dir = opendir(folder.c_str());
  if (dir == nullptr) return numbers;
  while (const dirent* entry = readdir(dir)) {
    char* end = nullptr;
    const long number = std::strtol(entry->d_name, &end, 10);
    if (*entry->d_name != '\0' && *end == '\0') numbers.push_back(static_cast<int>(number));
  }
  closedir(dir);
  return numbers;
}

// The last number on the line that starts with `name`.
std::optional<pid_t> last_number(const std::string& text, const std::string& name) {
  const std::size_t at = text.find("\n" + name);
  if (at == std::string::npos) return std::nullopt;
  const std::size_t end = text.find('\n', at + 1);
  const std::size_t last = text.find_last_of("\t ", end);
  if (last == std::string::npos || last < at) return std::nullopt;
  return static_cast<pid_t>(std::strtol(text.c_str() + last, nullptr, 10));
}

std::optional<Mapping> parse_mapping(const std::string& line) {
  Mapping m;
  char permissions[8] = {};
  int path_at = 0;
  if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*x:%*x %" SCNu64 " %n",
                  &m.start, &m.end, permissions, &m.offset, &m.inode, &path_at) != 5) {
    return std::nullopt;
  }
  m.shared = permissions[3] == 's';
  if (path_at > 0) m.path = line.substr(static_cast<std::size_t>(path_at));
  return m;
}

}  // namespace

std::optional<ProcessStat> process_stat(pid_t pid) {
  const auto text = read_text(fmt::format("/proc/{}/stat", pid));
  if (!text) return std::nullopt;
  // The name, field 2, may hold anything: count from its last ')'.
  const std::size_t name_end = text->rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  ProcessStat stat;
  if (std::sscanf(text->c_str() + name_end,
                  ") %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d "
                  "%" SCNu64,
                  &stat.state, &stat.parent, &stat.start_ticks) != 3) {
    return std::nullopt;
  }
  return stat;
}

std::optional<ProcessIds> process_ids(pid_t pid_or_tid) {
  const auto text = read_text(fmt::format("/proc/{}/status", pid_or_tid));
  if (!text) return std::nullopt;
  const auto process = last_number(*text, "Tgid:");
  if (!process) return std::nullopt;
  const auto inner = last_number(*text, "NStgid:");  // outermost namespace first
  return ProcessIds{*process, inner.value_or(*process)};
}

std::string program_name(pid_t pid) {
  char path[4096];
  const ssize_t n = readlink(fmt::format("/proc/{}/exe", pid).c_str(), path, sizeof path);
  if (n > 0) {
    std::string name(path, static_cast<std::size_t>(n));
    constexpr std::string_view kDeleted = " (deleted)";
    if (name.size() > kDeleted.size() && name.ends_with(kDeleted)) {
      name.resize(name.size() - kDeleted.size());
    }
    return name.substr(name.rfind('/') + 1);
  }
  std::string name = read_text(fmt::format("/proc/{}/comm", pid)).value_or("?");
  if (!name.empty() && name.back() == '\n') name.pop_back();
  return name;
}

std::vector<pid_t> descendants(pid_t pid) {
  std::multimap<pid_t, pid_t> children;
  for (const int number : numbered_entries("/proc")) {
    if (const auto stat = process_stat(number)) children.emplace(stat->parent, number);
  }
  std::vector<pid_t> found{pid};
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto [first, last] = children.equal_range(found[i]);
    for (auto at = first; at != last; ++at) {
      if (at->second != pid) found.push_back(at->second);
    }
  }
  found.erase(found.begin());
  return found;
}

std::vector<int> open_descriptors(pid_t pid) {
  return numbered_entries(fmt::format("/proc/{}/fd", pid));
}

std::optional<std::vector<Mapping>> process_mappings(pid_t pid) {
  const auto text = read_text(fmt::format("/proc/{}/maps", pid));
  if (!text) return std::nullopt;
  std::vector<Mapping> mappings;
  for (std::size_t at = 0; at < text->size();) {
    const std::size_t end = std::min(text->find('\n', at), text->size());
    if (auto mapping = parse_mapping(text->substr(at, end - at))) {
      mappings.push_back(std::move(*mapping));
    }
    at = end + 1;
  }
  return mappings;
}

}  // namespace alloctape::tracer
