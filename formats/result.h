// Result<T>: a value, or an error that says what is wrong and where. Readers of hostile files return
// these; they neither throw nor assert on file content.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace alloctape::formats {

enum class ErrorCode {
  kIo,           // the operating system refused: errno is in the message
  kNotThisFormat,
  kUnsupportedVersion,
  kTruncated,
  kCorrupt,
};

struct Error {
  ErrorCode code;
  std::string message;                   // complete sentence without the file's name
  std::string path;                      // the file
  std::optional<std::uint64_t> offset;   // byte offset in the file
  std::string field;                     // field of the specification, or empty

  // "PATH: MESSAGE (offset N, field F)"
  std::string to_string() const;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : v_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : v_(std::in_place_index<1>, std::move(error)) {}
  bool ok() const { return v_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & { return std::get<0>(v_); }
  const T& value() const& { return std::get<0>(v_); }
  T&& value() && { return std::get<0>(std::move(v_)); }
  T& operator*() & { return value(); }
  T* operator->() { return &value(); }
  const Error& error() const { return std::get<1>(v_); }

 private:
  std::variant<T, Error> v_;
};

struct Nothing {};
using Status = Result<Nothing>;

}  // namespace alloctape::formats
