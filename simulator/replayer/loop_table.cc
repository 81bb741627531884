// The loop's instances, one for each way to time and to touch.
#include "simulator/replayer/replay_loop.h"

namespace alloctape::simulator {
namespace {

template <Timing kTiming, Touch kTouch>
void run_lane(Context& context, std::uint32_t lane) {
  ReplayLoop<kTiming, kTouch>(context, lane).run();
}

template <Timing kTiming>
RunLane choose_touch(Touch touch) {
  switch (touch) {
    case Touch::kNone:
      return &run_lane<kTiming, Touch::kNone>;
    case Touch::kPage:
      return &run_lane<kTiming, Touch::kPage>;
    case Touch::kFull:
      return &run_lane<kTiming, Touch::kFull>;
  }
  return nullptr;
}

}  // namespace

RunLane choose_loop(Timing timing, Touch touch) {
  switch (timing) {
    case Timing::kNone:
      return choose_touch<Timing::kNone>(touch);
    case Timing::kTsc:
      return choose_touch<Timing::kTsc>(touch);
    case Timing::kClock:
      return choose_touch<Timing::kClock>(touch);
  }
  return nullptr;
}

}  // namespace alloctape::simulator
