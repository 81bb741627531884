// What the files that read and write results as JSON share. Not for others: result_json.h is.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "formats/result_json.h"

namespace alloctape::formats::json_parts {

using Json = nlohmann::json;

template <typename T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}
inline Json text_or_null(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

// The library converts any number to any other, and 1e109 to an integer by undefined behaviour:
// whole numbers are taken as such here, or refused.
template <typename T>
void convert(const Json& from, T& to) {
  if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    const bool fits = from.is_number_unsigned()
                          ? std::in_range<T>(from.get<std::uint64_t>())
                          : from.is_number_integer() && std::in_range<T>(from.get<std::int64_t>());
    if (!fits) {
      throw Json::type_error::create(302, "expected a whole number that fits, found " + from.dump(),
                                     &from);
    }
  }
  from.get_to(to);
}
template <typename T>
void convert(const Json& from, std::vector<T>& to) {
  to.clear();
  for (const Json& element : from.get_ref<const Json::array_t&>()) {
    convert(element, to.emplace_back());
  }
}

template <typename T>
void read(const Json& from, const char* key, T& to) {
  const auto it = from.find(key);
  if (it != from.end() && !it->is_null()) convert(*it, to);
}
template <typename T>
void read(const Json& from, const char* key, std::optional<T>& to) {
  const auto it = from.find(key);
  if (it != from.end() && !it->is_null()) convert(*it, to.emplace());
}

// Latencies, by function and by size, and the slowest calls.
void add_latencies(Json& to, const RunResult& run);
void read_latencies(const Json& from, RunResult& run);

void add_verification(Json& to, const RunResult& run);
void read_verification(const Json& from, RunResult& run);

// The closer looks at memory.
void add_memory(Json& to, const RunResult& run);
void read_memory(const Json& from, RunResult& run);

void add_syscalls(Json& to, const RunResult& run);
void read_syscalls(const Json& from, RunResult& run);

}  // namespace alloctape::formats::json_parts
