// The loop's instances, one for each way to time, plain and careful.
#include "simulator/replayer/replay_loop.h"

namespace alloctape::simulator {
namespace {

template <Timing kTiming, bool kCareful>
void run_lane(Context& context, std::uint32_t lane) {
  ReplayLoop<kTiming, kCareful>(context, lane).run();
}

}  // namespace

RunLane choose_loop(Timing timing, bool careful) {
  switch (timing) {
    case Timing::kNone:
      return careful ? &run_lane<Timing::kNone, true> : &run_lane<Timing::kNone, false>;
    case Timing::kTsc:
      return careful ? &run_lane<Timing::kTsc, true> : &run_lane<Timing::kTsc, false>;
    case Timing::kClock:
      return careful ? &run_lane<Timing::kClock, true> : &run_lane<Timing::kClock, false>;
  }
  return nullptr;
}

}  // namespace alloctape::simulator
