// What one object of a process (the executable or a library) has to do with memory allocation, as
// far as its symbols and constants tell.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tracer/elf_file.h"

namespace alloctape::tracer {

// A language runtime or library with a heap of its own that the malloc API does not show.
struct Runtime {
  std::string_view code;    // "python"
  std::string_view name;    // "Python"
  std::string_view text;    // what a trace of malloc misses: a sentence's remainder
  std::string_view remedy;  // may be empty
};

struct ObjectFacts {
  // Functions of the malloc API by their linker's names, sorted.
  std::vector<std::string> exports;  // defined here for every object to use
  std::vector<std::string>
      internal;                      // defined here for this object alone: no preload comes between
  std::vector<std::string> imports;  // asked of others: what a preload sees
  // Functions that allocate past the malloc API and are asked of others, sorted.
  std::vector<std::string> nonstandard_imports;  // mallocx, mi_malloc, ...
  std::vector<std::string> nonstandard_exports;
  std::vector<std::string> weak_imports;  // used only where somebody provides them
  std::vector<std::string> size_queries;  // of these, what only asks: nallocx, sallocx
  std::vector<std::string> libc_imports;  // __libc_malloc, ...
  std::string allocator;  // of the allocator that is part of this object; empty: none known
  std::string sanitizer;  // whose runtime is part of this object, or needed by it; empty: none
  bool is_go = false;
  std::vector<const Runtime*> runtimes;

  bool has_private_malloc() const;  // both for itself alone
  bool imports_malloc() const;      // any function that acquires memory
};

// Reads symbols and constants once: some 0.1 s for a program of 200 MB.
ObjectFacts gather_facts(const ElfFile& file);

// Whether other objects' calls of malloc and free may end up here.
bool exports_malloc(const ElfFile& file);

}  // namespace alloctape::tracer
