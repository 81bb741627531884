// The ELF reader and all that is asked of it, on any bytes.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>

#include "tracer/library_search.h"
#include "tracer/object_facts.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace alloctape::tracer;
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  cached_paths(bytes, "libc.so.6");
  const auto file = ElfFile::parse(bytes);
  if (!file) return 0;
  std::size_t characters = 0;
  const auto visit = [&](const ElfSymbol& symbol) {
    if (symbol.name.empty() || (symbol.exported && !symbol.defined)) std::abort();
    characters += symbol.name.size();
  };
  file->for_each_dynamic_symbol(visit);
  file->for_each_static_symbol(visit);
  for (const auto& name : file->names_in_dynamic_strings("GLIBC_")) {
    if (!name.starts_with("GLIBC_")) std::abort();
  }
  for (const ElfNote& note : file->notes()) characters += note.name.size();
  const ObjectFacts facts = gather_facts(*file);
  return characters + facts.exports.size() == SIZE_MAX;  // so that nothing is left out
}
