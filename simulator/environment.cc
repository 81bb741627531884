#include "simulator/environment.h"

#include <gnu/libc-version.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>

namespace alloctape::simulator {
namespace {

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos)
      return line.substr(colon + 2);
  }
  return {};
}

// "always [madvise] never" -> "madvise"
std::string chosen(const std::string& line) {
  const auto from = line.find('['), to = line.find(']');
  return from == std::string::npos || to == std::string::npos
             ? line
             : line.substr(from + 1, to - from - 1);
}

}  // namespace

formats::Environment describe_machine() {
  formats::Environment e;
  e.cpu = cpu_model();
  utsname names;
  if (uname(&names) == 0)
    e.kernel = std::string(names.sysname) + " " + names.release + " " + names.machine;
  e.clocksource = first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  e.transparent_hugepages = chosen(first_line("/sys/kernel/mm/transparent_hugepage/enabled"));
  e.governor = first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  e.libc = std::string("glibc ") + gnu_get_libc_version();
  const long cores = sysconf(_SC_NPROCESSORS_ONLN), pages = sysconf(_SC_PHYS_PAGES);
  e.cores = cores > 0 ? static_cast<std::uint64_t>(cores) : 0;
  e.memory_bytes = pages > 0 ? static_cast<std::uint64_t>(pages) *
                                   static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE))
                             : 0;
  return e;
}

}  // namespace alloctape::simulator
