// Plain text tables: columns sized to fit, numbers to the right.
#pragma once

#include <string>
#include <vector>

namespace alloctape::cli {

class Table {
 public:
  enum class Align { kLeft, kRight };
  void column(std::string header, Align align = Align::kRight);
  void row(std::vector<std::string> cells);  // may be shorter than the columns
  void rule();                               // a separating line
  std::string str() const;                   // ends with a newline

 private:
  struct Column {
    std::string header;
    Align align;
  };
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;  // an empty row is a rule
};

// Bold / green / dim, when stdout is a terminal and NO_COLOR is unset; the text as it is otherwise.
// Table measures what is visible.
std::string bold(const std::string&);
std::string green(const std::string&);
std::string red(const std::string&);
std::string dim(const std::string&);

}  // namespace alloctape::cli
