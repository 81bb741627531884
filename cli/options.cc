#include "cli/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <sstream>
#include <string_view>
#include <typeinfo>
#include <utility>

#include "cli/cli.h"
#include "cli/suggest.h"

namespace alloctape::cli {
namespace {

namespace po = boost::program_options;

constexpr std::size_t kWidth = 90;       // of the help text
constexpr std::size_t kTextColumn = 28;  // where explanations of options start

// Breaks a text at spaces. Line ends in the text stay; every line after the first is indented.
std::string wrap(const std::string& text, std::size_t first_column, std::size_t indent) {
  std::string out;
  std::size_t column = first_column;
  std::istringstream lines(text);
  std::string line;
  bool first_line = true;
  while (std::getline(lines, line)) {
    if (!first_line) {
      out += '\n';
      if (!line.empty()) out.append(indent, ' ');
      column = indent;
    }
    first_line = false;
    std::istringstream words(line);
    std::string word;
    bool line_start = true;
    while (words >> word) {
      if (!line_start && column + 1 + word.size() > kWidth) {
        out += '\n';
        out.append(indent, ' ');
        column = indent;
        line_start = true;
      }
      if (!line_start) {
        out += ' ';
        ++column;
      }
      out += word;
      column += word.size();
      line_start = false;
    }
  }
  return out;
}

std::string help_line(const po::option_description& option) {
  using po::command_line_style::allow_dash_for_short;
  using po::command_line_style::allow_long;
  const std::string brief = option.canonical_display_name(allow_dash_for_short);
  const std::string full = option.canonical_display_name(allow_long);
  std::string left = brief.size() == 2 && brief[0] == '-' ? "  " + brief : "    ";
  if (full.size() > 2 && full.compare(0, 2, "--") == 0) {
    left += (left.back() == ' ' ? "  " : ", ") + full;
  }
  std::string text = option.description();
  // Boost shows a default as "FILE (=x)".
  std::string parameter = option.format_parameter();
  if (const std::size_t at = parameter.find(" (="); at != std::string::npos) {
    const std::string value = parameter.substr(at + 3, parameter.size() - at - 4);
    if (!value.empty()) text += " (default: " + value + ")";
    parameter.resize(at);
  }
  if (!parameter.empty()) left += ' ' + parameter;
  if (left.size() + 2 > kTextColumn) {
    left += '\n';
    left.append(kTextColumn, ' ');
  } else {
    left.append(kTextColumn - left.size(), ' ');
  }
  return left + wrap(text, kTextColumn, kTextColumn) + '\n';
}

std::string help_text(const CommandLine& line, const po::options_description& options) {
  std::string out = "Usage: alloctape " + line.synopsis + "\n\n";
  out += wrap(line.description, 0, 0) + "\n\nOptions:\n";
  for (const auto& option : options.options()) out += help_line(*option);
  if (!line.examples.empty()) {
    out += "\nExamples:\n" + line.examples;
    if (out.back() != '\n') out += '\n';
  }
  return out;
}

// lexical_cast reads "-1" as 2^64-1 where a count is meant.
void refuse_negative_counts(const po::parsed_options& parsed, const po::variables_map& values) {
  for (const auto& option : parsed.options) {
    const auto found = values.find(option.string_key);
    if (found == values.end()) continue;
    const std::type_info& type = found->second.value().type();
    const bool unsigned_type = type == typeid(unsigned) || type == typeid(unsigned long) ||
                               type == typeid(unsigned long long) || type == typeid(unsigned short);
    if (!unsigned_type) continue;
    for (const std::string& text : option.value) {
      if (!text.empty() && text[0] == '-') {
        usage_error(fmt::format("the argument '{}' for option '--{}' must not be negative", text,
                                option.string_key));
      }
    }
  }
}

std::vector<std::string> long_names(const po::options_description& options) {
  std::vector<std::string> names;
  for (const auto& option : options.options()) names.push_back("--" + option->long_name());
  return names;
}

bool is_positional(const CommandLine& line, const std::string& name) {
  const unsigned limit = std::min(line.positional.max_total_count(), 64u);
  for (unsigned i = 0; i < limit; ++i) {
    if (line.positional.name_for_position(i) == name) return true;
  }
  return false;
}

}  // namespace

std::optional<po::variables_map> parse(const CommandLine& line,
                                       const std::vector<std::string>& args) {
  po::options_description visible;
  visible.add(line.options);
  visible.add_options()("help,h", "Show this text.");
  po::options_description all;
  all.add(visible).add(line.hidden);

  try {
    // No guessing: an abbreviation that works today would break when an option is added.
    namespace style = po::command_line_style;
    po::command_line_parser parser(args);
    const auto parsed = parser.options(all)
                            .positional(line.positional)
                            .style(style::unix_style & ~style::allow_guessing)
                            .run();
    po::variables_map values;
    po::store(parsed, values);
    // Before notify(), which insists on required arguments.
    if (values.count("help")) {
      const std::string text = help_text(line, visible);
      std::fwrite(text.data(), 1, text.size(), stdout);
      return std::nullopt;
    }
    refuse_negative_counts(parsed, values);
    po::notify(values);
    return values;
  } catch (const po::unknown_option& error) {
    const std::string& option = error.get_option_name();
    const std::string suggestion =
        option.size() > 3 ? closest(option, long_names(visible)) : std::string();
    usage_error(fmt::format("unknown option '{}'{}", option,
                            suggestion.empty() ? "" : "; did you mean '" + suggestion + "'?"));
  } catch (const po::too_many_positional_options_error&) {
    usage_error("too many arguments");
  } catch (const po::required_option& error) {
    // "--trace" for what users know as a bare argument.
    std::string name = error.get_option_name();
    name.erase(0, name.find_first_not_of('-'));
    if (!is_positional(line, name)) usage_error("the option '--" + name + "' is required");
    std::transform(name.begin(), name.end(), name.begin(), [](char c) {
      return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c == '-' ? '_' : c;
    });
    usage_error("missing argument " + name);
  } catch (const po::error& error) {
    usage_error(error.what());
  }
}

}  // namespace alloctape::cli
