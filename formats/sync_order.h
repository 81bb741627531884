// The names of the orders a workload may keep, as the command line and the provenance spell them.
#pragma once

#include "formats/wire/workload_layout.h"

namespace alloctape::formats {

constexpr const char* order_name(wire::SyncOrder order) {
  switch (order) {
    case wire::SyncOrder::kCausal:
      return "causal";
    case wire::SyncOrder::kBounded:
      return "bounded";
    case wire::SyncOrder::kSerial:
      return "serial";
  }
  return "unknown";
}

}  // namespace alloctape::formats
