// The loop's instances, one for each way to time.
#include "simulator/replayer/replay_loop.h"

namespace alloctape::simulator {
namespace {

template <Timing kTiming>
void run_lane(Context& context, std::uint32_t lane) {
  ReplayLoop<kTiming>(context, lane).run();
}

}  // namespace

RunLane choose_loop(Timing timing) {
  switch (timing) {
    case Timing::kNone:
      return &run_lane<Timing::kNone>;
    case Timing::kTsc:
      return &run_lane<Timing::kTsc>;
    case Timing::kClock:
      return &run_lane<Timing::kClock>;
  }
  return nullptr;
}

}  // namespace alloctape::simulator
