// The subcommands that this folder brings.
#pragma once

#include "cli/cli.h"

namespace alloctape::simulator {

extern const cli::Command kReplayCommand, kCompareCommand, kAllocatorsCommand;

}  // namespace alloctape::simulator
