#include "tracer/elf_file.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace alloctape::tracer {
namespace {

#if defined(__x86_64__)
constexpr unsigned kOurMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr unsigned kOurMachine = EM_AARCH64;
#else
#error "tell the reader this machine's ELF number"
#endif

// More than any real file has; what lies beyond is not looked at.
constexpr std::size_t kMaxNeeded = 4096;
constexpr std::size_t kMaxNotes = 256;
constexpr std::size_t kMaxSections = 65536;
constexpr std::uint64_t kMaxInterpreterBytes = 4096;
// Longer names are no names that anybody here looks for. Without a bound, a file could have each of
// its symbols named by the same long string, and a look at all of them would never end.
constexpr std::uint64_t kMaxNameBytes = 4096;

}  // namespace

formats::Result<ElfFile> ElfFile::open(const std::string& path) {
  auto mapped = formats::MappedFile::open(path);
  if (!mapped) return mapped.error();
  ElfFile file;
  file.file_ = std::move(mapped).value();
  file.bytes_ = {file.file_.data(), static_cast<std::size_t>(file.file_.size())};
  if (!file.read()) {
    return formats::Error{formats::ErrorCode::kNotThisFormat, "not an ELF file", path, {}, {}};
  }
  return file;
}

std::optional<ElfFile> ElfFile::parse(std::span<const std::byte> bytes) {
  ElfFile file;
  file.bytes_ = bytes;
  if (!file.read()) return std::nullopt;
  return file;
}

bool ElfFile::is_native() const {
  return is_64bit_ && is_little_endian_ && machine_ == kOurMachine;
}

template <typename T>
bool ElfFile::copy(std::uint64_t offset, T& to) const {
  if (offset > bytes_.size() || bytes_.size() - offset < sizeof to) return false;
  std::memcpy(&to, bytes_.data() + offset, sizeof to);
  return true;
}

ElfFile::Range ElfFile::within_file(std::uint64_t offset, std::uint64_t bytes) const {
  if (offset >= bytes_.size()) return {};
  return {offset, std::min<std::uint64_t>(bytes, bytes_.size() - offset)};
}

ElfFile::Range ElfFile::at_address(std::uint64_t address) const {
  for (const Elf64_Phdr& segment : segments_) {
    if (segment.p_type != PT_LOAD || address < segment.p_vaddr) continue;
    const std::uint64_t into = address - segment.p_vaddr;
    if (into >= segment.p_filesz) continue;
    const Range whole = within_file(segment.p_offset, segment.p_filesz);
    if (into >= whole.bytes) return {};
    return {whole.offset + into, whole.bytes - into};
  }
  return {};
}

std::string_view ElfFile::view(Range range) const {
  if (range.bytes == 0) return {};  // data() may be null
  return {reinterpret_cast<const char*>(bytes_.data()) + range.offset,
          static_cast<std::size_t>(range.bytes)};
}

std::string_view ElfFile::string_at(Range strings, std::uint64_t index) const {
  if (index >= strings.bytes) return {};
  const std::string_view rest = view(strings).substr(index, kMaxNameBytes);
  const std::size_t end = rest.find('\0');
  return end == std::string_view::npos ? std::string_view{} : rest.substr(0, end);
}

bool ElfFile::read() {
  unsigned char ident[EI_NIDENT];
  if (!copy(0, ident) || std::memcmp(ident, ELFMAG, SELFMAG) != 0) return false;
  is_64bit_ = ident[EI_CLASS] == ELFCLASS64;
  is_little_endian_ = ident[EI_DATA] == ELFDATA2LSB;
  std::uint16_t machine = 0;  // at the same place in both classes
  if (!copy(offsetof(Elf64_Ehdr, e_machine), machine)) return true;
  machine_ =
      is_little_endian_ ? machine : static_cast<unsigned>(machine >> 8 | (machine & 255) << 8);
  Elf64_Ehdr header;
  if (!is_64bit_ || !is_little_endian_ || !copy(0, header)) return true;
  type_ = header.e_type;
  read_segments(header);
  read_sections(header);
  read_dynamic();
  return true;
}

void ElfFile::read_segments(const Elf64_Ehdr& header) {
  if (header.e_phentsize != sizeof(Elf64_Phdr)) return;
  for (std::uint64_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    const std::uint64_t at = i * sizeof segment;
    if (header.e_phoff > bytes_.size() || !copy(header.e_phoff + at, segment)) return;
    segments_.push_back(segment);
    if (segment.p_type == PT_NOTE) {
      read_notes(within_file(segment.p_offset, segment.p_filesz), segment.p_align);
    }
    if (segment.p_type != PT_INTERP) continue;
    const auto text = view(within_file(
        segment.p_offset, std::min<std::uint64_t>(segment.p_filesz, kMaxInterpreterBytes)));
    interpreter_ = text.substr(0, text.find('\0'));
  }
}

void ElfFile::read_notes(Range range, std::uint64_t alignment) {
  const std::uint64_t align = alignment == 8 ? 8 : 4;
  const auto padded = [align](std::uint64_t n) { return (n + align - 1) & ~(align - 1); };
  std::uint64_t at = 0;
  while (at < range.bytes && notes_.size() < kMaxNotes) {
    Elf64_Nhdr note;
    if (range.bytes - at < sizeof note || !copy(range.offset + at, note)) return;
    const std::uint64_t name_at = at + sizeof note;
    if (note.n_namesz > range.bytes - name_at) return;
    std::string_view name = view({range.offset + name_at, note.n_namesz});
    notes_.push_back({name.substr(0, name.find('\0')), note.n_type});
    // Sizes are 32-bit numbers: their sum cannot wrap.
    at = padded(padded(name_at + note.n_namesz) + note.n_descsz);
  }
}

void ElfFile::read_sections(const Elf64_Ehdr& header) {
  if (header.e_shoff == 0 || header.e_shoff > bytes_.size()) return;
  if (header.e_shentsize != sizeof(Elf64_Shdr)) return;
  std::vector<Elf64_Shdr> headers;
  for (std::size_t i = 0; i < std::min<std::size_t>(header.e_shnum, kMaxSections); ++i) {
    Elf64_Shdr section;
    if (!copy(header.e_shoff + i * sizeof section, section)) break;
    headers.push_back(section);
  }
  Range names;
  if (header.e_shstrndx < headers.size()) {
    const Elf64_Shdr& section = headers[header.e_shstrndx];
    names = within_file(section.sh_offset, section.sh_size);
  }
  for (const Elf64_Shdr& section : headers) {
    sections_.push_back({string_at(names, section.sh_name), section});
    // Again, each with the alignment of its own: a segment may mix notes of 4 and of 8.
    if (section.sh_type == SHT_NOTE) {
      read_notes(within_file(section.sh_offset, section.sh_size), section.sh_addralign);
    }
    if (section.sh_type != SHT_SYMTAB || section.sh_link >= headers.size()) continue;
    const Range table = within_file(section.sh_offset, section.sh_size);
    const Elf64_Shdr& strings = headers[section.sh_link];
    static_symbols_ = {table.offset, table.bytes / sizeof(Elf64_Sym),
                       within_file(strings.sh_offset, strings.sh_size)};
  }
}

void ElfFile::read_dynamic() {
  Range table;
  for (const Elf64_Phdr& segment : segments_) {
    if (segment.p_type == PT_DYNAMIC) table = within_file(segment.p_offset, segment.p_filesz);
  }
  std::uint64_t strings_at = 0, string_bytes = 0, symbols_at = 0, hash_at = 0, gnu_hash_at = 0;
  std::vector<Elf64_Dyn> named;  // entries whose value is an index of the string table
  for (std::uint64_t at = 0; table.bytes - at >= sizeof(Elf64_Dyn); at += sizeof(Elf64_Dyn)) {
    Elf64_Dyn entry;
    if (!copy(table.offset + at, entry) || entry.d_tag == DT_NULL) break;
    const std::uint64_t value = entry.d_un.d_val;
    switch (entry.d_tag) {
      case DT_STRTAB:
        strings_at = value;
        break;
      case DT_STRSZ:
        string_bytes = value;
        break;
      case DT_SYMTAB:
        symbols_at = value;
        break;
      case DT_HASH:
        hash_at = value;
        break;
      case DT_GNU_HASH:
        gnu_hash_at = value;
        break;
      case DT_SYMBOLIC:
        symbolic_ = true;
        break;
      case DT_FLAGS:
        symbolic_ = symbolic_ || (value & DF_SYMBOLIC) != 0;
        break;
      case DT_FLAGS_1:
        flags_1_ = value;
        break;
      case DT_NEEDED:
      case DT_SONAME:
      case DT_RPATH:
      case DT_RUNPATH:
        if (named.size() < kMaxNeeded) named.push_back(entry);
        break;
      default:
        break;
    }
  }
  Range strings = at_address(strings_at);
  strings.bytes = std::min(strings.bytes, string_bytes);
  for (const Elf64_Dyn& entry : named) {
    const std::string_view text = string_at(strings, entry.d_un.d_val);
    if (text.empty()) continue;
    if (entry.d_tag == DT_NEEDED) needed_.emplace_back(text);
    if (entry.d_tag == DT_SONAME) soname_ = text;
    if (entry.d_tag == DT_RPATH) rpath_ = text;
    if (entry.d_tag == DT_RUNPATH) runpath_ = text;
  }
  const Range symbols = at_address(symbols_at);
  // Nothing states the number of symbols outright: the hash tables imply it.
  std::uint64_t count = 0;
  Elf64_Word hash_header[2];
  if (gnu_hash_at != 0) count = count_by_gnu_hash(gnu_hash_at);
  if (hash_at != 0 && copy(at_address(hash_at).offset, hash_header)) {
    count = std::max<std::uint64_t>(count, hash_header[1]);  // nchain
  }
  dynamic_symbols_ = {symbols.offset, std::min(count, symbols.bytes / sizeof(Elf64_Sym)), strings};
}

// The table holds: nbuckets, first hashed symbol, words of the Bloom filter, its shift; the filter;
// a first symbol for each bucket; a word for each hashed symbol, whose lowest bit ends its bucket.
std::uint64_t ElfFile::count_by_gnu_hash(std::uint64_t address) const {
  const Range table = at_address(address);
  Elf64_Word header[4];
  if (table.bytes < sizeof header || !copy(table.offset, header)) return 0;
  const std::uint64_t buckets = header[0], first = header[1];
  const std::uint64_t buckets_at = sizeof header + std::uint64_t{header[2]} * sizeof(Elf64_Xword);
  const std::uint64_t chains_at = buckets_at + buckets * sizeof(Elf64_Word);
  if (chains_at > table.bytes) return 0;
  std::uint64_t last = 0;
  for (std::uint64_t i = 0; i < buckets; ++i) {
    Elf64_Word symbol = 0;
    if (!copy(table.offset + buckets_at + i * sizeof symbol, symbol)) return 0;
    last = std::max<std::uint64_t>(last, symbol);
  }
  if (last < first) return first;  // nothing is hashed: only imports
  for (;; ++last) {
    Elf64_Word chain = 1;
    const std::uint64_t at = chains_at + (last - first) * sizeof chain;
    if (at >= table.bytes || !copy(table.offset + at, chain)) return last;
    if (chain & 1) return last + 1;
  }
}

void ElfFile::visit_symbols(const SymbolTable& table, const SymbolVisitor& visit) const {
  for (std::uint64_t i = 1; i < table.count; ++i) {  // the first one is void
    Elf64_Sym raw;
    if (!copy(table.offset + i * sizeof raw, raw)) return;
    ElfSymbol symbol;
    symbol.name = string_at(table.strings, raw.st_name);
    if (symbol.name.empty()) continue;
    const unsigned type = ELF64_ST_TYPE(raw.st_info), binding = ELF64_ST_BIND(raw.st_info);
    const unsigned visibility = ELF64_ST_VISIBILITY(raw.st_other);
    symbol.defined = raw.st_shndx != SHN_UNDEF;
    symbol.function = type == STT_FUNC || type == STT_GNU_IFUNC;
    symbol.exported = symbol.defined && binding != STB_LOCAL &&
                      (visibility == STV_DEFAULT || visibility == STV_PROTECTED);
    symbol.is_weak = binding == STB_WEAK;
    visit(symbol);
  }
}

void ElfFile::for_each_dynamic_symbol(const SymbolVisitor& visit) const {
  visit_symbols(dynamic_symbols_, visit);
}

void ElfFile::for_each_static_symbol(const SymbolVisitor& visit) const {
  visit_symbols(static_symbols_, visit);
}

std::vector<std::string_view> ElfFile::names_in_dynamic_strings(std::string_view prefix) const {
  std::vector<std::string_view> found;
  const std::string_view strings = view(dynamic_symbols_.strings);
  const std::string needle = std::string(1, '\0') + std::string(prefix);
  for (std::size_t at = strings.find(needle); at != std::string_view::npos;
       at = strings.find(needle, at + 1)) {
    const std::size_t end = strings.find('\0', at + 1);
    if (end == std::string_view::npos) break;
    found.push_back(strings.substr(at + 1, end - at - 1));
  }
  return found;
}

bool ElfFile::has_section(std::string_view name) const {
  return std::any_of(sections_.begin(), sections_.end(),
                     [&](const Section& section) { return section.name == name; });
}

// Constants lie in .rodata; without sections, somewhere in what is loaded and not writable.
bool ElfFile::has_text(std::string_view text) const {
  const auto holds = [&](Range range) {
    const std::string_view where = view(range);
    return !where.empty() &&
           memmem(where.data(), where.size(), text.data(), text.size()) != nullptr;
  };
  bool any_section = false;
  for (const Section& section : sections_) {
    if (!section.name.starts_with(".rodata") || section.header.sh_type == SHT_NOBITS) continue;
    any_section = true;
    if (holds(within_file(section.header.sh_offset, section.header.sh_size))) return true;
  }
  if (any_section) return false;
  return std::any_of(segments_.begin(), segments_.end(), [&](const Elf64_Phdr& segment) {
    return segment.p_type == PT_LOAD && (segment.p_flags & PF_W) == 0 &&
           holds(within_file(segment.p_offset, segment.p_filesz));
  });
}

}  // namespace alloctape::tracer
