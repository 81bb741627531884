// The reader of results, on any bytes: text, JSON, replay result or comparison; and what is read can
// be written and read again.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include <nlohmann/json.hpp>

#include "formats/result_json.h"

namespace {

using namespace alloctape::formats;

void require(bool what) {
  if (!what) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const int fd = ::memfd_create("result_fuzz", MFD_CLOEXEC);
  require(fd >= 0 && ::ftruncate(fd, 0) == 0);
  require(::pwrite(fd, data, size, 0) == static_cast<ssize_t>(size));
  const auto results = read_results("/proc/self/fd/" + std::to_string(fd));
  if (!results.ok()) {
    require(!results.error().to_string().empty());
    return 0;
  }
  const nlohmann::json written = to_json(results.value());
  const auto again = comparison_from_json(written);
  require(again.ok());
  require(to_json(again.value()).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) ==
          written.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  return 0;
}
