// What every subcommand shares: how it is declared, run and ended.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace alloctape::cli {

// Exit codes of the driver. `record` exits as its program did.
inline constexpr int kExitOk = 0, kExitFailure = 1, kExitUsage = 2;

struct Command {
  std::string_view name;
  std::string_view summary;                          // one line for `alloctape --help`
  int (*run)(const std::vector<std::string>& args);  // args without the subcommand's name
};

// Thrown by commands, caught once in main: "alloctape: error: WHAT" and the remedy on a line of its
// own.
struct UserError {
  std::string what;
  std::string remedy;  // what to do about it; may be empty
  int exit_code = kExitFailure;
};
[[noreturn]] void fail(std::string what, std::string remedy = {});
[[noreturn]] void usage_error(std::string what);  // exit code 2; points to --help

}  // namespace alloctape::cli
