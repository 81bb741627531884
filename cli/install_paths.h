// Where the driver finds its parts: beside itself in a build tree, or under the prefix it was
// installed to. Throws UserError when a part is missing.
#pragma once

#include <string>

namespace alloctape::cli {

// liballoctape-preload.so, or the one that also records the program's own mappings.
std::string preload_library(bool with_maps = false);
std::string replayer_program();  // alloctape-replay
std::string noop_allocator();    // liballoctape-noop.so: to measure the harness with
std::string version();           // "0.1.0"

}  // namespace alloctape::cli
