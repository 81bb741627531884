// A trace made anew under its own name: packed, or unpacked. The old file stays what it was until
// the new one is complete on the disk.
//
// Thread safety: all functions.
#pragma once

#include <string>

#include "formats/trace_packer.h"

namespace alloctape::tracer {

// Whether the image that writes this trace still has it mapped. Where that cannot be found out:
// true as long as its process lives.
bool image_is_running(const wire::TraceHeader& header, const std::string& path);

struct RewriteOptions {
  formats::PackOptions pack;
  std::string output;   // empty: in place
  std::string keep_as;  // in place: what the old file is called from then on; empty: it goes
  bool sync = true;     // to the disk, before the new file takes the name
};

// Writes a temporary file beside the result and renames it. Mode and owner (where permitted) are
// those of the old file. REQUIRES: in place, the image is not running.
formats::Result<formats::PackTotals> rewrite_trace(const formats::TraceFile& trace,
                                                   const RewriteOptions& options);

}  // namespace alloctape::tracer
