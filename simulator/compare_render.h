// A comparison, as a table for each workload.
#pragma once

#include <string>

#include "formats/result_json.h"

namespace alloctape::simulator {

// `rank_all`: also mark the best among runs that were not faithful to the recording.
std::string render_comparison(const formats::Comparison& comparison, bool rank_all);

}  // namespace alloctape::simulator
