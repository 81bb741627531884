#include "cli/install_paths.h"

#include <climits>
#include <initializer_list>

#include <unistd.h>

#include "cli/cli.h"

namespace alloctape::cli {
namespace {

// The directory of the running driver. /proc/self/exe names the file itself, whatever symbolic link
// or PATH entry it was started through.
std::string driver_directory() {
  char buffer[PATH_MAX];
  const ssize_t n = readlink("/proc/self/exe", buffer, sizeof buffer - 1);
  if (n <= 0) fail("cannot find out where alloctape is installed: /proc is not mounted");
  const std::string path(buffer, static_cast<std::size_t>(n));
  return path.substr(0, path.rfind('/'));
}

// A build tree has the parts below the driver's own directory, an installation beside it.
std::string find_part(const std::string& part, int access_mode) {
  const std::string directory = driver_directory();
  const std::string beside = directory + "/" + part;
  const std::string installed = directory.substr(0, directory.rfind('/')) + "/" + part;
  for (const std::string& candidate : {beside, installed}) {
    if (access(candidate.c_str(), access_mode) == 0) return candidate;
  }
  fail("a part of alloctape is missing: " + part + " is neither at " + beside + " nor at " +
           installed,
       "Install alloctape again (./dev install), or run ./dev build in the source tree.");
}

}  // namespace

std::string preload_library(bool with_maps) {
  return find_part(with_maps ? "lib/alloctape/liballoctape-preload-maps.so"
                             : "lib/alloctape/liballoctape-preload.so",
                   R_OK);
}

std::string replayer_program() { return find_part("libexec/alloctape/alloctape-replay", X_OK); }

std::string noop_allocator() { return find_part("lib/alloctape/liballoctape-noop.so", R_OK); }

std::string version() { return ALLOCTAPE_VERSION; }

}  // namespace alloctape::cli
