#include "simulator/replayer/backtrace.h"

#include <dlfcn.h>
#include <unwind.h>

#include <cstring>

namespace alloctape::simulator {
namespace {

class Line {
 public:
  Line(char* to, std::size_t capacity) : to_(to), end_(to + capacity - 1) {}
  ~Line() { *to_ = 0; }
  void text(const char* from) {
    while (*from && to_ < end_) *to_++ = *from++;
  }
  void hex(std::uintptr_t value) {
    text("0x");
    int shift = 60;
    while (shift > 0 && (value >> shift & 15) == 0) shift -= 4;
    for (; shift >= 0 && to_ < end_; shift -= 4) *to_++ = "0123456789abcdef"[value >> shift & 15];
  }

 private:
  char *to_, *end_;
};

struct Walk {
  SharedHeader& shared;
  bool interrupted;  // the frame that the signal interrupted has been reached: above lies our
                     // handler
};

_Unwind_Reason_Code on_frame(_Unwind_Context* context, void* argument) {
  auto& [shared, interrupted] = *static_cast<Walk*>(argument);
  const std::uint32_t n = shared.frame_count.load(std::memory_order_relaxed);
  if (n == kFrames) return _URC_END_OF_STACK;
  int before_call = 0;
  const std::uintptr_t address = _Unwind_GetIPInfo(context, &before_call);
  if (address == 0) return _URC_END_OF_STACK;
  interrupted |= before_call != 0;
  if (!interrupted) return _URC_NO_REASON;
  // A return address may belong to the next function already: look up the call before it.
  const std::uintptr_t inside = before_call ? address : address - 1;
  Line line(shared.frames[n], sizeof shared.frames[n]);
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(inside), &info) && info.dli_fname != nullptr) {
    const char* slash = std::strrchr(info.dli_fname, '/');
    line.text(slash != nullptr ? slash + 1 : info.dli_fname);
    line.text("+");
    line.hex(inside - reinterpret_cast<std::uintptr_t>(info.dli_fbase));
    if (info.dli_sname != nullptr) {
      line.text(" ");
      line.text(info.dli_sname);
      line.text("+");
      line.hex(inside - reinterpret_cast<std::uintptr_t>(info.dli_saddr));
    }
  } else {
    line.hex(inside);
  }
  // Release: pairs with the driver's acquire while it waits for the frames of a hung process.
  shared.frame_count.store(n + 1, std::memory_order_release);
  return _URC_NO_REASON;
}

}  // namespace

void write_backtrace(SharedHeader& shared) {
  std::uint32_t begun = 0;
  if (!shared.frames_begun.compare_exchange_strong(begun, 1, std::memory_order_relaxed)) return;
  Walk walk{shared, false};
  _Unwind_Backtrace(on_frame, &walk);
  if (!walk.interrupted) {  // no frame of a signal is known as such here: then all of them
    walk.interrupted = true;
    _Unwind_Backtrace(on_frame, &walk);
  }
  shared.frames_done.store(1, std::memory_order_release);
}

}  // namespace alloctape::simulator
