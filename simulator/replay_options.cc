#include "simulator/replay_options.h"

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>

#include "cli/cli.h"
#include "cli/install_paths.h"
#include "cli/output.h"
#include "cli/units.h"

namespace alloctape::simulator {

namespace po = boost::program_options;

namespace {

// The whole of `text` as a number of 1 to `most`.
std::optional<std::uint32_t> number_in(const std::string& text, std::uint32_t most) {
  std::uint32_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc{} || end != text.data() + text.size() || n == 0 || n > most)
    return std::nullopt;
  return n;
}

void choose_touch(const std::string& text, RunSettings& settings) {
  if (text == "none") {
    settings.touch = Touch::kNone;
  } else if (text == "page") {
    settings.touch = Touch::kPage;
  } else if (text == "full") {
    settings.touch = Touch::kFull;
  } else if (const auto n = text.empty() || text.back() != '%'
                                ? std::nullopt
                                : number_in(text.substr(0, text.size() - 1), 100)) {
    settings.touch = Touch::kPercent;
    settings.touch_percent = *n;
  } else {
    cli::usage_error("--touch " + text + ": there are none, page, full, and 1% to 100%");
  }
}

void choose_timing(const std::string& text, RunSettings& settings) {
  constexpr std::uint32_t kUsual = 64, kMost = 1'000'000;
  settings.timed = text != "none";
  if (text == "all" || text == "none") return;
  settings.sample_every = kUsual;
  if (text == "sample") return;
  const auto n = text.rfind("sample=", 0) == 0 ? number_in(text.substr(7), kMost) : std::nullopt;
  if (!n) cli::usage_error("--timing " + text + ": there are all, sample, sample=N and none");
  settings.sample_every = *n;
}

}  // namespace

void add_run_options(po::options_description& options) {
  options.add_options()("touch",
                        po::value<std::string>()->value_name("MODE")->default_value("page"),
                        "what to write to new blocks, outside the timed window: none, page (a byte "
                        "in each page), full, "
                        "or N% (a byte in each page of the first N percent of each block)")(
      "touch-calloc", "write to the zeroed blocks of calloc, too")(
      "touch-reads", "read a byte in each page of a block before it is released or resized")(
      "timing", po::value<std::string>()->value_name("MODE")->default_value("all"),
      "latency of every call (all), of one in N (sample=N; sample: 64), or none: then wall and CPU "
      "time are undisturbed")(
      "timeout", po::value<std::string>()->value_name("TIME")->default_value("60s"),
      "a run in which no call finishes for so long is ended and called hung")(
      "env", po::value<std::vector<std::string>>()->value_name("K=V")->composing(),
      "environment of the replayed process; may be given several times");
}

RunSettings run_settings(const po::variables_map& values) {
  RunSettings settings;
  settings.replayer = cli::replayer_program();
  choose_touch(values["touch"].as<std::string>(), settings);
  settings.touch_calloc = values.count("touch-calloc") != 0;
  settings.touch_reads = values.count("touch-reads") != 0;
  choose_timing(values["timing"].as<std::string>(), settings);
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
