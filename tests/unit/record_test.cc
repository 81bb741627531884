#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "formats/trace_file.h"
#include "formats/trace_writer.h"
#include "tests/unit/temporary_folder.h"
#include "tracer/elf_probe.h"
#include "tracer/image_monitor.h"
#include "tracer/record_session.h"
#include "tracer/record_summary.h"
#include "tracer/tick_rate.h"

namespace alloctape::tracer {
namespace {

namespace fs = std::filesystem;

// An ELF header with as many program headers as there are segment types.
std::string elf_image(unsigned char elf_class, unsigned char machine,
                      const std::string& interpreter) {
  std::string image(256, '\0');
  image.replace(0, 4, "\177ELF");
  image[4] = static_cast<char>(elf_class);
  image[5] = 1;  // little-endian
  image[18] = static_cast<char>(machine);
  image[32] = 64;                           // e_phoff
  image[54] = 56;                           // e_phentsize
  image[56] = interpreter.empty() ? 0 : 1;  // e_phnum
  image[64] = 3;                            // PT_INTERP
  image[64 + 8] = static_cast<char>(128);   // p_offset
  image[64 + 32] = static_cast<char>(interpreter.size() + 1);
  image.replace(128, interpreter.size(), interpreter);
  return image;
}
constexpr unsigned char kX86 = 3, kX86_64 = 62, k32Bit = 1, k64Bit = 2;

TEST(ElfProbe, ADynamicProgramCanBeTraced) {
  EXPECT_EQ(probe_program("/bin/sh").verdict, Traceable::kYes);
}

TEST(ElfProbe, ProgramsAreLookedUpInPath) {
  const ElfProbe probe = probe_program("sh");
  EXPECT_EQ(probe.verdict, Traceable::kYes);
  EXPECT_EQ(probe.path.front(), '/');
}

TEST(ElfProbe, OfAScriptTheInterpreterCounts) {
  TemporaryFolder folder;
  const std::string script = folder.write("script", "#! /bin/sh -e\n");
  EXPECT_EQ(probe_program(script).verdict, Traceable::kYes);
  EXPECT_EQ(probe_program(script).path, "/bin/sh");
  const std::string through_env = folder.write("through_env", "#!/usr/bin/env -S A=b sh -e\n");
  EXPECT_NE(probe_program(through_env).path.find("/sh"), std::string::npos);
}

TEST(ElfProbe, AScriptThatInterpretsItselfEnds) {
  TemporaryFolder folder;
  const std::string script = folder.file("loop");
  folder.write("loop", "#!" + script + "\n");
  EXPECT_EQ(probe_program(script).verdict, Traceable::kUnknown);
}

TEST(ElfProbe, TellsWhyAProgramCannotBeTraced) {
  TemporaryFolder folder;
  const std::string glibc = "/lib64/ld-linux-x86-64.so.2";
#if defined(__x86_64__)
  EXPECT_EQ(probe_program(folder.write("dynamic", elf_image(k64Bit, kX86_64, glibc))).verdict,
            Traceable::kYes);
  EXPECT_EQ(probe_program(folder.write("static", elf_image(k64Bit, kX86_64, ""))).verdict,
            Traceable::kStatic);
  const auto musl = elf_image(k64Bit, kX86_64, "/lib/ld-musl-x86_64.so.1");
  EXPECT_EQ(probe_program(folder.write("musl", musl)).verdict, Traceable::kOtherLibc);
#endif
  const ElfProbe small = probe_program(folder.write("small", elf_image(k32Bit, kX86, glibc)));
  EXPECT_EQ(small.verdict, Traceable::kOtherClass);
  EXPECT_FALSE(small.reason.empty());
  EXPECT_EQ(probe_program(folder.write("other", elf_image(k64Bit, 8, glibc))).verdict,
            Traceable::kOtherMachine);
}

TEST(ElfProbe, SurvivesEveryTruncationOfAProgram) {
  TemporaryFolder folder;
  const std::string whole = elf_image(k64Bit, kX86_64, "/lib64/ld-linux-x86-64.so.2");
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    probe_program(folder.write("cut", whole.substr(0, bytes)));
  }
}

TEST(ElfProbe, AMissingProgramIsUnknown) {
  const ElfProbe probe = probe_program("no-such-program-anywhere");
  EXPECT_EQ(probe.verdict, Traceable::kUnknown);
  EXPECT_TRUE(probe.path.empty());
  EXPECT_TRUE(probe.reason.empty());
}

TEST(TickRate, AgreesWithTheClockWithinAThousandth) {
  if (TickRate::now_ticks() == 0) GTEST_SKIP() << "no time-stamp counter";
  const TickRate rate;
  const std::uint64_t ticks = TickRate::now_ticks(), ns = TickRate::now_monotonic_ns();
  usleep(50'000);
  const auto passed_ticks = static_cast<double>(TickRate::now_ticks() - ticks);
  const auto passed_ns = static_cast<double>(TickRate::now_monotonic_ns() - ns);
  const double measured = passed_ticks * 1e9 / passed_ns;
  EXPECT_NEAR(static_cast<double>(rate.per_second()) / measured, 1.0, 1e-3);
}

// What the tracer does when an image starts.
class FakeImage {
 public:
  explicit FakeImage(const RecordSession& session) {
    const int fd = open(session.path().c_str(), O_RDWR);
    bytes_ = sizeof(wire::SessionHeader) + wire::kSessionSlots * sizeof(wire::SessionSlot);
    map_ = static_cast<char*>(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    close(fd);
  }
  ~FakeImage() { munmap(map_, bytes_); }
  wire::SessionSlot& claim() {
    auto* header = reinterpret_cast<wire::SessionHeader*>(map_);
    const auto index = __atomic_fetch_add(&header->next_slot, 1, __ATOMIC_RELAXED);
    return reinterpret_cast<wire::SessionSlot*>(map_ + sizeof(wire::SessionHeader))[index];
  }
  static void publish(wire::SessionSlot& slot, std::uint32_t pid, const std::string& path) {
    slot.pid = pid;
    std::snprintf(slot.path, sizeof slot.path, "%s", path.c_str());
    __atomic_store_n(&slot.ready, 1, __ATOMIC_RELEASE);
  }

 private:
  char* map_ = nullptr;
  std::size_t bytes_ = 0;
};

TEST(RecordSession, TakesInEachImageOnceAndOnlyWhenItIsReady) {
  RecordSession session;
  FakeImage image(session);
  EXPECT_TRUE(session.take_new().empty());
  wire::SessionSlot& slow = image.claim();
  FakeImage::publish(image.claim(), 12, "/tmp/b.atrace");
  auto found = session.take_new();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].pid, 12u);
  EXPECT_EQ(found[0].trace_path, "/tmp/b.atrace");
  FakeImage::publish(slow, 11, "/tmp/a.atrace");
  found = session.take_new();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].pid, 11u);
  EXPECT_TRUE(session.take_new().empty());
}

TEST(RecordSession, IsPrivateAndRemovedAtItsEnd) {
  std::string path;
  {
    RecordSession session;
    path = session.path();
    struct stat st;
    ASSERT_EQ(stat(path.c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0600u);
    EXPECT_LT(st.st_blocks * 512, 1 << 20) << "the file is sparse";
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST(RecordSession, CountsImagesBeyondItsSlots) {
  RecordSession session;
  FakeImage image(session);
  for (std::uint32_t i = 0; i < wire::kSessionSlots; ++i) image.claim();
  EXPECT_EQ(session.unregistered(), 0u);
  // The claims beyond the last slot are what an image makes before it sees that there is none.
  const int fd = open(session.path().c_str(), O_RDWR);
  const std::uint32_t claimed = wire::kSessionSlots + 3;
  ASSERT_EQ(pwrite(fd, &claimed, sizeof claimed, offsetof(wire::SessionHeader, next_slot)), 4);
  close(fd);
  EXPECT_EQ(session.unregistered(), 3u);
  session.take_new();
}

class ImageMonitorTest : public testing::Test {
 protected:
  // A trace with one malloc, as this very process's image.
  std::string write_trace(const std::string& name, std::uint64_t ticks_per_second) {
    formats::TraceWriter::Options options;
    options.pid = static_cast<std::uint32_t>(getpid());
    options.ticks_per_second = ticks_per_second;
    options.metadata.executable = "/usr/bin/something";
    const std::string path = folder_.file(name);
    auto writer = formats::TraceWriter::create(path, options);
    EXPECT_TRUE(writer.ok());
    formats::Event event;
    event.op = wire::Op::kThreadStart;
    event.stamp = 1;
    EXPECT_TRUE(writer->append(formats::StreamIndex{0}, event).ok());
    event.op = wire::Op::kMalloc;
    event.pointer = 0x1000;
    event.size = 64;
    event.stamp = 2;
    EXPECT_TRUE(writer->append(formats::StreamIndex{0}, event).ok());
    EXPECT_TRUE(writer->finish().ok());
    return path;
  }
  TemporaryFolder folder_;
};

TEST_F(ImageMonitorTest, AppendsMemorySamplesThatReadersSee) {
  const std::string path = write_trace("own.atrace", 0);
  RecordSession session;
  FakeImage image(session);
  FakeImage::publish(image.claim(), static_cast<std::uint32_t>(getpid()), path);
  ImageMonitor monitor(session);
  for (int i = 0; i < 3; ++i) {
    monitor.poll();
    usleep(12'000);
  }
  EXPECT_EQ(monitor.live().alive, 1u);
  EXPECT_GT(monitor.live().anon_bytes, 0u);
  monitor.finish(2'000'000'000);
  ASSERT_EQ(monitor.images().size(), 1u);
  EXPECT_EQ(monitor.images()[0].end, ImageEnd::kRunning);
  EXPECT_TRUE(monitor.warnings().empty());

  auto trace = formats::TraceFile::open(path);
  ASSERT_TRUE(trace.ok()) << trace.error().to_string();
  EXPECT_EQ(trace->rss().size(), monitor.images()[0].samples);
  EXPECT_GE(trace->rss().size(), 3u);
  EXPECT_TRUE(trace->warnings().empty());
  EXPECT_FALSE(trace->truncated());
  std::uint64_t peak = 0;
  for (const auto& sample : trace->rss()) peak = std::max(peak, sample.anon_bytes);
  EXPECT_EQ(peak, monitor.images()[0].peak_anon_bytes);
  EXPECT_EQ(trace->header().ticks_per_second, 1'000'000'000u) << "the clock is CLOCK_MONOTONIC";
}

TEST_F(ImageMonitorTest, AnImageThatIsGoneWasNeverSampled) {
  const std::string path = write_trace("gone.atrace", 1'000'000'000);
  RecordSession session;
  FakeImage image(session);
  constexpr std::uint32_t kNoSuchPid = 0x7ffffff0;
  FakeImage::publish(image.claim(), kNoSuchPid, path);
  ImageMonitor monitor(session);
  monitor.poll();
  monitor.poll();
  EXPECT_EQ(monitor.live().alive, 0u);
  EXPECT_EQ(monitor.images()[0].end, ImageEnd::kGone);
  EXPECT_EQ(monitor.images()[0].peak_anon_bytes, 0u);
}

TEST_F(ImageMonitorTest, ARegistrationOfTheSamePidEndsTheOlderImage) {
  const std::string first = write_trace("first.atrace", 1'000'000'000);
  const std::string second = write_trace("second.atrace", 1'000'000'000);
  RecordSession session;
  FakeImage image(session);
  ImageMonitor monitor(session);
  const auto pid = static_cast<std::uint32_t>(getpid());
  FakeImage::publish(image.claim(), pid, first);
  monitor.poll();
  FakeImage::publish(image.claim(), pid, second);
  monitor.poll();
  ASSERT_EQ(monitor.images().size(), 2u);
  EXPECT_EQ(monitor.images()[0].end, ImageEnd::kExeced);
  EXPECT_EQ(monitor.live().alive, 1u);
}

TEST_F(ImageMonitorTest, ATraceThatVanishedOrIsNoneIsNoDisaster) {
  RecordSession session;
  FakeImage image(session);
  FakeImage::publish(image.claim(), 1, folder_.file("missing.atrace"));
  FakeImage::publish(image.claim(), 1, folder_.write("text", std::string(8192, 'x')));
  FakeImage::publish(image.claim(), 1, folder_.write("short", "x"));
  ImageMonitor monitor(session);
  monitor.poll();
  monitor.finish(0);
  ASSERT_EQ(monitor.images().size(), 3u);
  for (const auto& followed : monitor.images()) EXPECT_FALSE(followed.readable);
  const auto summaries = summarise(monitor.images(), {});
  for (const auto& summary : summaries) EXPECT_FALSE(summary.problem.empty());
}

TEST_F(ImageMonitorTest, TheSummaryCountsCallsOfTheApiOnly) {
  Image image;
  image.pid = 77;
  image.trace_path = write_trace("counted.atrace", 1'000'000'000);
  const auto summaries = summarise({image}, {});
  ASSERT_EQ(summaries.size(), 1u);
  EXPECT_EQ(summaries[0].problem, "");
  EXPECT_EQ(summaries[0].events, 1u);
  EXPECT_TRUE(summaries[0].events_exact);
  EXPECT_EQ(summaries[0].program, "something");
  EXPECT_FALSE(summaries[0].peak_anon_bytes.has_value());
}

}  // namespace
}  // namespace alloctape::tracer
