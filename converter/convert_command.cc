// `alloctape convert`: trace -> workload.
#include <sys/stat.h>

#include <cstdio>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "cli/install_paths.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "converter/commands.h"
#include "converter/converter.h"
#include "converter/output_file.h"
#include "converter/summary_text.h"

namespace alloctape::converter {
namespace {

namespace po = boost::program_options;

cli::CommandLine command_line() {
  cli::CommandLine line;
  line.synopsis = "convert TRACE -o WORKLOAD [options]";
  line.description =
      "Turns a recorded trace into a workload: scripts of allocator calls, one for each thread, "
      "without addresses or contents, with the sync points that keep a replay in a valid order. "
      "Without -o the workload gets the trace's name with .awl at the end.";
  line.examples =
      "  alloctape convert app.atrace -o app.awl\n"
      "  alloctape convert app.atrace --order serial --json\n";
  line.options.add_options()                                                               //
      ("output,o", po::value<std::string>()->value_name("FILE"), "the workload to write")  //
      ("order", po::value<std::string>()->value_name("ORDER")->default_value("bounded"),
       "what orders the threads of a replay. causal: true dependencies only (a block is passed on, "
       "a "
       "thread starts). bounded: besides, no thread runs ahead so far that the live heap would "
       "differ "
       "from the recorded one. serial: exactly the recorded order")  //
      ("window",
       po::value<std::uint64_t>()->value_name("N")->default_value(BoundedOrder::kDefaultWindow),
       "bounded: a thread may run ahead by two windows of at most N calls; windows are shorter "
       "where "
       "the heap is at its peak")  //
      ("maps", po::value<std::string>()->value_name("WHAT")->default_value("replay"),
       "the program's own mappings, where they were recorded (record --mmap). replay: anonymous "
       "ones become part of the workload. skip: malloc's API alone")  //
      ("force", "write over a workload that was not named with -o")   //
      ("json", "print the summary as JSON");
  line.hidden.add_options()("trace", po::value<std::string>());
  line.positional.add("trace", 1);
  return line;
}

wire::SyncOrder parse_order(const std::string& text) {
  if (text == "causal") return wire::SyncOrder::kCausal;
  if (text == "bounded") return wire::SyncOrder::kBounded;
  if (text == "serial") return wire::SyncOrder::kSerial;
  cli::usage_error(fmt::format("--order: '{}' is none of causal, bounded, serial", text));
}

std::string default_output(const std::string& trace) {
  constexpr std::string_view kSuffix = ".atrace";
  const bool has = trace.size() > kSuffix.size() && trace.ends_with(kSuffix);
  return (has ? trace.substr(0, trace.size() - kSuffix.size()) : trace) + ".awl";
}

bool same_file(const std::string& a, const std::string& b) {
  struct stat sa {
  }, sb{};
  return ::stat(a.c_str(), &sa) == 0 && ::stat(b.c_str(), &sb) == 0 && sa.st_dev == sb.st_dev &&
         sa.st_ino == sb.st_ino;
}

std::string output_of(const po::variables_map& args, const std::string& trace) {
  if (args.count("output") != 0) {
    const auto output = args["output"].as<std::string>();
    if (output.empty()) cli::usage_error("-o needs a file name");
    if (same_file(trace, output)) cli::usage_error("the workload would replace its own trace");
    return output;
  }
  const std::string output = default_output(trace);
  struct stat st {};
  if (args.count("force") == 0 && ::stat(output.c_str(), &st) == 0) {
    cli::fail(output + " exists", "Name the workload with -o, or pass --force to write over it.");
  }
  return output;
}

int run(const std::vector<std::string>& arguments) {
  const auto args = cli::parse(command_line(), arguments);
  if (!args) return cli::kExitOk;
  if (args->count("trace") == 0) cli::usage_error("convert needs a trace");
  ConvertOptions options;
  options.order = parse_order((*args)["order"].as<std::string>());
  options.window_events = (*args)["window"].as<std::uint64_t>();
  options.tool_version = cli::version();
  if (options.window_events == 0) cli::usage_error("--window must be at least 1");
  const auto maps = (*args)["maps"].as<std::string>();
  if (maps != "replay" && maps != "skip") {
    cli::usage_error(fmt::format("--maps: '{}' is none of replay, skip", maps));
  }
  options.maps = maps == "replay";
  const auto path = (*args)["trace"].as<std::string>();

  auto trace = formats::TraceFile::open(path);
  if (!trace) cli::fail(trace.error().to_string(), "Is it a trace that `alloctape record` wrote?");
  for (const formats::Error& warning : trace->warnings()) cli::warn(warning.to_string());
  const std::string output = output_of(*args, path);

  OutputFile::remove_on_signals();
  cli::Progress progress("convert", "words", trace->event_words());
  options.progress = [&progress](std::uint64_t words) { progress.update(words); };
  auto summary = convert(*trace, output, options);
  progress.finish();
  if (!summary) {
    cli::fail(summary.error().to_string(),
              "Nothing was written under that name; the trace is unharmed.");
  }
  for (const std::string& warning : summary_warnings(*summary)) cli::warn(warning);
  cli::Output out;
  out.write(args->count("json") != 0 ? summary_json(*summary, options, path, output)
                                     : summary_text(*summary, options, path, output));
  out.flush();
  return cli::kExitOk;
}

}  // namespace

const cli::Command kConvertCommand{"convert", "turn a trace into a workload that can be replayed",
                                   run};

}  // namespace alloctape::converter
