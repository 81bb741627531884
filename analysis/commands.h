// The subcommands that this folder brings.
#pragma once

#include "cli/cli.h"

namespace alloctape::analysis {

extern const cli::Command kInfoCommand, kDumpCommand, kStatCommand, kCheckCommand;

}  // namespace alloctape::analysis
