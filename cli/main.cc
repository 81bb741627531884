// The driver: finds the subcommand, runs it, and turns what it throws into a message and an exit
// code.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "analysis/commands.h"
#include "cli/cli.h"
#include "cli/install_paths.h"
#include "cli/output.h"
#include "cli/suggest.h"
#include "converter/commands.h"
#include "simulator/commands.h"
#include "tracer/commands.h"

namespace alloctape::cli {
namespace {

// In the order of a user's work, which is also the order of --help. A function, not a table at
// namespace scope: the commands are constants of other translation units.
std::vector<const Command*> commands() {
  return {
      &tracer::kDoctorCommand,     &tracer::kRecordCommand,        &tracer::kCtlCommand,
      &tracer::kPackCommand,       &converter::kConvertCommand,    &simulator::kReplayCommand,
      &simulator::kCompareCommand, &simulator::kAllocatorsCommand, &analysis::kInfoCommand,
      &analysis::kDumpCommand,     &analysis::kStatCommand,        &analysis::kCheckCommand,
  };
}

std::string help_text() {
  std::string out =
      "Usage: alloctape [--version | --help] SUBCOMMAND [ARGUMENTS...]\n\n"
      "Records what a program asks of its memory allocator, and replays it against any other\n"
      "allocator: record -> convert -> replay -> compare.\n\nSubcommands:\n";
  std::size_t width = 0;
  for (const Command* command : commands()) width = std::max(width, command->name.size());
  for (const Command* command : commands()) {
    out += fmt::format("  {:<{}}  {}\n", command->name, width, command->summary);
  }
  out +=
      "\nExamples:\n"
      "  alloctape record -o app.atrace -- ./app --some-option\n"
      "  alloctape convert app.atrace -o app.awl\n"
      "  alloctape compare app.awl --allocators glibc,jemalloc\n"
      "  alloctape SUBCOMMAND --help\n";
  return out;
}

int help(const std::vector<std::string>& args);

const Command* find_command(std::string_view name) {
  for (const Command* command : commands()) {
    if (command->name == name) return command;
  }
  return nullptr;
}

[[noreturn]] void unknown_command(const std::string& name) {
  std::vector<std::string> names;
  for (const Command* command : commands()) names.emplace_back(command->name);
  const std::string suggestion = closest(name, names);
  throw UserError{fmt::format("unknown subcommand '{}'", name),
                  suggestion.empty() ? "See `alloctape --help` for the subcommands there are."
                                     : fmt::format("Did you mean `alloctape {}`?", suggestion),
                  kExitUsage};
}

// `alloctape help [SUB]` is `alloctape [SUB] --help`.
int help(const std::vector<std::string>& args) {
  if (args.empty()) {
    const std::string text = help_text();
    std::fwrite(text.data(), 1, text.size(), stdout);
    return kExitOk;
  }
  const Command* command = find_command(args[0]);
  if (command == nullptr) unknown_command(args[0]);
  return command->run({"--help"});
}

int dispatch(const std::vector<std::string>& args) {
  if (args.empty()) {
    std::fputs(help_text().c_str(), stderr);
    return kExitUsage;
  }
  const std::string& first = args[0];
  const std::vector<std::string> rest(args.begin() + 1, args.end());
  if (first == "--help" || first == "-h" || first == "help") return help(rest);
  if (first == "--version" || first == "-V" || first == "version") {
    std::fputs(("alloctape " + version() + "\n").c_str(), stdout);
    return kExitOk;
  }
  if (first[0] == '-') {
    throw UserError{fmt::format("unknown option '{}'", first), "See `alloctape --help`.",
                    kExitUsage};
  }
  const Command* command = find_command(first);
  if (command == nullptr) unknown_command(first);
  return command->run(rest);
}

void print_error(const std::string& what, const std::string& remedy) {
  std::string text = "alloctape: error: " + what + "\n";
  if (!remedy.empty()) text += "  " + remedy + "\n";
  std::fputs(text.c_str(), stderr);
}

// What is still in stdio's buffer is the last thing that can fail.
int finish_output(int exit_code) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return exit_code;
  if (errno == EPIPE) return exit_code;
  print_error(std::string("cannot write to standard output: ") + std::strerror(errno), "");
  return exit_code == kExitOk ? kExitFailure : exit_code;
}

void do_nothing(int /*signal*/) {}

// A write to a closed pipe shall come back as EPIPE, to end us quietly and with a chance to clean
// up. A handler, not SIG_IGN: programs that `record` and `replay` start would inherit an ignored
// signal, while a handled one is back to its default after exec.
void handle_sigpipe() {
  struct sigaction current {};
  if (sigaction(SIGPIPE, nullptr, &current) != 0 || current.sa_handler != SIG_DFL) return;
  current.sa_handler = do_nothing;
  current.sa_flags = SA_RESTART;
  sigaction(SIGPIPE, &current, nullptr);
}

int run(const std::vector<std::string>& args) {
  try {
    return finish_output(dispatch(args));
  } catch (const UserError& error) {
    std::fflush(stdout);
    std::string remedy = error.remedy;
    if (remedy.empty() && error.exit_code == kExitUsage) {
      remedy = args.empty() ? "See `alloctape --help`."
                            : fmt::format("See `alloctape {} --help`.", args[0]);
    }
    print_error(error.what, remedy);
    return error.exit_code;
  } catch (const OutputClosed&) {
    return kExitOk;
  } catch (const std::bad_alloc&) {
    print_error("out of memory", "Raise the memory limit (ulimit -v), or use a smaller input.");
  } catch (const std::system_error& error) {
    // fmt::print reports a closed pipe so.
    if (error.code().value() == EPIPE) return kExitOk;
    print_error(error.what(), "");
  } catch (const std::exception& error) {
    print_error(error.what(), "This should not happen: please report it, with the command line.");
  }
  return kExitFailure;
}

}  // namespace
}  // namespace alloctape::cli

int main(int argc, char** argv) {
  alloctape::cli::handle_sigpipe();
  return alloctape::cli::run(std::vector<std::string>(argv + 1, argv + std::max(argc, 1)));
}
