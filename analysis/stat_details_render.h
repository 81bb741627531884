// The parts of `stat` about what not every trace has: blocks older than the recording, pauses,
// rings, marks, usable sizes, durations.
#pragma once

#include "analysis/heap_statistics.h"
#include "analysis/json.h"
#include "cli/output.h"
#include "cli/table.h"

namespace alloctape::analysis {

void add_details_json(Json& json, const Statistics& statistics);
void add_details_rows(cli::Table& table, const Statistics& statistics);
// Tables of their own.
void print_details(cli::Output& out, const Statistics& statistics);

}  // namespace alloctape::analysis
