// Command lines: what is understood, what is refused, and in which words.
#include <gtest/gtest.h>

#include "cli/cli.h"
#include "cli/options.h"

namespace alloctape::cli {
namespace {

namespace po = boost::program_options;

CommandLine sample() {
  CommandLine line;
  line.synopsis = "sample FILE [options]";
  line.description = "Does what a sample does.";
  line.examples = "  alloctape sample x\n";
  line.options.add_options()("output,o", po::value<std::string>()->value_name("FILE"), "Where to.")(
      "limit", po::value<std::uint64_t>()->value_name("N")->default_value(7), "How many.")(
      "json", "As JSON.");
  line.hidden.add_options()("file", po::value<std::string>()->required(), "");
  line.positional.add("file", 1);
  return line;
}

std::string refusal(const std::vector<std::string>& args) {
  try {
    parse(sample(), args);
  } catch (const UserError& error) {
    EXPECT_EQ(error.exit_code, kExitUsage);
    return error.what;
  }
  return "accepted";
}

TEST(Options, UnderstandsOptionsAroundPositionals) {
  const auto values = parse(sample(), {"--limit", "3", "trace", "-o", "out", "--json"});
  ASSERT_TRUE(values);
  EXPECT_EQ((*values)["file"].as<std::string>(), "trace");
  EXPECT_EQ((*values)["output"].as<std::string>(), "out");
  EXPECT_EQ((*values)["limit"].as<std::uint64_t>(), 3u);
  EXPECT_EQ(values->count("json"), 1u);
}

TEST(Options, EverythingAfterTwoDashesIsAnArgument) {
  const auto values = parse(sample(), {"--", "--json"});
  ASSERT_TRUE(values);
  EXPECT_EQ((*values)["file"].as<std::string>(), "--json");
  EXPECT_EQ(values->count("json"), 0u);
}

TEST(Options, NamesTheMissingArgument) { EXPECT_EQ(refusal({}), "missing argument FILE"); }

TEST(Options, SuggestsTheOptionThatWasMeant) {
  EXPECT_EQ(refusal({"x", "--limti", "3"}), "unknown option '--limti'; did you mean '--limit'?");
  EXPECT_EQ(refusal({"x", "--lim", "3"}), "unknown option '--lim'; did you mean '--limit'?");
}

TEST(Options, RefusesMoreArgumentsThanThereAre) {
  EXPECT_EQ(refusal({"x", "y"}), "too many arguments");
}

TEST(Options, RefusesNegativeCounts) {
  EXPECT_EQ(refusal({"x", "--limit=-1"}),
            "the argument '-1' for option '--limit' must not be negative");
}

TEST(Options, RefusesWhatIsNoNumber) {
  EXPECT_EQ(refusal({"x", "--limit", "many"}),
            "the argument ('many') for option '--limit' is invalid");
}

TEST(Options, HelpIsShownEvenWhenArgumentsAreMissing) {
  testing::internal::CaptureStdout();
  EXPECT_FALSE(parse(sample(), {"--help"}));
  std::fflush(stdout);
  const std::string text = testing::internal::GetCapturedStdout();
  EXPECT_EQ(text,
            "Usage: alloctape sample FILE [options]\n"
            "\n"
            "Does what a sample does.\n"
            "\n"
            "Options:\n"
            "  -o, --output FILE         Where to.\n"
            "      --limit N             How many. (default: 7)\n"
            "      --json                As JSON.\n"
            "  -h, --help                Show this text.\n"
            "\n"
            "Examples:\n"
            "  alloctape sample x\n");
}

}  // namespace
}  // namespace alloctape::cli
