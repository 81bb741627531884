// What a script's text tells about the environment of the programs that it starts.
#pragma once

#include <string>

#include "tracer/diagnosis.h"

namespace alloctape::tracer {

// Adds a finding where the script touches LD_PRELOAD or empties the environment, and names the
// program that it turns into by `exec`, where that is plain to see. Only the first lines are read.
void diagnose_script(const std::string& path, Diagnosis& diagnosis);

}  // namespace alloctape::tracer
