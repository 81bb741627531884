// One replay's result, for people.
#pragma once

#include <string>

#include "formats/result_json.h"

namespace alloctape::simulator {

std::string render_run(const formats::RunResult& run);

}  // namespace alloctape::simulator
