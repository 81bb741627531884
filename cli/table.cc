#include "cli/table.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <utility>

#include "cli/progress.h"

namespace alloctape::cli {
namespace {

// Columns that a text takes on a terminal: escape sequences take none, and of a UTF-8 character
// only the first byte counts (no wide characters occur in our tables).
std::size_t visible_width(const std::string& text) {
  std::size_t width = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\033') {
      while (i < text.size() && text[i] != 'm') ++i;
    } else if ((text[i] & 0xc0) != 0x80) {
      ++width;
    }
  }
  return width;
}

std::string styled(const char* code, const std::string& text) {
  static const bool colour = stdout_is_terminal() && std::getenv("NO_COLOR") == nullptr;
  if (!colour || text.empty()) return text;
  return std::string("\033[") + code + "m" + text + "\033[0m";
}

constexpr std::size_t kGap = 2;  // spaces between columns

}  // namespace

void Table::column(std::string header, Align align) {
  columns_.push_back({std::move(header), align});
}

void Table::row(std::vector<std::string> cells) {
  // An empty row would be taken for a rule.
  if (cells.empty()) cells.emplace_back();
  rows_.push_back(std::move(cells));
}

void Table::rule() { rows_.emplace_back(); }

std::string Table::str() const {
  std::vector<std::size_t> widths;
  bool any_header = false;
  for (const Column& column : columns_) {
    widths.push_back(visible_width(column.header));
    any_header |= !column.header.empty();
  }
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i) {
      widths[i] = std::max(widths[i], visible_width(row[i]));
    }
  }
  std::size_t total = 0;
  for (const std::size_t width : widths) total += width + kGap;
  const std::string rule_line = std::string(total > kGap ? total - kGap : 0, '-') + "\n";

  std::string out;
  auto put_line = [&](const std::vector<std::string>& cells, bool header) {
    std::string line;
    for (std::size_t i = 0; i < widths.size() && i < cells.size(); ++i) {
      if (i > 0) line.append(kGap, ' ');
      const std::string padding(widths[i] - visible_width(cells[i]), ' ');
      const std::string cell = header ? bold(cells[i]) : cells[i];
      line += columns_[i].align == Align::kRight ? padding + cell : cell + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  };
  if (any_header) {
    std::vector<std::string> headers;
    for (const Column& column : columns_) headers.push_back(column.header);
    put_line(headers, true);
  }
  for (const auto& row : rows_) {
    if (row.empty()) {
      out += rule_line;
    } else {
      put_line(row, false);
    }
  }
  return out;
}

std::string bold(const std::string& text) { return styled("1", text); }
std::string green(const std::string& text) { return styled("32", text); }
std::string red(const std::string& text) { return styled("31", text); }
std::string dim(const std::string& text) { return styled("2", text); }

}  // namespace alloctape::cli
