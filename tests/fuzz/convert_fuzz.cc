// Any bytes that can be read as a trace become a workload that validates, in every order.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "converter/converter.h"
#include "formats/workload_file.h"

namespace {

using namespace alloctape;

void require(bool what) {
  if (!what) std::abort();
}

// In memory, where there is such a place: the target writes three workloads for each input.
const std::string& output() {
  static const std::string path =
      std::string(::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp") +
      "/alloctape-convert-fuzz-" + std::to_string(::getpid()) + ".awl";
  return path;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const int fd = ::memfd_create("convert_fuzz", MFD_CLOEXEC);
  require(fd >= 0 && ::ftruncate(fd, 0) == 0);
  require(::pwrite(fd, data, size, 0) == static_cast<ssize_t>(size));
  const auto trace = formats::TraceFile::open("/proc/self/fd/" + std::to_string(fd));
  if (!trace.ok()) return 0;
  for (const auto order :
       {wire::SyncOrder::kCausal, wire::SyncOrder::kBounded, wire::SyncOrder::kSerial}) {
    converter::ConvertOptions options;
    options.order = order;
    options.window_events = 16;
    options.slots = {.slack = 0, .batch = 1};
    const auto summary = converter::convert(trace.value(), output(), options);
    require(summary.ok());
    const auto workload = formats::WorkloadFile::open(output());
    require(workload.ok() && workload.value().validate().ok());
    require(workload.value().header().ops == summary.value().ops);
  }
  ::unlink(output().c_str());
  return 0;
}
