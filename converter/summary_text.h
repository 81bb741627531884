// A conversion's summary, for people and for programs.
#pragma once

#include <string>
#include <vector>

#include "converter/converter.h"

namespace alloctape::converter {

std::string summary_text(const ConvertSummary& summary, const ConvertOptions& options,
                         const std::string& trace, const std::string& workload);
// JSON, schema "alloctape.convert/1".
std::string summary_json(const ConvertSummary& summary, const ConvertOptions& options,
                         const std::string& trace, const std::string& workload);
// What the user must know before trusting the workload; one sentence each.
std::vector<std::string> summary_warnings(const ConvertSummary& summary);

}  // namespace alloctape::converter
