// What /proc tells of a process.
//
// Thread safety: all functions. What is told may be past by the time it is read.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace alloctape::tracer {

struct ProcessStat {
  char state = '?';  // Z: ended, and not waited for
  pid_t parent = 0;
  std::uint64_t start_ticks = 0;  // clock ticks since boot
};
std::optional<ProcessStat> process_stat(pid_t pid);

// The process to which a thread belongs (for a process, itself), and its pid as it sees it, in its
// own namespace. nullopt: there is no such thread.
struct ProcessIds {
  pid_t process = 0;
  pid_t inner = 0;
};
std::optional<ProcessIds> process_ids(pid_t pid_or_tid);

// The name of the file that it runs; its own name where that cannot be read.
std::string program_name(pid_t pid);

// All that live now, children before grandchildren. A process whose parent has ended counts no
// more.
std::vector<pid_t> descendants(pid_t pid);

std::vector<int> open_descriptors(pid_t pid);  // numbers; empty where they cannot be read

// One line of /proc/PID/maps.
struct Mapping {
  std::uint64_t start = 0, end = 0, offset = 0, inode = 0;
  bool shared = false;
  std::string path;  // as the process sees it; " (deleted)" may follow
};
// nullopt: cannot be read, errno tells why. Empty: the process has ended, or is the kernel's.
std::optional<std::vector<Mapping>> process_mappings(pid_t pid);

}  // namespace alloctape::tracer
