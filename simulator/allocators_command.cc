// `alloctape allocators`: what is installed here, and what brings the rest.
#include <nlohmann/json.hpp>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/table.h"
#include "simulator/candidate.h"
#include "simulator/commands.h"

namespace alloctape::simulator {
namespace {

std::string json_text(const std::vector<KnownAllocator>& all) {
  auto or_null = [](const std::string& text) {
    return text.empty() ? nlohmann::json(nullptr) : nlohmann::json(text);
  };
  nlohmann::json list = nlohmann::json::array();
  for (const KnownAllocator& a : all)
    list.push_back(
        {{"name", a.name},
         {"installed", a.installed},
         {"version", or_null(a.version)},
         {"library", or_null(a.preload_path)},
         {"build_id", or_null(a.preload_path.empty() ? "" : build_id_of(a.preload_path))},
         {"debian_packages", a.packages},
         {"about", a.about}});
  return nlohmann::json{{"schema", "alloctape.allocators/1"}, {"allocators", list}}.dump(2);
}

int run_allocators_command(const std::vector<std::string>& args) {
  cli::CommandLine line;
  line.synopsis = "allocators [--json]";
  line.description =
      "Lists the allocators that replay and compare know by name: version and place of those that "
      "are installed, and the Debian package of those that are not. Any other library that defines "
      "malloc can be given by its path.";
  line.examples = "  alloctape allocators\n";
  line.options.add_options()("json", "as JSON");
  const auto values = cli::parse(line, args);
  if (!values) return cli::kExitOk;

  const std::vector<KnownAllocator> all = known_allocators();
  cli::Output out;
  if (values->count("json")) {
    out.write(json_text(all) + "\n");
  } else {
    cli::Table table;
    for (const char* header : {"name", "version", "library", "about"})
      table.column(header, cli::Table::Align::kLeft);
    for (const KnownAllocator& a : all) {
      if (a.installed)
        table.row({cli::bold(a.name), a.version.empty() ? "-" : a.version,
                   a.preload_path.empty() ? "(the C library's own)" : a.preload_path, a.about});
      else
        table.row({a.name, cli::dim("missing"), "Debian: " + a.packages, a.about});
    }
    out.write(table.str());
  }
  out.flush();
  return cli::kExitOk;
}

}  // namespace

const cli::Command kAllocatorsCommand = {"allocators", "list the allocators installed here",
                                         run_allocators_command};

}  // namespace alloctape::simulator
