// What people read and write: quantities, tables, suggestions.
#include <gtest/gtest.h>

#include <limits>

#include "cli/suggest.h"
#include "cli/table.h"
#include "cli/units.h"

namespace alloctape::cli {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();

TEST(Units, BytesHaveThreeDigitsAndBinaryPrefixes) {
  EXPECT_EQ(bytes(0), "0 B");
  EXPECT_EQ(bytes(812), "812 B");
  EXPECT_EQ(bytes(1023), "1023 B");
  EXPECT_EQ(bytes(1024), "1.00 KiB");
  EXPECT_EQ(bytes(1024 * 1024 * 3 / 2), "1.50 MiB");
  EXPECT_EQ(bytes(150 * 1024), "150 KiB");
  EXPECT_EQ(bytes(kMax), "16.0 EiB");
}

TEST(Units, BytesNeverRoundUpToAThousandAndTwentyFourOfAUnit) {
  EXPECT_EQ(bytes(1024 * 1024 - 1), "1.00 MiB");
  EXPECT_EQ(bytes(1023 * 1024), "1023 KiB");
}

TEST(Units, CountsAreGroupedByThousands) {
  EXPECT_EQ(count(0), "0");
  EXPECT_EQ(count(999), "999");
  EXPECT_EQ(count(1000), "1,000");
  EXPECT_EQ(count(12345678), "12,345,678");
  EXPECT_EQ(count(kMax), "18,446,744,073,709,551,615");
}

TEST(Units, DurationsPickTheirUnit) {
  EXPECT_EQ(duration_ns(0), "0 ns");
  EXPECT_EQ(duration_ns(8.2), "8.2 ns");
  EXPECT_EQ(duration_ns(1240000), "1.24 ms");
  EXPECT_EQ(duration_ns(999999), "1 ms");
  EXPECT_EQ(duration_ns(3.1e9), "3.1 s");
  EXPECT_EQ(duration_ns(125e9), "2 min 5 s");
  EXPECT_EQ(duration_ns(59.99e9), "1 min 0 s");
  EXPECT_EQ(duration_ns(3600e9 * 10.5), "10 h 30 min");
  EXPECT_EQ(duration_ns(-5), "-5 ns");
}

TEST(Units, RatiosAndPercentages) {
  EXPECT_EQ(ratio(1.314), "1.31x");
  EXPECT_EQ(ratio(23.4), "23.4x");
  EXPECT_EQ(percent(0.031), "3.1%");
  EXPECT_EQ(percent(1), "100.0%");
}

TEST(Units, SizesAreReadWithAnyCommonSpelling) {
  EXPECT_EQ(parse_bytes("4096"), 4096u);
  EXPECT_EQ(parse_bytes("64K"), 65536u);
  EXPECT_EQ(parse_bytes("64kb"), 65536u);
  EXPECT_EQ(parse_bytes("1.5MiB"), 1572864u);
  EXPECT_EQ(parse_bytes("2 G"), 2147483648u);
  EXPECT_EQ(parse_bytes("18446744073709551615"), kMax);
}

TEST(Units, WhatIsNoSizeIsRefused) {
  for (const char* text : {"", "x", "-1", "1.5x", "K", "nan", "inf", "99999999E", "1 2"}) {
    EXPECT_EQ(parse_bytes(text), std::nullopt) << text;
  }
}

TEST(Units, DurationsAreReadInSecondsUnlessTheySayOtherwise) {
  EXPECT_EQ(parse_duration_ns("10"), 10'000'000'000u);
  EXPECT_EQ(parse_duration_ns("1.5s"), 1'500'000'000u);
  EXPECT_EQ(parse_duration_ns("200ms"), 200'000'000u);
  EXPECT_EQ(parse_duration_ns("2min"), 120'000'000'000u);
  EXPECT_EQ(parse_duration_ns("7ns"), 7u);
  EXPECT_EQ(parse_duration_ns("soon"), std::nullopt);
  EXPECT_EQ(parse_duration_ns("-1s"), std::nullopt);
}

TEST(Table, AlignsColumnsAndTrimsLineEnds) {
  Table table;
  table.column("name", Table::Align::kLeft);
  table.column("bytes");
  table.column("note", Table::Align::kLeft);
  table.row({"a", "12"});
  table.rule();
  table.row({"longer", "123456", "x"});
  EXPECT_EQ(table.str(),
            "name     bytes  note\n"
            "a           12\n"
            "--------------------\n"
            "longer  123456  x\n");
}

TEST(Table, MeasuresWhatIsVisible) {
  Table table;
  table.column("", Table::Align::kLeft);
  table.column("");
  table.row({"\033[1mab\033[0m", "1"});
  table.row({"µs", "2"});
  table.row({"abcd", "3"});
  EXPECT_EQ(table.str(), "\033[1mab\033[0m    1\nµs    2\nabcd  3\n");
}

TEST(Table, WithoutHeadersHasNoHeaderLine) {
  Table table;
  table.column("", Table::Align::kLeft);
  table.row({"only"});
  EXPECT_EQ(table.str(), "only\n");
}

TEST(Suggest, FindsTheWordThatWasMeant) {
  const std::vector<std::string> words = {"record", "convert", "replay", "compare", "info", "stat"};
  EXPECT_EQ(closest("recrod", words), "record");
  EXPECT_EQ(closest("stats", words), "stat");
  EXPECT_EQ(closest("comp", words), "compare");
  EXPECT_EQ(closest("replai", words), "replay");
}

TEST(Suggest, SaysNothingWhenNothingIsNear) {
  EXPECT_EQ(closest("xyzzy", {"record", "info"}), "");
  EXPECT_EQ(closest("", {"record", "info"}), "");
}

}  // namespace
}  // namespace alloctape::cli
