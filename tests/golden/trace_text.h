// A whole trace as text: what the golden files are compared by.
#pragma once

#include <string>

#include "formats/trace_file.h"

namespace alloctape::formats {

// Header, metadata, samples, every event of every stream, and the totals of a walk. Independent of
// where in the file the events stand.
std::string trace_text(const TraceFile& file);
std::string event_text(const Event& event);

}  // namespace alloctape::formats
