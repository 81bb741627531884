// What an ELF file says of itself: the only ELF reader of the tools. (The preloaded library reads
// the tables of loaded objects, with other rules: preload/elf_lookup.cc.)
//
// The file is hostile until proven otherwise: every offset, count and string is checked against the
// file before use, and what does not fit counts as absent. No program is run, nothing is relocated.
// Thread safety: immutable after open() or parse().
#pragma once

#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/mapped_file.h"

namespace alloctape::tracer {

// The views of this header point into the file and live as long as its ElfFile.

struct ElfSymbol {
  std::string_view name;
  bool defined = false;   // here; otherwise it is imported
  bool function = false;  // code (indirect functions included), not data
  bool exported = false;  // other objects can bind to it: global or weak, and not hidden
  bool is_weak = false;
};

struct ElfNote {
  std::string_view name;  // the owner, "GNU" or "Go"
  std::uint32_t type = 0;
};

class ElfFile {
 public:
  // kIo when it cannot be read, kNotThisFormat when it is no ELF file.
  static formats::Result<ElfFile> open(const std::string& path);
  // The same of bytes in memory, which must outlive the result. nullopt: no ELF file.
  static std::optional<ElfFile> parse(std::span<const std::byte> bytes);

  // Of a file of another class or byte order only these three are known; all else is empty.
  bool is_64bit() const { return is_64bit_; }
  bool is_little_endian() const { return is_little_endian_; }
  unsigned machine() const { return machine_; }

  // Built for the processor and the word size that this tool runs on.
  bool is_native() const;
  bool is_shared_object() const { return type_ == ET_DYN; }  // a PIE is one, too
  bool is_position_independent_program() const { return (flags_1_ & DF_1_PIE) != 0; }

  const std::string& interpreter() const { return interpreter_; }  // empty: no dynamic loader
  const std::vector<std::string>& needed() const { return needed_; }
  const std::string& soname() const { return soname_; }
  const std::string& rpath() const { return rpath_; }       // as it stands, $ORIGIN and all
  const std::string& runpath() const { return runpath_; }   // rpath is ignored when there is one
  bool binds_to_itself_first() const { return symbolic_; }  // linked with -Bsymbolic

  // What other objects may bind to, and what this one wants from others. `visit` is called for
  // each.
  using SymbolVisitor = std::function<void(const ElfSymbol&)>;
  void for_each_dynamic_symbol(const SymbolVisitor& visit) const;
  // The full table, of which `strip` leaves nothing.
  void for_each_static_symbol(const SymbolVisitor& visit) const;
  bool has_static_symbols() const { return static_symbols_.count > 0; }

  // The versions of libc's interface that the string table of the dynamic symbols names, required
  // or provided: "GLIBC_2.34".
  std::vector<std::string_view> names_in_dynamic_strings(std::string_view prefix) const;

  const std::vector<ElfNote>& notes() const { return notes_; }
  bool has_section(std::string_view name) const;
  // Whether the file's constants hold `text`.
  bool has_text(std::string_view text) const;

 private:
  struct Range {
    std::uint64_t offset = 0, bytes = 0;
  };
  struct SymbolTable {
    std::uint64_t offset = 0, count = 0;
    Range strings;
  };
  struct Section {
    std::string_view name;
    Elf64_Shdr header;
  };

  ElfFile() = default;
  bool read();
  void read_segments(const Elf64_Ehdr& header);
  void read_sections(const Elf64_Ehdr& header);
  void read_dynamic();
  void read_notes(Range range, std::uint64_t alignment);
  std::uint64_t count_by_gnu_hash(std::uint64_t address) const;
  void visit_symbols(const SymbolTable& table, const SymbolVisitor& visit) const;

  // Copies a T from `offset`; false when it does not lie in the file.
  template <typename T>
  bool copy(std::uint64_t offset, T& to) const;
  Range within_file(std::uint64_t offset, std::uint64_t bytes) const;  // cut to what is there
  // Where the bytes of a loaded address lie in the file, up to the end of their segment.
  Range at_address(std::uint64_t address) const;
  std::string_view string_at(Range strings, std::uint64_t index) const;
  std::string_view view(Range range) const;

  formats::MappedFile file_;
  std::span<const std::byte> bytes_;
  bool is_64bit_ = false, is_little_endian_ = false, symbolic_ = false;
  unsigned machine_ = 0, type_ = 0;
  std::uint64_t flags_1_ = 0;
  std::string interpreter_, soname_, rpath_, runpath_;
  std::vector<std::string> needed_;
  std::vector<Elf64_Phdr> segments_;
  std::vector<Section> sections_;
  std::vector<ElfNote> notes_;
  SymbolTable dynamic_symbols_, static_symbols_;
};

}  // namespace alloctape::tracer
