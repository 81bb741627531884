#include "analysis/input.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "cli/cli.h"
#include "formats/wire/trace_layout.h"
#include "formats/wire/workload_layout.h"

namespace alloctape::analysis {
namespace {

using formats::Error;
using formats::ErrorCode;

Error io_error(const std::string& path, const char* doing) {
  return {ErrorCode::kIo, fmt::format("{}: {}", doing, std::strerror(errno)), path, {}, {}};
}

const char* remedy_for(ErrorCode code) {
  switch (code) {
    case ErrorCode::kIo:
      return "Check the path and its permissions.";
    case ErrorCode::kNotThisFormat:
      return "Give a trace made by `alloctape record` or a workload made by `alloctape convert`.";
    case ErrorCode::kUnsupportedVersion:
      return "The file was made by a newer alloctape: read it with that version.";
    case ErrorCode::kTruncated:
      return "Part of the file is missing: copy it again, or make it anew.";
    case ErrorCode::kCorrupt:
      return "The file is damaged: `alloctape check FILE` lists what is wrong with it.";
  }
  return "";
}

}  // namespace

formats::Result<FileKind> detect_kind(const std::string& path) {
  // O_NONBLOCK: opening a FIFO shall not wait for a writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return io_error(path, "cannot be opened");
  struct stat status {};
  if (fstat(fd, &status) == 0 && !S_ISREG(status.st_mode)) {
    ::close(fd);
    return Error{ErrorCode::kNotThisFormat, "not a regular file", path, {}, {}};
  }
  char start[8] = {};
  std::size_t got = 0;
  while (got < sizeof start) {
    const ssize_t n = ::read(fd, start + got, sizeof start - got);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const Error error = io_error(path, "cannot be read");
      ::close(fd);
      return error;
    }
    if (n == 0) break;
    got += static_cast<std::size_t>(n);
  }
  ::close(fd);
  if (got == 0) return Error{ErrorCode::kNotThisFormat, "the file is empty", path, 0, {}};
  // A file cut within its magic number is still recognised; its reader then says what is missing.
  if (got > 1 && std::memcmp(start, wire::kTraceMagic, got) == 0) return FileKind::kTrace;
  if (got > 1 && std::memcmp(start, wire::kWorkloadMagic, got) == 0) return FileKind::kWorkload;
  return Error{ErrorCode::kNotThisFormat, "neither a trace nor a workload", path, 0, "magic"};
}

FileKind kind_of(const std::string& path) {
  const auto kind = detect_kind(path);
  if (!kind) fail_on(kind.error());
  return kind.value();
}

formats::TraceFile open_trace(const std::string& path) {
  auto file = formats::TraceFile::open(path);
  if (!file) fail_on(file.error());
  return std::move(file).value();
}

formats::WorkloadFile open_workload(const std::string& path) {
  auto file = formats::WorkloadFile::open(path);
  if (!file) fail_on(file.error());
  return std::move(file).value();
}

void fail_on(const Error& error) { cli::fail(error.to_string(), remedy_for(error.code)); }

// Bytes of the character that the text begins with; 0 when these bytes are none.
static std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  const std::size_t length = lead < 0x80   ? 1
                             : lead < 0xc2 ? 0
                             : lead < 0xe0 ? 2
                             : lead < 0xf0 ? 3
                                           : 4;
  if (length == 0 || lead > 0xf4 || length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  // Longer than need be, surrogates, beyond the last character.
  if ((lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xed && byte(1) >= 0xa0) ||
      (lead == 0xf0 && byte(1) < 0x90) || (lead == 0xf4 && byte(1) >= 0x90)) {
    return 0;
  }
  return length;
}

std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto byte = static_cast<unsigned char>(text[0]);
    const std::size_t length = utf8_length(text);
    // The characters of C1, two bytes each, steer terminals too.
    const bool control =
        byte < 0x20 || byte == 0x7f ||
        (byte == 0xc2 && length == 2 && static_cast<unsigned char>(text[1]) < 0xa0);
    if (length == 0 || control) {
      out += fmt::format("\\x{:02x}", byte);
      text.remove_prefix(1);
    } else {
      out += text.substr(0, length);
      text.remove_prefix(length);
    }
  }
  return out;
}

}  // namespace alloctape::analysis
