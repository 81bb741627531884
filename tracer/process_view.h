// A running process, as /proc shows it: for telling what a recording of it would have missed.
//
// Only reads; the process is not stopped, and nothing in it is changed. What this process may not
// read is nullopt or empty. Thread safety: one thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace alloctape::tracer {

struct MemoryRegion {
  std::uint64_t start = 0, end = 0;
  std::string permissions;            // "rw-s"
  std::string path;                   // a file, "[heap]" and the like, or empty
  std::uint64_t anonymous_bytes = 0;  // resident
  bool is_file() const { return !path.empty() && path[0] == '/'; }
};

struct ProcessView {
  enum class Access {
    kFull,
    kNoSuchProcess,
    kEnded,
    kKernelThread,
    kDenied
  } access = Access::kFull;

  pid_t pid = 0;
  std::string name;        // as ps shows it
  std::string executable;  // in the process's own view; may end in " (deleted)"
  std::vector<std::string> command_line;
  std::optional<std::map<std::string, std::string>> environment;  // as it was at exec
  std::string unit;  // the systemd service it belongs to, or empty

  std::optional<bool> secure;  // AT_SECURE: the loader ignored LD_PRELOAD
  bool no_new_privileges = false;
  int seccomp_mode = 0;  // 2 = filtered
  bool other_root = false, other_mounts = false;

  std::vector<MemoryRegion> mappings;
  // Files in the order of the loader's list, which is that of symbol lookup; the executable first.
  // Empty when the process's memory may not be read.
  std::vector<std::string> load_order;

  std::string inside(const std::string& path) const;  // how this process reaches a file of that one
};

ProcessView view_process(pid_t pid);

// What may be told apart of resident anonymous memory.
struct AnonymousMemory {
  std::uint64_t heap_bytes = 0, stack_bytes = 0, mapped_bytes = 0,
                file_bytes = 0;  // copies of files
  std::uint64_t total() const { return heap_bytes + stack_bytes + mapped_bytes + file_bytes; }
};
AnonymousMemory anonymous_memory(const std::vector<MemoryRegion>& mappings);

// The text of a smaps file. Exposed for tests.
std::vector<MemoryRegion> parse_smaps(const std::string& text);

}  // namespace alloctape::tracer
