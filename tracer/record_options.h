// The command line of `record`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace alloctape::tracer {

enum class PackWhen {
  kIdle,    // while the programs run, in time that nobody else wants
  kAlways,  // while they run, as fast as it goes
  kEnd,     // when an image has ended
};

struct RecordOptions {
  std::string output_pattern;  // absolute
  std::string json_path;
  std::string tracer_options;  // for ALLOCTAPE_OPTIONS: comma-separated
  bool quiet = false, wait_all = false;
  bool maps = false;               // the program's own mappings, too
  bool paused = false;             // until somebody starts it
  std::uint64_t delay_ns = 0;      // paused for that long
  std::uint64_t duration_ns = 0;   // 0 = to the end
  std::uint64_t on_rss_bytes = 0;  // 0 = never; else there is a ring
  int level = 0;                   // of packing; 0 = traces stay as the programs write them
  PackWhen pack_when = PackWhen::kIdle;
  std::vector<std::string> program;
};

// nullopt when only help was asked for. Throws cli::UserError.
std::optional<RecordOptions> parse_record_options(const std::vector<std::string>& args);

// `pattern` as a file name, when it is the same for every image.
std::optional<std::string> plain_name(const std::string& pattern);

}  // namespace alloctape::tracer
