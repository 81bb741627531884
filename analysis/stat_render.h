// Statistics as text for people and as JSON for programs (schema alloctape.stat/1).
#pragma once

#include "analysis/heap_statistics.h"
#include "analysis/json.h"
#include "cli/output.h"

namespace alloctape::analysis {

Json to_json(const Statistics& statistics);
void print_text(cli::Output& out, const Statistics& statistics);

}  // namespace alloctape::analysis
