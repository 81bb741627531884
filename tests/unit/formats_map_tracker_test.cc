// The program's own mappings: what each call does to which part of which mapping.
#include "formats/map_tracker.h"

#include "formats/heap_walk.h"
#include "temp_trace.h"

namespace alloctape::formats::test {
namespace {

constexpr std::uint64_t kPage = 4096, kBase = 0x7f0000000000;
constexpr std::uint32_t kRw = wire::kProtRead | wire::kProtWrite;
constexpr std::uint32_t kAnon = wire::kMapPrivate | wire::kMapAnonymous;

using Lines = std::vector<std::string>;

// Addresses and lengths in pages; mappings get letters in the order of their birth.
struct Recorder : HeapVisitor, MapVisitor {
  MapTracker tracker{kPage, *this};
  Lines lines;
  std::uint64_t born = 0;

  static char letter(const Mapping& m) { return static_cast<char>('A' + m.user.a); }
  void say(const char* what, const Mapping& m, std::uint64_t offset, std::uint64_t length) {
    EXPECT_EQ(offset % kPage, 0u);
    EXPECT_LE(offset + length, m.size);
    lines.push_back(fmt::format("{} {} {}+{}", what, letter(m), offset / kPage, length / kPage));
  }
  void on_mapped(const Event&, Mapping& m, std::uint32_t) override {
    m.user.a = born++;
    lines.push_back(fmt::format("map {} at {} size {}", letter(m), (m.address - kBase) / kPage,
                                m.size / kPage));
  }
  void on_unmapped(const Event&, Mapping& m, std::uint64_t offset, std::uint64_t length) override {
    say("unmap", m, offset, length);
    if (m.mapped == 0) lines.back() += " gone";
  }
  void on_remapped(const Event&, Mapping& m, std::uint64_t old_size) override {
    lines.push_back(fmt::format("remap {} at {} size {} was {}", letter(m),
                                (m.address - kBase) / kPage, m.size / kPage, old_size / kPage));
  }
  void on_replaced(const Event&, Mapping& m, std::uint64_t offset, std::uint64_t length,
                   std::uint32_t) override {
    say("replace", m, offset, length);
  }
  void on_advised(const Event&, Mapping& m, std::uint64_t offset, std::uint64_t length) override {
    say("advise", m, offset, length);
  }
  void on_map(const Event& e) override { tracker.on_map(e); }
  void on_map_detach(const Event& e) override { tracker.on_map_detach(e); }

  // Calls, in pages.
  static Event call(wire::Op op, std::uint64_t at, std::uint64_t pages) {
    Event e = make_event(op, 10, kBase + at * kPage, pages * kPage);
    e.path = wire::kPathMapped;
    return e;
  }
  Recorder& map(std::uint64_t at, std::uint64_t pages, std::uint32_t flags = kAnon,
                std::uint32_t prot = kRw, wire::Backing backing = wire::Backing::kAnonymous) {
    Event e = call(wire::Op::kMmap, at, pages);
    e.value = wire::pack_prot_flags(prot, flags);
    e.alignment = static_cast<std::uint64_t>(backing);
    on_map(e);
    return *this;
  }
  Recorder& unmap(std::uint64_t at, std::uint64_t pages) {
    on_map(call(wire::Op::kMunmap, at, pages));
    return *this;
  }
  Recorder& advise(std::uint64_t at, std::uint64_t pages) {
    on_map(call(wire::Op::kMadvise, at, pages));
    return *this;
  }
  Recorder& remap(std::uint64_t from, std::uint64_t old_pages, std::uint64_t to,
                  std::uint64_t pages, std::uint32_t flags = wire::kRemapMayMove) {
    Event e = call(wire::Op::kMremap, to, pages);
    e.old_pointer = kBase + from * kPage;
    e.count = old_pages * kPage;
    e.value = flags;
    if (from != to) on_map_detach(e);
    on_map(e);
    return *this;
  }
  std::uint64_t now(MapKind kind) const { return tracker.totals().of(kind).now / kPage; }
};

TEST(MapTracker, FollowsAMappingThroughItsPartialUnmaps) {
  Recorder r;
  r.map(0, 16).unmap(4, 2).unmap(0, 1);
  EXPECT_EQ(r.now(MapKind::kAnonymous), 13u);
  r.unmap(0, 16);
  EXPECT_EQ(r.lines, (Lines{"map A at 0 size 16", "unmap A 4+2", "unmap A 0+1", "unmap A 1+3",
                            "unmap A 6+10 gone"}));
  EXPECT_EQ(r.now(MapKind::kAnonymous), 0u);
  EXPECT_EQ(r.tracker.totals().of(MapKind::kAnonymous).peak, 16 * kPage);
  EXPECT_EQ(r.tracker.totals().mappings, 0u);
}

TEST(MapTracker, CutsCallsAcrossSeveralMappings) {
  Recorder r;
  r.map(0, 4).map(4, 4).advise(2, 4).unmap(2, 4).unmap(0, 8);
  EXPECT_EQ(r.lines,
            (Lines{"map A at 0 size 4", "map B at 4 size 4", "advise A 2+2", "advise B 0+2",
                   "unmap A 2+2", "unmap B 0+2", "unmap A 0+2 gone", "unmap B 2+2 gone"}));
}

TEST(MapTracker, RoundsToWholePages) {
  Recorder r;
  Event e = Recorder::call(wire::Op::kMmap, 0, 0);
  e.size = kPage + 1;
  e.value = wire::pack_prot_flags(kRw, kAnon);
  r.on_map(e);
  e.op = wire::Op::kMunmap;
  e.size = 1;
  r.on_map(e);
  EXPECT_EQ(r.lines, (Lines{"map A at 0 size 2", "unmap A 0+1"}));
}

TEST(MapTracker, SeesAReservationThatIsCommittedPieceByPiece) {
  Recorder r;
  r.map(0, 64, kAnon | wire::kMapNoReserve, 0);
  EXPECT_EQ(r.now(MapKind::kReserved), 64u);
  r.map(8, 8, kAnon | wire::kMapFixed).map(16, 8, kAnon | wire::kMapFixed);
  EXPECT_EQ(r.now(MapKind::kReserved), 48u);
  EXPECT_EQ(r.now(MapKind::kAnonymous), 16u);
  r.advise(0, 32).unmap(0, 64);
  EXPECT_EQ(r.lines, (Lines{"map A at 0 size 64", "replace A 8+8", "replace A 16+8",
                            "advise A 0+32", "unmap A 0+64 gone"}));
}

TEST(MapTracker, PutsFilesAndWhatReachesBeyondInPlaceOfWhatTheyCover) {
  Recorder r;
  r.map(0, 8).map(2, 2, wire::kMapPrivate | wire::kMapFixed, kRw, wire::Backing::kFile);
  EXPECT_EQ(r.now(MapKind::kFile), 2u);
  r.map(6, 4, kAnon | wire::kMapFixed);
  EXPECT_EQ(r.lines, (Lines{"map A at 0 size 8", "unmap A 2+2", "map B at 2 size 2", "unmap A 6+2",
                            "map C at 6 size 4"}));
  EXPECT_EQ(r.tracker.totals().missed_unmaps, 0u);
}

TEST(MapTracker, RemapsWholeMappings) {
  Recorder r;
  r.map(0, 4).remap(0, 4, 0, 8).remap(0, 8, 100, 16).remap(100, 16, 100, 2).unmap(100, 2);
  EXPECT_EQ(r.lines,
            (Lines{"map A at 0 size 4", "remap A at 0 size 8 was 4", "remap A at 100 size 16 was 8",
                   "remap A at 100 size 2 was 16", "unmap A 0+2 gone"}));
  EXPECT_EQ(r.now(MapKind::kAnonymous), 0u);
}

TEST(MapTracker, TakesTheRemapOfAPartForAnUnmapAndANewMapping) {
  Recorder r;
  r.map(0, 8).remap(4, 2, 50, 6).remap(6, 2, 6, 1);
  EXPECT_EQ(r.lines,
            (Lines{"map A at 0 size 8", "unmap A 4+2", "map B at 50 size 6", "unmap A 7+1"}));
  EXPECT_EQ(r.tracker.totals().cut_remaps, 1u);
}

TEST(MapTracker, KeepsAMixOfProtectionsTogetherWhenItMoves) {
  Recorder r;
  r.map(0, 8, kAnon, 0).map(2, 2, kAnon | wire::kMapFixed).remap(0, 8, 40, 10);
  EXPECT_EQ(r.now(MapKind::kAnonymous), 2u);
  EXPECT_EQ(r.now(MapKind::kReserved), 8u);
  r.unmap(40, 10);
  EXPECT_EQ(r.lines.back(), "unmap A 0+10 gone");
}

TEST(MapTracker, CountsWhatItDidNotSee) {
  Recorder r;
  r.unmap(0, 4).advise(0, 4).remap(0, 4, 8, 8).remap(0, 4, 0, 8);
  EXPECT_TRUE(r.lines.empty());
  EXPECT_EQ(r.tracker.totals().unseen_calls, 4u);
  r.map(0, 4).map(2, 4);  // whose unmapping nobody told
  EXPECT_EQ(r.tracker.totals().missed_unmaps, 1u);
}

TEST(MapTracker, BearsNonsense) {
  Recorder r;
  for (const std::uint64_t pointer : {std::uint64_t{0}, ~std::uint64_t{0}, kBase}) {
    for (const std::uint64_t size :
         {std::uint64_t{0}, std::uint64_t{1}, ~std::uint64_t{0}, ~std::uint64_t{0} - 5000}) {
      for (const wire::Op op : {wire::Op::kMmap, wire::Op::kMunmap, wire::Op::kMremap,
                                wire::Op::kMadvise, wire::Op::kBrk, wire::Op::kSbrk}) {
        Event e = make_event(op, 1, pointer, size);
        e.old_pointer = kBase;
        e.count = size;
        e.value = size;
        e.alignment = size;
        if (op == wire::Op::kMremap) r.on_map_detach(e);
        r.on_map(e);
      }
    }
  }
  r.unmap(0, 1 << 20);
}

// A mapping that one thread moves away from an address which another thread gets while the call is
// still under way.
TEST(MapTracker, AnAddressChangesHandsInTheMiddleOfAnMremap) {
  std::vector<StreamEvent> events;
  const auto add = [&events](std::uint32_t stream, wire::Op op, std::uint64_t release,
                             std::uint64_t stamp, std::uint64_t at, std::uint64_t pages) -> Event& {
    Event e = Recorder::call(op, at, pages);
    e.thread = ThreadIndex{stream};
    e.release_stamp = release;
    e.stamp = stamp;
    if (op == wire::Op::kMmap) e.value = wire::pack_prot_flags(kRw, kAnon);
    events.push_back({stream, e});
    return events.back().event;
  };
  for (std::uint32_t thread = 0; thread < 2; ++thread) {
    Event start = make_event(wire::Op::kThreadStart, 1);
    start.thread = ThreadIndex{thread};
    start.value = 100 + thread;
    events.push_back({thread, start});
  }
  add(0, wire::Op::kMmap, 10, 20, 0, 4);
  Event& move = add(0, wire::Op::kMremap, 100, 200, 50, 8);
  move.old_pointer = kBase;
  move.count = 4 * kPage;
  move.value = wire::kRemapMayMove;
  add(1, wire::Op::kMmap, 120, 150, 0, 2);    // where the first one was
  add(1, wire::Op::kMunmap, 160, 300, 0, 2);  // is gone before its call returns
  add(0, wire::Op::kMmap, 210, 220, 0, 3);

  TempPath path;
  write_trace(path.str(), events);
  const TraceFile file = open_trace(path.str());
  Recorder r;
  HeapWalk walk(file);
  const WalkTotals totals = walk.run(r);
  EXPECT_EQ(totals.map_events, 5u);
  EXPECT_EQ(totals.api_events, 0u);
  EXPECT_EQ(r.lines, (Lines{"map A at 0 size 4", "map B at 0 size 2", "unmap B 0+2 gone",
                            "remap A at 50 size 8 was 4", "map C at 0 size 3"}));
  EXPECT_EQ(r.tracker.totals().missed_unmaps, 0u);
}

TEST(MapTracker, NamesAdviceProtectionsAndFlags) {
  EXPECT_STREQ(advice_name(4), "MADV_DONTNEED");
  EXPECT_EQ(advice_name(99), nullptr);
  EXPECT_EQ(prot_text(3), "rw-");
  EXPECT_EQ(prot_text(0x1000001), "r--+0x1000000");
  EXPECT_EQ(map_flags_text(0x22), "MAP_PRIVATE|MAP_ANONYMOUS");
  EXPECT_EQ(map_flags_text(0x4031), "MAP_SHARED|MAP_FIXED|MAP_ANONYMOUS|MAP_NORESERVE");
  EXPECT_EQ(map_flags_text(0), "0x0");
}

}  // namespace
}  // namespace alloctape::formats::test
