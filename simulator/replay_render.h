// One replay's result, for people.
#pragma once

#include <string>

#include "formats/result_json.h"

namespace alloctape::simulator {

// `by_size`: latencies by function and size of block, too.
std::string render_run(const formats::RunResult& run, bool by_size = false);

}  // namespace alloctape::simulator
