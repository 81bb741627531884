#include "tracer/record_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <system_error>
#include <utility>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/units.h"
#include "formats/block_packer.h"
#include "formats/wire/session.h"
#include "formats/wire/trace_layout.h"

namespace alloctape::tracer {
namespace {

namespace po = boost::program_options;

// The header page, the strings about the image, and the first buffers of some threads.
constexpr std::uint64_t kLeastMaxBytes = 1024 * 1024;

// Whether the next word is the value of this one: `-o FILE`, but not `-oFILE` or `--output=FILE`.
bool takes_value(const po::options_description& options, const std::string& word) {
  for (const auto& option : options.options()) {
    if (option->semantic()->max_tokens() == 0) continue;
    const auto names = option->long_names();
    const bool is_long = std::find(names.first, names.first + names.second, word.substr(2)) !=
                         names.first + names.second;
    if (word.compare(0, 2, "--") == 0 ? is_long
                                      : word == option->canonical_display_name(
                                                    po::command_line_style::allow_dash_for_short)) {
      return true;
    }
  }
  return false;
}

// Everything from the first word that is no option of ours belongs to the program: its options must
// not be read as ours, with or without "--".
std::size_t program_start(const po::options_description& options,
                          const std::vector<std::string>& args, bool& separator) {
  for (std::size_t i = 0; i < args.size(); ++i) {
    separator = args[i] == "--";
    if (separator || args[i].empty() || args[i][0] != '-') return i;
    if (takes_value(options, args[i])) ++i;
  }
  return args.size();
}

// Absolute, since the program may change its directory. Percent signs of the current directory are
// plain characters, not ours.
std::string absolute_pattern(const std::string& pattern) {
  if (pattern[0] == '/') return pattern;
  std::error_code error;
  const auto here = std::filesystem::current_path(error);
  if (error) cli::fail("the current directory is gone", "give -o an absolute path");
  std::string escaped;
  for (const char c : here.string()) escaped += c == '%' ? "%%" : std::string(1, c);
  return escaped + "/" + pattern;
}

void check_pattern(const std::string& pattern) {
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%') continue;
    const char next = i + 1 < pattern.size() ? pattern[i + 1] : '\0';
    if (next != 'p' && next != 'e' && next != '%') {
      cli::usage_error(
          fmt::format("-o {}: %{} is unknown: there are %p (process id), %e (program) and %%",
                      pattern, next == '\0' ? ' ' : next));
    }
    ++i;
  }
}

// 0 when it was not given.
std::uint64_t duration_option(const po::variables_map& options, const char* name) {
  if (!options.count(name)) return 0;
  const auto& text = options[name].as<std::string>();
  const auto ns = cli::parse_duration_ns(text);
  if (!ns || *ns == 0) {
    cli::usage_error(fmt::format("--{} {}: give a time, as 10, 1.5s, 200ms or 2min", name, text));
  }
  return *ns;
}

// 0 when it was not given.
std::uint64_t bytes_option(const po::variables_map& options, const char* name,
                           std::uint64_t least) {
  if (!options.count(name)) return 0;
  const auto& text = options[name].as<std::string>();
  const auto bytes = cli::parse_bytes(text);
  if (!bytes) {
    cli::usage_error(fmt::format("--{} {}: give a size, as 64M, 1.5G or 4096", name, text));
  }
  if (*bytes < least) {
    cli::usage_error(fmt::format("--{} {}: at least {}", name, text, cli::bytes(least)));
  }
  return *bytes;
}

PackWhen pack_option(const std::string& when) {
  if (when == "idle") return PackWhen::kIdle;
  if (when == "always") return PackWhen::kAlways;
  if (when == "end") return PackWhen::kEnd;
  cli::usage_error(fmt::format("--pack {}: idle, always or end", when));
}

void add_tracer_option(RecordOptions& settings, const std::string& option) {
  if (!settings.tracer_options.empty()) settings.tracer_options += ',';
  settings.tracer_options += option;
}

}  // namespace

std::optional<std::string> plain_name(const std::string& pattern) {
  std::string name;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '%' && pattern[++i] != '%') return std::nullopt;
    name += pattern[i];
  }
  return name;
}

std::optional<RecordOptions> parse_record_options(const std::vector<std::string>& args) {
  cli::CommandLine line;
  line.synopsis = "record [-o FILE] [options] -- PROGRAM [ARGS...]";
  line.description =
      "Runs PROGRAM and records its calls of the malloc API, and those of the programs that it "
      "starts, "
      "into one trace for each process image. Exits as PROGRAM did.";
  line.examples =
      "  alloctape record -- ./server --port 8080\n"
      "  alloctape record -o traces/%e.%p.atrace -- make -j2\n";
  line.options.add_options()(
      "output,o", po::value<std::string>()->value_name("FILE")->default_value(wire::kDefaultOutput),
      "where traces go: %p is the process id, %e the program, %% a percent sign")(
      "json", po::value<std::string>()->value_name("FILE"), "also write the summary there")(
      "quiet,q", "no live line and no summary; warnings stay")(
      "level", po::value<int>()->value_name("N")->default_value(formats::kDefaultPackLevel),
      "how hard traces are packed: 1 (fast) to 19 (small), 0 = not at all")(
      "pack", po::value<std::string>()->value_name("WHEN")->default_value("idle"),
      "when traces are packed: idle (while the program runs, in time that nobody else wants), "
      "always (as soon as can be), end (of each image)")(
      "no-follow", "only the first image: leave the programs that it starts alone")(
      "wait-all", "wait for processes that outlive PROGRAM")(
      "strict-order", "serialising time stamps: slower, for checking the order of others")(
      "dense-stamps", "a time stamp on every event, not only where the order of threads needs it")(
      "usable", "also how much the allocator gave for each request")(
      "latency", "also how long each call took")("paused",
                                                 "record nothing until `alloctape ctl PID start`")(
      "delay", po::value<std::string>()->value_name("TIME"),
      "record nothing for that long: 10, 500ms, 2min")(
      "duration", po::value<std::string>()->value_name("TIME"),
      "stop recording after that long; the program goes on")(
      "max-size", po::value<std::string>()->value_name("BYTES"),
      "stop recording an image when its trace is that large: 500M, 2G")(
      "ring", po::value<std::string>()->value_name("BYTES"),
      "flight recorder: keep only the latest BYTES of events of each image")(
      "on-rss", po::value<std::string>()->value_name("BYTES"),
      "with --ring: save a copy of the ring when an image's anonymous memory passes BYTES")(
      "mmap",
      "also the program's own calls of mmap, munmap, mremap, madvise, brk and sbrk (not those of "
      "its allocator)");
  bool separator = false;
  const std::size_t start = program_start(line.options, args, separator);
  const auto options = cli::parse(line, {args.begin(), args.begin() + static_cast<long>(start)});
  if (!options) return std::nullopt;

  RecordOptions settings;
  settings.program.assign(args.begin() + static_cast<long>(start + (separator ? 1 : 0)),
                          args.end());
  if (settings.program.empty()) cli::usage_error("record: which program? Give it after --");
  const auto pattern = (*options)["output"].as<std::string>();
  if (pattern.empty() || pattern.back() == '/') cli::usage_error("-o needs the name of a file");
  check_pattern(pattern);
  settings.output_pattern = absolute_pattern(pattern);
  if (options->count("json")) settings.json_path = (*options)["json"].as<std::string>();
  settings.quiet = options->count("quiet");
  settings.wait_all = options->count("wait-all");
  settings.maps = options->count("mmap");
  settings.level = (*options)["level"].as<int>();
  settings.pack_when = pack_option((*options)["pack"].as<std::string>());
  if (settings.level < 0 || settings.level > formats::kMaxPackLevel) {
    cli::usage_error(fmt::format("--level {}: from 0 (not packed) and 1 (fast) to {} (small)",
                                 settings.level, formats::kMaxPackLevel));
  }
  settings.paused = options->count("paused");
  settings.delay_ns = duration_option(*options, "delay");
  settings.duration_ns = duration_option(*options, "duration");
  settings.on_rss_bytes = bytes_option(*options, "on-rss", 1);
  const std::uint64_t ring_bytes = bytes_option(*options, "ring", wire::kRingSlotBytes);
  const std::uint64_t max_bytes = bytes_option(*options, "max-size", kLeastMaxBytes);
  if (settings.on_rss_bytes != 0 && ring_bytes == 0) {
    cli::usage_error("--on-rss saves a copy of the ring: give --ring BYTES too");
  }
  if (settings.duration_ns != 0 && settings.paused && settings.delay_ns == 0) {
    cli::usage_error("--duration counts from the start of recording, which --paused leaves open");
  }
  if (ring_bytes != 0 && max_bytes != 0 && max_bytes < ring_bytes + kLeastMaxBytes) {
    cli::usage_error("--max-size must leave room for the ring, and for some MiB beside it");
  }

  const std::pair<const char*, const char*> passed_on[] = {
      {"strict-order", "strict"}, {"dense-stamps", "dense"}, {"no-follow", "nofollow"},
      {"usable", "usable"},       {"latency", "latency"},    {"paused", "paused"}};
  for (const auto& [option, name] : passed_on) {
    if (options->count(option)) add_tracer_option(settings, name);
  }
  if (ring_bytes != 0) add_tracer_option(settings, fmt::format("ring={}", ring_bytes));
  if (max_bytes != 0) add_tracer_option(settings, fmt::format("max_size={}", max_bytes));
  return settings;
}

}  // namespace alloctape::tracer
