#include "tracer/script_signs.h"

#include <fmt/format.h>

#include <fstream>
#include <sstream>

namespace alloctape::tracer {
namespace {

constexpr std::size_t kMaxLines = 2000, kMaxLineBytes = 4096, kMaxExecs = 3;

// The program of an `exec /absolute/path ...`; what a variable holds is not guessed at.
std::string plain_exec(const std::string& line) {
  std::istringstream words(line);
  std::string word;
  words >> word;
  if (word != "exec") return {};
  words >> word;
  if (word.size() > 2 && word.front() == '"' && word.back() == '"') {
    word = word.substr(1, word.size() - 2);
  }
  return word.starts_with('/') && word.find('$') == std::string::npos ? word : std::string{};
}

}  // namespace

void diagnose_script(const std::string& path, Diagnosis& diagnosis) {
  std::ifstream file(path);
  std::size_t number = 0, execs = 0;
  bool told = false;
  for (std::string line; number < kMaxLines && std::getline(file, line);) {
    ++number;
    if (line.size() > kMaxLineBytes) continue;
    const std::size_t first = line.find_first_not_of(" \t");
    if (first == std::string::npos || line[first] == '#') continue;
    const bool touches = line.find("LD_PRELOAD") != std::string::npos;
    const bool empties = line.find("env -i") != std::string::npos ||
                         line.find("env --ignore-environment") != std::string::npos;
    if ((touches || empties) && !told) {
      told = true;
      diagnosis.add(Severity::kWarning, "script_environment", path,
                    fmt::format("line {} {}: what it starts may not be traced", number,
                                touches ? "changes LD_PRELOAD" : "empties the environment"),
                    "let it keep what is in LD_PRELOAD, or record the program that it starts");
    }
    const std::string program = plain_exec(line);
    if (program.empty() || ++execs > kMaxExecs) continue;
    diagnosis.add(Severity::kNote, "script_exec", path,
                  fmt::format("line {} turns it into {}", number, program),
                  "look at that, too: alloctape doctor " + shell_line({program}));
  }
}

}  // namespace alloctape::tracer
