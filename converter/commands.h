// The subcommands that this folder brings.
#pragma once

#include "cli/cli.h"

namespace alloctape::converter {

extern const cli::Command kConvertCommand;

}  // namespace alloctape::converter
