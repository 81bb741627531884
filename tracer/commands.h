// The subcommands that this folder brings.
#pragma once

#include "cli/cli.h"

namespace alloctape::tracer {

extern const cli::Command kRecordCommand, kCtlCommand, kDoctorCommand, kPackCommand;

}  // namespace alloctape::tracer
