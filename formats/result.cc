#include "formats/result.h"

#include <fmt/format.h>

namespace alloctape::formats {

std::string Error::to_string() const {
  std::string text = path.empty() ? message : fmt::format("{}: {}", path, message);
  if (offset && !field.empty())
    return fmt::format("{} (offset {}, field {})", text, *offset, field);
  if (offset) return fmt::format("{} (offset {})", text, *offset);
  if (!field.empty()) return fmt::format("{} (field {})", text, field);
  return text;
}

}  // namespace alloctape::formats
