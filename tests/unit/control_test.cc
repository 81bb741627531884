#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "temp_trace.h"
#include "tracer/image_control.h"
#include "tracer/live_trace.h"
#include "tracer/process_info.h"
#include "tracer/ring_snapshot.h"

namespace alloctape::tracer {
namespace {

using formats::test::acquire;
using formats::test::open_trace;
using formats::test::StreamEvent;
using formats::test::TempPath;
using wire::ControlState;

constexpr std::uint64_t kAddress = 0x555555560000;
constexpr std::uint64_t kFuture = std::uint64_t{1} << 62;

// ---- the control word

TEST(ControlWord, GrowsByOneWithEachCommandAndKeepsStillWithoutOne) {
  wire::TraceHeader header{};
  header.control = wire::control_word(0, ControlState::kRecord);
  EXPECT_TRUE(set_control(&header, ControlState::kPaused));
  EXPECT_EQ(header.control, wire::control_word(1, ControlState::kPaused));
  EXPECT_FALSE(set_control(&header, ControlState::kPaused));
  EXPECT_EQ(header.control, wire::control_word(1, ControlState::kPaused));
  EXPECT_TRUE(set_control(&header, ControlState::kNone));  // a command that keeps the state
  EXPECT_EQ(header.control, wire::control_word(2, ControlState::kPaused));
}

TEST(ControlWord, OfAnImageThatIsNotRecordingYetIsLeftAlone) {
  wire::TraceHeader header{};
  EXPECT_FALSE(set_control(&header, ControlState::kRecord));
  EXPECT_EQ(header.control, 0u);
}

TEST(ControlWord, NeverBecomesNoneWhenItsGenerationWraps) {
  wire::TraceHeader header{};
  header.control = ~std::uint32_t{0} & ~3u;
  header.control |= static_cast<std::uint32_t>(ControlState::kRecord);
  EXPECT_TRUE(set_control(&header, ControlState::kPaused));
  EXPECT_EQ(wire::control_state(header.control), ControlState::kPaused);
}

TEST(ControlWord, LosesNoCommandOfMany) {
  wire::TraceHeader header{};
  header.control = wire::control_word(0, ControlState::kRecord);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&header] {
      for (int k = 0; k < 1000; ++k) set_control(&header, ControlState::kNone);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wire::control_generation(header.control), 4000u);
}

// ---- processes

TEST(ProcessInfo, KnowsItselfAndItsThreads) {
  const auto ids = process_ids(getpid());
  ASSERT_TRUE(ids);
  EXPECT_EQ(ids->process, getpid());
  EXPECT_EQ(ids->inner, getpid());
  std::thread([] {
    const auto of_thread = process_ids(static_cast<pid_t>(syscall(SYS_gettid)));
    ASSERT_TRUE(of_thread);
    EXPECT_EQ(of_thread->process, getpid());
  }).join();
  EXPECT_EQ(program_name(getpid()), "control_test");
  EXPECT_EQ(process_stat(getpid())->parent, getppid());
  EXPECT_FALSE(process_ids(4194304));
  EXPECT_FALSE(process_stat(4194304));
}

TEST(ProcessInfo, FindsChildrenAndGrandchildren) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const pid_t grandchild = fork();
    if (grandchild == 0) pause();
    [[maybe_unused]] const ssize_t n = write(ready[1], &grandchild, sizeof grandchild);
    pause();
  }
  pid_t grandchild = 0;
  ASSERT_EQ(read(ready[0], &grandchild, sizeof grandchild), ssize_t{sizeof grandchild});
  const auto found = descendants(getpid());
  EXPECT_NE(std::find(found.begin(), found.end(), child), found.end());
  EXPECT_NE(std::find(found.begin(), found.end(), grandchild), found.end());
  kill(grandchild, SIGKILL);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

// ---- an image: this process, with a trace mapped as the tracer does it

class OwnImage {
 public:
  explicit OwnImage(std::uint32_t pid = static_cast<std::uint32_t>(getpid())) {
    formats::TraceWriter::Options options;
    options.pid = pid;
    formats::test::write_trace(path_.str(), {{0, acquire(1, kAddress, 8)}}, options);
    const int fd = open(path_.str().c_str(), O_RDWR);
    void* page = mmap(nullptr, wire::kTraceHeaderBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    header = static_cast<wire::TraceHeader*>(page);
    header->process_start_ticks = process_stat(getpid())->start_ticks;
    header->control = wire::control_word(0, ControlState::kRecord);
  }
  ~OwnImage() { munmap(header, wire::kTraceHeaderBytes); }
  const std::string& path() const { return path_.str(); }
  wire::TraceHeader* header;

 private:
  TempPath path_;
};

TEST(ImageControl, FindsTheTraceThatAProcessHasMapped) {
  const OwnImage own;
  const auto images = ImageControl::of_process(getpid());
  ASSERT_EQ(images.size(), 1u);
  EXPECT_TRUE(std::filesystem::equivalent(images[0].path(), own.path()));
  EXPECT_TRUE(images[0].command(ControlState::kPaused));
  EXPECT_EQ(own.header->control, wire::control_word(1, ControlState::kPaused));
  EXPECT_EQ(images[0].commanded(), ControlState::kPaused);
}

TEST(ImageControl, FindsATraceWhoseNameIsGone) {
  const OwnImage own;
  unlink(own.path().c_str());
  try {
    EXPECT_EQ(ImageControl::of_process(getpid()).size(), 1u);
  } catch (const ControlError&) {
    if (geteuid() == 0) throw;  // others have the tracer's descriptor to go by, and there is none
  }
}

TEST(ImageControl, IsNotTakenInByATraceOfAnotherProcess) {
  const OwnImage of_another(1);
  try {
    ImageControl::of_process(getpid());
    FAIL() << "found an image";
  } catch (const ControlError& error) {
    EXPECT_EQ(error.kind, ControlError::Kind::kNotTraced);
    EXPECT_NE(error.remedy.find("doctor"), std::string::npos);
  }
}

TEST(ImageControl, MarksAndResetsStandInTheTrace) {
  const OwnImage own;
  const auto images = ImageControl::of_process(getpid());
  images[0].mark("first");
  images[0].reset();
  images[0].mark(std::string(wire::kMaxMarkBytes, 'x'));
  images[0].sync();
  EXPECT_GT(own.header->reset_stamp, 1u);
  EXPECT_EQ(own.header->control, wire::control_word(1, ControlState::kRecord));
  const auto trace = open_trace(own.path());
  ASSERT_EQ(trace.marks().size(), 2u);
  EXPECT_EQ(trace.marks()[0].text, "first");
  EXPECT_EQ(trace.marks()[1].text.size(), wire::kMaxMarkBytes);
  EXPECT_TRUE(trace.warnings().empty());
}

TEST(ImageControl, DoesNotStartARecordingThatEndedAtALimit) {
  const OwnImage own;
  own.header->state = wire::TraceState::kStopped;
  own.header->stop_errno = ENOSPC;
  const auto images = ImageControl::of_process(getpid());
  EXPECT_THROW(images[0].command(ControlState::kRecord), ControlError);
  EXPECT_TRUE(images[0].command(ControlState::kPaused));
}

// ---- copies of rings

// Two streams by turns; those events that come last are of the future.
void write_ring(const std::string& path, unsigned rounds, unsigned future, bool stage_tails) {
  formats::TraceWriter::Options options;
  options.block_words = 20;
  options.ring_bytes = 4 * wire::kRingSlotBytes;
  options.stage_tails = stage_tails;
  std::vector<StreamEvent> events;
  for (unsigned i = 0; i < rounds; ++i) {
    for (std::uint32_t stream : {0u, 1u}) {
      auto e = acquire(i + 1 + (i + future >= rounds ? kFuture : 0),
                       kAddress + (stream + 1) * (1 << 20) + 64 * i, 8);
      e.thread = formats::ThreadIndex{stream};
      events.push_back({stream, e});
    }
  }
  formats::test::write_trace(path, events, options);
}

struct Counts {
  std::uint64_t events = 0, past = 0, overwritten = 0, latest = 0;
};
Counts count(const std::string& path) {
  const auto trace = open_trace(path);
  EXPECT_TRUE(trace.warnings().empty()) << trace.warnings()[0].to_string();
  Counts counts;
  for (std::uint32_t i = 0; i < trace.streams().size(); ++i) {
    for (const auto& e : formats::test::decode(trace, i)) {
      ++counts.events;
      counts.past += e.stamp < kFuture;
      counts.latest = std::max(counts.latest, e.stamp);
    }
  }
  counts.overwritten = trace.overwritten_events();
  return counts;
}

RingSnapshot save(const std::string& from, const std::string& to) {
  const int fd = open(from.c_str(), O_RDWR);
  const RingSnapshot copy = save_ring(fd, to);
  close(fd);
  return copy;
}

TEST(RingSnapshot, OfARingAtRestIsTheRing) {
  for (const bool stage_tails : {false, true}) {
    for (unsigned rounds = 1; rounds < 150; rounds += 7) {
      TempPath from, to;
      write_ring(from.str(), rounds, 0, stage_tails);
      const RingSnapshot copy = save(from.str(), to.str());
      const Counts before = count(from.str()), after = count(to.str());
      EXPECT_TRUE(copy.exact);
      EXPECT_EQ(copy.lost_blocks, 0u);
      EXPECT_EQ(copy.events, after.events);
      EXPECT_EQ(copy.overwritten_events, after.overwritten);
      EXPECT_EQ(after.events, before.events);
      EXPECT_EQ(after.events + after.overwritten, 2 * rounds);
    }
  }
}

TEST(RingSnapshot, LeavesOutWhatIsLaterThanItsMoment) {
  for (const bool stage_tails : {false, true}) {
    for (const unsigned future : {1u, 3u, 17u, 18u, 19u, 40u, 90u}) {
      TempPath from, to;
      write_ring(from.str(), 100, future, stage_tails);
      const RingSnapshot copy = save(from.str(), to.str());
      const Counts before = count(from.str()), after = count(to.str());
      EXPECT_LT(after.latest, kFuture);
      EXPECT_EQ(copy.events, after.events);
      EXPECT_EQ(after.events, before.past);
    }
  }
}

TEST(RingSnapshot, RefusesATraceWithoutARingAndANameThatIsTaken) {
  TempPath plain, ring, to, taken;
  formats::test::write_trace(plain.str(), {{0, acquire(1, kAddress, 8)}});
  EXPECT_THROW(save(plain.str(), to.str()), ControlError);
  EXPECT_NE(access(to.str().c_str(), F_OK), 0) << "a failed copy was left";
  write_ring(ring.str(), 10, 0, false);
  formats::test::write_bytes(taken.str(), "mine");
  EXPECT_THROW(save(ring.str(), taken.str()), ControlError);
  EXPECT_EQ(formats::test::read_bytes(taken.str()), "mine");
}

TEST(RingSnapshot, RefusesADamagedHeader) {
  TempPath from, to;
  write_ring(from.str(), 50, 0, true);
  const std::string whole = formats::test::read_bytes(from.str());
  for (const auto& [field, value] :
       {std::pair{offsetof(wire::TraceHeader, ring_offset), std::uint64_t{1} << 40},
        {offsetof(wire::TraceHeader, ring_offset), ~std::uint64_t{63}},
        {offsetof(wire::TraceHeader, ring_bytes), std::uint64_t{1} << 60},
        {offsetof(wire::TraceHeader, ring_bytes), std::uint64_t{1}}}) {
    std::string bytes = whole;
    formats::test::store_at(bytes, field, value);
    formats::test::write_bytes(from.str(), bytes);
    EXPECT_THROW(save(from.str(), to.str()), ControlError);
  }
}

TEST(RingSnapshot, IsNamedAfterItsTraceAndNumbered) {
  TempPath trace;
  const std::string stem = trace.str().substr(0, trace.str().size() - 7);
  EXPECT_EQ(snapshot_path(trace.str()), stem + ".dump1.atrace");
  formats::test::write_bytes(stem + ".dump1.atrace", "");
  EXPECT_EQ(snapshot_path(trace.str()), stem + ".dump2.atrace");
  unlink((stem + ".dump1.atrace").c_str());
  EXPECT_EQ(snapshot_path("x.atrace.1"), "x.atrace.1.dump1.atrace");
}

}  // namespace
}  // namespace alloctape::tracer
