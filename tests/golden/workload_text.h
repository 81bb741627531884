// A whole workload as text: what the golden files are compared by.
#pragma once

#include <string>

#include "formats/workload_file.h"

namespace alloctape::formats {

// Header, tables, provenance, and every op of every lane with its position.
std::string workload_text(const WorkloadFile& file);

}  // namespace alloctape::formats
