// The ELF reader, on real files and on what is left of them after damage.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "tracer/elf_file.h"
#include "tracer/library_search.h"
#include "tracer/object_facts.h"

namespace alloctape::tracer {
namespace {

std::string built(const std::string& name) {
  return std::string(DOCTOR_PROGRAMS "/doctor_") + name;
}

ElfFile open_built(const std::string& name) {
  auto file = ElfFile::open(built(name));
  EXPECT_TRUE(file.ok()) << name;
  return std::move(file).value();
}

std::set<std::string> dynamic_names(const ElfFile& file, bool defined) {
  std::set<std::string> names;
  file.for_each_dynamic_symbol([&](const ElfSymbol& symbol) {
    if (symbol.defined == defined) names.emplace(symbol.name);
  });
  return names;
}

std::vector<std::byte> bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

// Everything that a reader of the file can be asked.
std::size_t ask_everything(const ElfFile& file) {
  std::size_t answers = file.needed().size() + file.notes().size() + file.interpreter().size();
  const auto count = [&](const ElfSymbol& symbol) { answers += symbol.name.size() + 1; };
  file.for_each_dynamic_symbol(count);
  file.for_each_static_symbol(count);
  answers += file.names_in_dynamic_strings("GLIBC_").size();
  answers += file.has_section(".text") + file.has_text("no such text in here");
  answers += gather_facts(file).imports.size();
  return answers;
}

TEST(ElfFile, ReadsWhatTheLinkerWrote) {
  const ElfFile file = open_built("plain");
  EXPECT_TRUE(file.is_native());
  EXPECT_NE(file.interpreter().find("ld-linux"), std::string::npos);
  EXPECT_EQ(file.needed(), std::vector<std::string>{"libc.so.6"});
  EXPECT_TRUE(dynamic_names(file, false).count("malloc"));
  EXPECT_TRUE(file.has_static_symbols());
  EXPECT_TRUE(file.has_section(".text"));
  EXPECT_FALSE(file.names_in_dynamic_strings("GLIBC_").empty());
}

TEST(ElfFile, CountsDynamicSymbolsByEitherHashTable) {
  for (const char* name : {"sysv_hash", "own_malloc", "symbolic.so"}) {
    const ElfFile file = open_built(name);
    const auto defined = dynamic_names(file, true);
    EXPECT_EQ(defined.count("malloc"), std::string(name) != "sysv_hash" ? 1U : 0U) << name;
    EXPECT_FALSE(dynamic_names(file, false).empty()) << name;
  }
  // As many as readelf shows: libc has some 3,000.
  auto libc = ElfFile::open(
      load_order(built("plain"), std::make_shared<const ElfFile>(open_built("plain")), {})
          .objects.at(1)
          .path);
  ASSERT_TRUE(libc.ok());
  EXPECT_GT(dynamic_names(libc.value(), true).size(), 2000U);
}

TEST(ElfFile, OfAStrippedFileTheDynamicSymbolsRemain) {
  const ElfFile file = open_built("stripped");
  EXPECT_FALSE(file.has_static_symbols());
  EXPECT_TRUE(dynamic_names(file, false).count("malloc"));
}

TEST(ElfFile, FindsNotesAndTexts) {
  const ElfFile file = open_built("go");
  EXPECT_TRUE(std::any_of(file.notes().begin(), file.notes().end(),
                          [](const ElfNote& note) { return note.name == "Go" && note.type == 4; }));
  EXPECT_TRUE(file.has_section(".note.go.buildid"));
  EXPECT_TRUE(open_built("stripped_jemalloc").has_text("<jemalloc>: "));
  EXPECT_FALSE(open_built("plain").has_text("<jemalloc>: "));
}

TEST(ElfFile, RefusesWhatIsNoElfFile) {
  EXPECT_FALSE(ElfFile::open("/no/such/file").ok());
  EXPECT_FALSE(ElfFile::open("/").ok());
  EXPECT_FALSE(ElfFile::open("/dev/null").ok());
  EXPECT_FALSE(ElfFile::parse({}).has_value());
  const auto source = bytes_of("/proc/self/cmdline");
  EXPECT_FALSE(ElfFile::parse(source).has_value());
}

TEST(ElfFile, SurvivesTruncationAtEverySixteenthByte) {
  for (const char* name : {"plain", "own_malloc", "mallocx_stub.so", "go"}) {
    const auto whole = bytes_of(built(name));
    const auto file = ElfFile::parse(whole);
    ASSERT_TRUE(file.has_value());
    const std::size_t all = ask_everything(*file);
    for (std::size_t bytes = 0; bytes < whole.size(); bytes += 16) {
      // A copy of just that size, so that a sanitizer sees the slightest step beyond.
      const std::vector<std::byte> cut(whole.begin(), whole.begin() + static_cast<long>(bytes));
      const auto part = ElfFile::parse(cut);
      if (!part.has_value()) continue;
      EXPECT_LE(ask_everything(*part), all) << name << " cut to " << bytes;
    }
  }
}

TEST(ElfFile, SurvivesDamageAtEverySixteenthByte) {
  for (const char* name : {"plain", "own_malloc", "go"}) {
    const auto whole = bytes_of(built(name));
    for (std::size_t at = 0; at + 8 <= whole.size(); at += 16) {
      for (const int value : {0x00, 0x7f, 0xff}) {
        std::vector<std::byte> damaged = whole;
        std::memset(damaged.data() + at, value, 8);
        const auto file = ElfFile::parse(damaged);
        if (file.has_value()) ask_everything(*file);
      }
    }
  }
}

TEST(LibrarySearch, ReadsTheLoadersCache) {
  const auto cache = bytes_of("/etc/ld.so.cache");
  if (cache.empty()) GTEST_SKIP() << "no /etc/ld.so.cache here";
  const auto paths = cached_paths(cache, "libc.so.6");
  ASSERT_FALSE(paths.empty());
  EXPECT_EQ(paths.front().front(), '/');
  EXPECT_TRUE(cached_paths(cache, "libno-such-library.so.9").empty());
  for (std::size_t bytes = 0; bytes < std::min<std::size_t>(cache.size(), 8192); bytes += 16) {
    const std::vector<std::byte> cut(cache.begin(), cache.begin() + static_cast<long>(bytes));
    cached_paths(cut, "libc.so.6");
  }
  for (std::size_t at = 0; at + 8 <= std::min<std::size_t>(cache.size(), 4096); at += 16) {
    std::vector<std::byte> damaged = cache;
    std::memset(damaged.data() + at, 0xff, 8);
    cached_paths(damaged, "libc.so.6");
  }
}

TEST(LibrarySearch, FollowsTheRunPathAndKeepsTheOrderOfTheLoader) {
  const auto order =
      load_order(built("mallocx"), std::make_shared<const ElfFile>(open_built("mallocx")), {});
  ASSERT_EQ(order.objects.size(), 4U);  // the program, the stub, libc, the loader
  EXPECT_NE(order.objects[1].path.find("doctor_mallocx_stub.so"), std::string::npos);
  EXPECT_EQ(order.objects[2].file->soname(), "libc.so.6");
  EXPECT_TRUE(order.missing.empty());
}

TEST(LibrarySearch, PreloadsComeBeforeWhatIsNeeded) {
  SearchSettings settings;
  settings.preload = preload_entries(built("symbolic.so") + ": /no/such/library.so");
  const auto order =
      load_order(built("plain"), std::make_shared<const ElfFile>(open_built("plain")), settings);
  ASSERT_GE(order.objects.size(), 3U);
  EXPECT_EQ(order.objects[1].path, built("symbolic.so"));
  EXPECT_TRUE(order.missing.empty()) << "the loader does without a preload that is not there";
}

}  // namespace
}  // namespace alloctape::tracer
