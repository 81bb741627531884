#include "cli/units.h"

#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <cmath>
#include <string_view>

namespace alloctape::cli {
namespace {

// Three significant digits of a value below ten thousand.
std::string three_digits(double v) {
  if (v < 9.995) return fmt::format("{:.2f}", v);
  if (v < 99.95) return fmt::format("{:.1f}", v);
  return fmt::format("{:.0f}", v);
}

// Like three_digits, without zeros behind the point: "8.2", "15", "1.24".
std::string trimmed(double v) {
  std::string s = three_digits(v);
  if (s.find('.') != std::string::npos) {
    while (s.back() == '0') s.pop_back();
    if (s.back() == '.') s.pop_back();
  }
  return s;
}

// Splits "1.5MiB" into its number and its unit in lower case; false when there is no number.
bool split(const std::string& text, double* number, std::string* unit) {
  const char* begin = text.data();
  const char* end = begin + text.size();
  while (begin != end && std::isspace(static_cast<unsigned char>(*begin))) ++begin;
  // from_chars would read "inf", "nan" and exponents, where "1e" is rather a typing error.
  if (begin == end || !std::isdigit(static_cast<unsigned char>(*begin))) return false;
  const auto [rest, error] = std::from_chars(begin, end, *number, std::chars_format::fixed);
  if (error != std::errc{}) return false;
  unit->clear();
  for (const char* p = rest; p != end; ++p) {
    if (std::isspace(static_cast<unsigned char>(*p))) continue;
    unit->push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(*p))));
  }
  return true;
}

// Rounds to an integer; nullopt when it does not fit.
std::optional<std::uint64_t> to_integer(double v) {
  constexpr double kTwoTo64 = 18446744073709551616.0;
  if (!(v >= 0 && v < kTwoTo64)) return std::nullopt;
  return static_cast<std::uint64_t>(std::round(v));
}

// Plain digits keep all 64 bits, which a double would not.
std::optional<std::uint64_t> plain_integer(const std::string& text) {
  std::uint64_t n = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, n);
  if (error != std::errc{} || rest != end) return std::nullopt;
  return n;
}

}  // namespace

std::string bytes(std::uint64_t n) {
  if (n < 1024) return fmt::format("{} B", n);
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double v = static_cast<double>(n) / 1024;
  int unit = 0;
  while (v >= 1023.5 && unit < 5) {
    v /= 1024;
    ++unit;
  }
  return fmt::format("{} {}", three_digits(v), kUnits[unit]);
}

std::string count(std::uint64_t n) {
  std::string digits = fmt::format("{}", n);
  for (std::ptrdiff_t i = static_cast<std::ptrdiff_t>(digits.size()) - 3; i > 0; i -= 3) {
    digits.insert(static_cast<std::size_t>(i), 1, ',');
  }
  return digits;
}

std::string duration_ns(double ns) {
  if (ns < 0) return "-" + duration_ns(-ns);
  if (ns < 999.5) return trimmed(ns) + " ns";
  if (ns < 999.5e3) return trimmed(ns / 1e3) + " us";
  if (ns < 999.5e6) return trimmed(ns / 1e6) + " ms";
  const double seconds = ns / 1e9;
  if (seconds < 59.95) return trimmed(seconds) + " s";
  const auto whole = static_cast<std::uint64_t>(std::llround(seconds));
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

std::string ratio(double r) { return three_digits(r) + "x"; }

std::string percent(double fraction) { return fmt::format("{:.1f}%", fraction * 100); }

std::optional<std::uint64_t> parse_bytes(const std::string& text) {
  if (const auto n = plain_integer(text)) return n;
  double number = 0;
  std::string unit;
  if (!split(text, &number, &unit)) return std::nullopt;
  // k, kb and kib all mean 1024: nobody measures memory by thousands.
  static constexpr std::string_view kPrefixes = "kmgtpe";
  if (unit.empty() || unit == "b") return to_integer(number);
  const std::size_t prefix = kPrefixes.find(unit[0]);
  const std::string rest = unit.substr(1);
  if (prefix == std::string_view::npos || !(rest.empty() || rest == "b" || rest == "ib")) {
    return std::nullopt;
  }
  return to_integer(std::ldexp(number, 10 * (static_cast<int>(prefix) + 1)));
}

std::optional<std::uint64_t> parse_duration_ns(const std::string& text) {
  double number = 0;
  std::string unit;
  if (!split(text, &number, &unit)) return std::nullopt;
  struct Unit {
    std::string_view name;
    double ns;
  };
  static constexpr Unit kUnits[] = {{"", 1e9},     {"ns", 1},   {"us", 1e3},
                                    {"ms", 1e6},   {"s", 1e9},  {"sec", 1e9},
                                    {"min", 60e9}, {"m", 60e9}, {"h", 3600e9}};
  for (const Unit& u : kUnits) {
    if (unit == u.name) return to_integer(number * u.ns);
  }
  return std::nullopt;
}

}  // namespace alloctape::cli
