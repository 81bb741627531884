// Random multithreaded programs with an allocator of their own that reuses addresses as soon as it
// can: the history is known, whatever a trace of it goes through.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include "formats/event.h"
#include "tests/unit/temp_trace.h"

namespace alloctape::formats::test {

struct ProgramOptions {
  std::uint32_t seed = 1;
  unsigned events = 300;
  unsigned most_threads = 4;           // at the same time
  unsigned thread_change_percent = 2;  // chance of a thread starting or ending, an event
  unsigned switch_percent = 30;        // chance of another thread going on
  bool unseen = true;                  // blocks from before the recording
  bool oddities = true;                // NULLs, failures, realloc to 0, queries
  // Far enough apart that nothing is held back for long (the walk's repair window).
  std::uint64_t step = 20'000;
};

// An API event, and the block it is about.
struct Call {
  Event event;
  std::optional<std::uint64_t> block;  // identity; none: NULL, failed acquires
};

struct Program {
  std::vector<StreamEvent> trace;  // in true order
  std::vector<Call> calls;         // API events alone, in true order
};

class ProgramMaker {
 public:
  explicit ProgramMaker(const ProgramOptions& options) : o_(options), random_(options.seed) {}

  Program make() {
    start_thread();
    while (program_.calls.size() < o_.events) {
      if (percent(o_.thread_change_percent)) change_threads();
      if (percent(o_.switch_percent)) current_ = below(running_.size());
      call();
    }
    return std::move(program_);
  }

 private:
  struct Thread {
    std::uint32_t thread, stream;
  };
  struct Live {
    std::uint64_t address, identity;
  };

  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  bool percent(unsigned p) { return below(100) < p; }
  std::uint64_t tick() { return clock_ += o_.step; }

  void start_thread() {
    std::uint32_t stream = next_stream_;
    if (free_streams_.empty()) {
      ++next_stream_;
    } else {
      stream = free_streams_.back();
      free_streams_.pop_back();
    }
    running_.push_back({next_thread_++, stream});
    current_ = running_.size() - 1;
    emit_meta(wire::Op::kThreadStart);
  }
  void change_threads() {
    if (running_.size() < o_.most_threads && percent(60)) return start_thread();
    if (running_.size() < 2) return;
    current_ = 1 + below(running_.size() - 1);  // the main thread stays
    emit_meta(wire::Op::kThreadEnd);
    free_streams_.push_back(running_[current_].stream);
    running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(current_));
    current_ = 0;
  }
  void emit_meta(wire::Op op) {
    Event e = make_event(op, tick());
    e.thread = ThreadIndex{running_[current_].thread};
    e.value = 1000 + running_[current_].thread;
    program_.trace.push_back({running_[current_].stream, e});
  }
  void emit(Event e, std::optional<std::uint64_t> block) {
    e.thread = ThreadIndex{running_[current_].thread};
    program_.trace.push_back({running_[current_].stream, e});
    program_.calls.push_back({e, block});
  }

  std::uint64_t take_address() {
    if (!free_addresses_.empty()) {
      const std::uint64_t address = free_addresses_.back();
      free_addresses_.pop_back();
      return address;
    }
    return next_address_ += 64;
  }
  Live take_live() {
    const std::size_t i = below(live_.size());
    const Live block = live_[i];
    live_[i] = live_.back();
    live_.pop_back();
    return block;
  }
  // A block that lives, or one from before the recording.
  Live some_block() {
    if (live_.empty() || (o_.unseen && percent(3))) {
      return {next_address_ += 64, next_identity_++};
    }
    return take_live();
  }

  void acquire_one() {
    const Live block{take_address(), next_identity_++};
    Event e = acquire(tick(), block.address, 1 + below(5000));
    const std::uint64_t kind = below(10);
    if (kind == 0) {
      e.op = wire::Op::kAlignedAlloc;
      e.alignment = 64;
    } else if (kind == 1) {
      e = resize(e.stamp, e.stamp, 0, block.address, e.size);
    } else if (kind == 2) {
      e.op = wire::Op::kNewArray;
    }
    live_.push_back(block);
    emit(e, block.identity);
  }
  void release_one() {
    const Live block = some_block();
    Event e = release(tick(), block.address);
    if (percent(10)) e.op = wire::Op::kDelete;
    if (o_.oddities && percent(5)) {
      e = resize(e.stamp, e.stamp, block.address, 0, 0);
    }
    emit(e, block.identity);
    free_addresses_.push_back(block.address);
  }
  void resize_one() {
    Live block = some_block();
    const std::uint64_t before = tick(), old_address = block.address;
    if (percent(50)) {
      block.address = take_address();
      free_addresses_.push_back(old_address);
    }
    Event e = resize(before, tick(), old_address, block.address, 1 + below(5000));
    if (block.address != old_address) {
      e.path |= wire::kPathMoved;
    } else {
      e.release_stamp = e.stamp;
    }
    live_.push_back(block);
    emit(e, block.identity);
  }
  void odd_one() {
    const std::uint64_t kind = below(5);
    if (kind == 0) return emit(release(tick(), 0), std::nullopt);
    if (kind == 1) {
      Event e = acquire(tick(), 0, std::uint64_t{1} << 60);
      e.path |= wire::kPathFailed;
      return emit(e, std::nullopt);
    }
    const Live block = some_block();
    live_.push_back(block);
    if (kind == 2) {
      const std::uint64_t now = tick();
      Event e = resize(now, now, block.address, 0, std::uint64_t{1} << 60);
      e.path |= wire::kPathFailed;
      return emit(e, block.identity);
    }
    Event e = make_event(wire::Op::kMallocUsableSize, tick(), block.address);
    e.value = 4096;
    emit(e, block.identity);
  }
  void call() {
    const std::uint64_t kind = below(100);
    if (kind < 8 && o_.oddities) return odd_one();
    if (kind < 20) return resize_one();
    if (kind < 62 || (live_.empty() && !o_.unseen)) return acquire_one();
    release_one();
  }

  ProgramOptions o_;
  std::mt19937 random_;
  Program program_;
  std::vector<Thread> running_;
  std::vector<std::uint32_t> free_streams_;
  std::vector<std::uint64_t> free_addresses_;
  std::vector<Live> live_;
  std::size_t current_ = 0;
  std::uint32_t next_thread_ = 0, next_stream_ = 0;
  std::uint64_t next_address_ = 0x7f0000000000, next_identity_ = 0, clock_ = 0;
};

inline Program make_program(const ProgramOptions& options) { return ProgramMaker(options).make(); }

}  // namespace alloctape::formats::test
