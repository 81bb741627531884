// Quantities for people, and quantities from people.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace alloctape::cli {

std::string bytes(std::uint64_t n);    // "812 B", "1.50 MiB": binary prefixes, three digits
std::string count(std::uint64_t n);    // "12,345,678"
std::string duration_ns(double ns);    // "8.2 ns", "1.24 ms", "3.1 s", "2 min 5 s"
std::string ratio(double r);           // "1.31x"
std::string percent(double fraction);  // 0.031 -> "3.1%"
// "64K", "1.5MiB", "4096": binary multiples; nullopt when it is no size.
std::optional<std::uint64_t> parse_bytes(const std::string& text);
// "10", "1.5s", "200ms", "2min": plain numbers are seconds; the result is ns.
std::optional<std::uint64_t> parse_duration_ns(const std::string& text);

}  // namespace alloctape::cli
