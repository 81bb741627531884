// What the machine is like: kept with results, since figures of two machines do not compare.
#pragma once

#include "formats/result_json.h"

namespace alloctape::simulator {

// Everything but alloctape_version. Fields that cannot be read stay empty.
formats::Environment describe_machine();

}  // namespace alloctape::simulator
