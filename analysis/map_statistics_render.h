// The program's own mappings, for people and for programs.
#pragma once

#include "analysis/json.h"
#include "analysis/map_statistics.h"
#include "cli/output.h"

namespace alloctape::analysis {

// null where they were not recorded.
Json to_json(const MapFigures& figures);
void print_text(cli::Output& out, const MapFigures& figures);

}  // namespace alloctape::analysis
