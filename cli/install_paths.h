// Where the driver finds its parts: beside itself in a build tree, or under the prefix it was
// installed to. Throws UserError when a part is missing.
#pragma once

#include <string>

namespace alloctape::cli {

std::string preload_library();   // liballoctape-preload.so
std::string replayer_program();  // alloctape-replay
std::string version();           // "0.1.0"

}  // namespace alloctape::cli
