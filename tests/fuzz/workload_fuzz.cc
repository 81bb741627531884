// Everything that reads a workload, on any bytes: open, tables, ops, validate.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "formats/workload_cursor.h"
#include "formats/workload_file.h"

namespace {

using namespace alloctape::formats;
namespace wire = alloctape::wire;

std::uint64_t g_sink = 0;  // so that what is read counts as used

void require(bool what) {
  if (!what) std::abort();
}

void read_all(const std::string& path) {
  const auto opened = WorkloadFile::open(path);
  if (!opened.ok()) {
    require(!opened.error().to_string().empty());
    return;
  }
  const WorkloadFile& file = opened.value();
  std::uint64_t sum = file.provenance().size();
  for (const wire::ThreadEntry& thread : file.threads()) {
    require(thread.lane < file.header().lanes);
    sum += thread.ops;
  }
  for (const auto& curve : {file.live_curve(), file.rss_curve()}) {
    for (const wire::CurvePoint& point : curve) sum += point.bytes;
  }
  for (const wire::ChunkEntry& chunk : file.chunks()) {
    const auto words = file.words(chunk);
    const std::uint64_t* end = words.data() + words.size();
    for (const std::uint64_t* p = words.data(); p < end;) {
      const OpView op = decode(p, end);
      if (!op) break;
      sum += op.requested_bytes() + op.slot;
      p += op.words;
    }
  }
  const Status status = file.validate();
  if (!status.ok()) require(status.error().offset.has_value());
  g_sink = sum;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const int fd = ::memfd_create("workload_fuzz", MFD_CLOEXEC);
  require(fd >= 0 && ::ftruncate(fd, 0) == 0);
  require(::pwrite(fd, data, size, 0) == static_cast<ssize_t>(size));
  read_all("/proc/self/fd/" + std::to_string(fd));
  return 0;
}
