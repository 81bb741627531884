#include "analysis/call_details.h"

namespace alloctape::analysis {

void CallDetails::add(const formats::Event& event) {
  const wire::OpClass op_class = wire::op_class(event.op);
  const bool requests = op_class == wire::OpClass::kAcquire || op_class == wire::OpClass::kResize;
  if ((event.notes & formats::kNoteUsable) && requests && event.pointer != 0) {
    sizes_.add(event.size, event.usable);
    sizes_by_size_[Log2Histogram::bucket(event.size)].add(event.size, event.usable);
  }
  if (!(event.notes & formats::kNoteDuration)) return;
  has_durations_ = true;
  const auto add_to = [&](std::shared_ptr<QuantileHistogram>& histogram) {
    if (!histogram) histogram = std::make_shared<QuantileHistogram>();
    histogram->add(event.duration_ticks);
  };
  if (static_cast<std::size_t>(event.op) < kOps) add_to(by_op_[static_cast<std::size_t>(event.op)]);
  if (requests) add_to(by_size_[Log2Histogram::bucket(event.size)]);
}

}  // namespace alloctape::analysis
