// A subcommand's command line: declared once, parsed, and explained by --help.
#pragma once

#include <boost/program_options.hpp>
#include <optional>
#include <string>
#include <vector>

namespace alloctape::cli {

struct CommandLine {
  std::string synopsis;     // "convert TRACE -o WORKLOAD [options]", without the driver's name
  std::string description;  // a paragraph
  std::string examples;     // complete lines, two spaces in front
  boost::program_options::options_description options{"Options"};
  boost::program_options::options_description hidden;  // positionals
  boost::program_options::positional_options_description positional;
};

// Adds --help. Prints the help on stdout and returns nullopt when asked for it. A command line that
// cannot be understood is a usage error (exit code 2).
std::optional<boost::program_options::variables_map> parse(const CommandLine& line,
                                                           const std::vector<std::string>& args);

}  // namespace alloctape::cli
