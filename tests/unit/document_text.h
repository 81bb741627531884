// Parts of a specification, for the tests that hold it to the code.
#pragma once

#include <sstream>
#include <string>
#include <vector>

namespace alloctape {

// The lines after the one that holds `from`, up to `to`: a fenced block, or a section.
inline std::vector<std::string> lines_between(const std::string& text, const std::string& from,
                                              const std::string& to) {
  const std::size_t start = text.find(from);
  if (start == std::string::npos) return {};
  const std::size_t body = text.find('\n', start) + 1;
  std::istringstream in(text.substr(body, text.find(to, body) - body));
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

}  // namespace alloctape
