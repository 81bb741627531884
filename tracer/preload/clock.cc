#include "tracer/preload/clock.h"

#include <cpuid.h>
#include <string.h>

#include "tracer/preload/syscalls.h"

#include "tracer/preload/forbidden.h"

namespace alloctape::tracer {

ClockMode g_clock_mode = ClockMode::kTsc;

namespace {

// The kernel watches the TSC and stops using it when cores disagree: its word is worth more than a
// CPU flag. Where sysfs is out of reach, the invariant-TSC flag decides.
bool tsc_is_trustworthy() {
  char name[16] = {};
  const long fd = sys::open("/sys/devices/system/clocksource/clocksource0/current_clocksource",
                            O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    const long n = sys::read(static_cast<int>(fd), name, sizeof name - 1);
    sys::close(static_cast<int>(fd));
    if (n > 0) return n >= 3 && memcmp(name, "tsc", 3) == 0;
  }
  unsigned a, b, c, d;
  return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1u << 8));
}

}  // namespace

void choose_clock(bool strict) {
  g_clock_mode = !tsc_is_trustworthy() ? ClockMode::kMonotonic
                 : strict              ? ClockMode::kTscStrict
                                       : ClockMode::kTsc;
}

}  // namespace alloctape::tracer
