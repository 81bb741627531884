// What the analysis commands print with --json.
#pragma once

#include <nlohmann/json.hpp>

#include "cli/output.h"

namespace alloctape::analysis {

// Keys keep the order they were written in: results are read by people too.
using Json = nlohmann::ordered_json;

// Strings of a traced program (its command line, say) need not be UTF-8, but JSON must be.
inline void print_json(cli::Output& out, const Json& json) {
  out.write(json.dump(2, ' ', false, Json::error_handler_t::replace));
  out.write("\n");
}

}  // namespace alloctape::analysis
