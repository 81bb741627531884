// "Did you mean": the known word that a mistyped one most resembles.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace alloctape::cli {

// The candidate with the smallest number of single-letter edits (insertion, deletion, replacement,
// swap of neighbours) to `word`; empty when none is close enough to be what was meant.
std::string closest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace alloctape::cli
