#include "simulator/replay_options.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "cli/cli.h"
#include "cli/install_paths.h"
#include "cli/output.h"
#include "cli/units.h"

namespace alloctape::simulator {

namespace po = boost::program_options;

void add_run_options(po::options_description& options) {
  options.add_options()(
      "touch", po::value<std::string>()->value_name("MODE")->default_value("page"),
      "what to write to blocks, calloc's too: none, page (a byte in each page), full; outside the "
      "timed window")(
      "timing", po::value<std::string>()->value_name("MODE")->default_value("all"),
      "latency of every call (all), or none: then wall and CPU time are undisturbed")(
      "timeout", po::value<std::string>()->value_name("TIME")->default_value("60s"),
      "a run in which no call finishes for so long is ended and called hung")(
      "env", po::value<std::vector<std::string>>()->value_name("K=V")->composing(),
      "environment of the replayed process; may be given several times");
}

RunSettings run_settings(const po::variables_map& values) {
  RunSettings settings;
  settings.replayer = cli::replayer_program();
  const auto touch = values["touch"].as<std::string>();
  if (touch == "none")
    settings.touch = Touch::kNone;
  else if (touch == "page")
    settings.touch = Touch::kPage;
  else if (touch == "full")
    settings.touch = Touch::kFull;
  else
    cli::usage_error("--touch " + touch + ": there are none, page and full");
  const auto timing = values["timing"].as<std::string>();
  if (timing != "all" && timing != "none")
    cli::usage_error("--timing " + timing + ": there are all and none");
  settings.timed = timing == "all";
  const auto text = values["timeout"].as<std::string>();
  const auto timeout = cli::parse_duration_ns(text);
  if (!timeout || *timeout == 0) cli::usage_error("--timeout " + text + ": this is no duration");
  settings.timeout_ns = *timeout;
  if (values.count("env")) {
    for (const std::string& one : values["env"].as<std::vector<std::string>>()) {
      const auto setting = parse_setting(one);
      if (!setting)
        cli::usage_error("--env " + one + ": this must be NAME=VALUE, and not LD_PRELOAD (choose " +
                         "the allocator with --allocator)");
      settings.environment.push_back(*setting);
    }
  }
  return settings;
}

formats::WorkloadFile open_workload(const std::string& path) {
  auto file = formats::WorkloadFile::open(path);
  if (!file) {
    const bool other = file.error().code == formats::ErrorCode::kNotThisFormat;
    cli::fail(file.error().to_string(),
              other ? "A workload is made from a trace: alloctape convert TRACE -o WORKLOAD" : "");
  }
  if (const auto valid = file->validate(); !valid)
    cli::fail(valid.error().to_string(),
              "This workload cannot be replayed. Convert its trace again.");
  return std::move(file).value();
}

Candidate candidate_or_fail(const std::string& text) {
  auto candidate = parse_candidate(text);
  if (!candidate)
    cli::fail(candidate.error().message, "`alloctape allocators` lists what is installed here.");
  return std::move(candidate).value();
}

void write_json(const std::string& path, const std::string& text) {
  if (path == "-") {
    cli::Output out;
    out.write(text);
    out.write("\n");
    out.flush();
    return;
  }
  std::ofstream file(path);
  file << text << '\n';
  file.close();
  if (!file) cli::fail(path + ": cannot be written: " + std::strerror(errno));
}

}  // namespace alloctape::simulator
