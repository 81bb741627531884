#include "cli/cli.h"

#include <utility>

namespace alloctape::cli {

void fail(std::string what, std::string remedy) {
  throw UserError{std::move(what), std::move(remedy), kExitFailure};
}

// The remedy is left to main, which knows the subcommand whose --help to point to.
void usage_error(std::string what) { throw UserError{std::move(what), {}, kExitUsage}; }

}  // namespace alloctape::cli
