// What a recording of a running process would have seen, and how to come by one.
#pragma once

#include "tracer/diagnosis.h"

namespace alloctape::tracer {

Diagnosis diagnose_process(const ProcessView& view, const std::string& tracer_library);

}  // namespace alloctape::tracer
