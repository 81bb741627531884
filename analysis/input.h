// Files as the analysis commands take them: told apart by their magic numbers, not by their names.
#pragma once

#include <string>
#include <string_view>

#include "formats/result.h"
#include "formats/trace_file.h"
#include "formats/workload_file.h"

namespace alloctape::analysis {

enum class FileKind { kTrace, kWorkload };

// Looks at the first bytes. The error says what kinds of files there are.
formats::Result<FileKind> detect_kind(const std::string& path);
// As above, and throws cli::UserError.
FileKind kind_of(const std::string& path);

// These throw cli::UserError with what is wrong, where, and what to do about it.
formats::TraceFile open_trace(const std::string& path);
formats::WorkloadFile open_workload(const std::string& path);
[[noreturn]] void fail_on(const formats::Error& error);

// Text from a file, safe to show on a terminal: control characters are escaped.
std::string printable(std::string_view text);

}  // namespace alloctape::analysis
