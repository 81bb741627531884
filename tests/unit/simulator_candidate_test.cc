#include <gtest/gtest.h>

#include "simulator/candidate.h"

namespace alloctape::simulator {
namespace {

TEST(Candidate, GlibcNeedsNoLibrary) {
  const auto c = parse_candidate("glibc");
  ASSERT_TRUE(c.ok());
  EXPECT_EQ(c.value().preload_path, "");
  EXPECT_EQ(c.value().label, "glibc");
  EXPECT_FALSE(c.value().version.empty());
}

TEST(Candidate, SettingsFollowTheNameAndAreKeptInTheLabel) {
  const auto c = parse_candidate("  glibc   MALLOC_ARENA_MAX=1 A_B=x=y ");
  ASSERT_TRUE(c.ok());
  EXPECT_EQ(c.value().label, "glibc MALLOC_ARENA_MAX=1 A_B=x=y");
  EXPECT_EQ(c.value().environment,
            (std::vector<Setting>{{"MALLOC_ARENA_MAX", "1"}, {"A_B", "x=y"}}));
}

TEST(Candidate, WhatIsNoSettingIsAnError) {
  EXPECT_FALSE(parse_candidate("glibc nonsense").ok());
  EXPECT_FALSE(parse_candidate("glibc =x").ok());
  EXPECT_FALSE(parse_setting("LD_PRELOAD=/x.so"));
  EXPECT_FALSE(parse_setting("A-B=1"));
  EXPECT_EQ(parse_setting("A="), Setting("A", ""));
}

TEST(Candidate, UnknownNamesAndFilesThatAreNoLibrariesAreErrorsThatSaySo) {
  const auto unknown = parse_candidate("no_such_allocator");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.error().message.find("jemalloc"), std::string::npos);
  EXPECT_FALSE(parse_candidate("/nonexistent/libx.so").ok());
  EXPECT_FALSE(parse_candidate("/etc/passwd").ok());
  EXPECT_FALSE(parse_candidate("").ok());
}

TEST(Candidate, KnownAllocatorsNameTheirPackages) {
  const auto all = known_allocators();
  ASSERT_EQ(all.size(), 7u);
  EXPECT_EQ(all[0].name, "glibc");
  for (const KnownAllocator& a : all) {
    EXPECT_FALSE(a.packages.empty()) << a.name;
    if (a.installed && a.name != "glibc") {
      EXPECT_EQ(a.preload_path[0], '/') << a.name;
    }
  }
}

TEST(Candidate, BuildIdsAreHexOrEmpty) {
  EXPECT_EQ(build_id_of("/etc/passwd"), "");
  EXPECT_EQ(build_id_of("/nonexistent"), "");
  const std::string id = build_id_of("/proc/self/exe");
  EXPECT_EQ(id.find_first_not_of("0123456789abcdef"), std::string::npos);
}

}  // namespace
}  // namespace alloctape::simulator
