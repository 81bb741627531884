#include "tracer/preload/elf_lookup.h"

#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "tracer/preload/forbidden.h"

namespace alloctape::tracer {

namespace {

struct Search {
  const char* name;
  uint32_t gnu_hash, sysv_hash;
  bool past_us;
  void* found;
  unsigned index = 0;  // of the object looked at, in load order
  bool stays = false;
};
// Objects loaded with the program come first in load order. Until they have been counted, there are
// no others.
unsigned g_initial_objects = ~0u;

uint32_t gnu_hash_of(const char* name) {
  uint32_t h = 5381;
  for (; *name; ++name) h = h * 33 + static_cast<unsigned char>(*name);
  return h;
}

uint32_t sysv_hash_of(const char* name) {
  uint32_t h = 0;
  for (; *name; ++name) {
    h = (h << 4) + static_cast<unsigned char>(*name);
    const uint32_t top = h & 0xf0000000u;
    h = (h ^ (top >> 24)) & ~top;
  }
  return h;
}

struct Tables {
  const ElfW(Sym) * symbols = nullptr;
  const char* strings = nullptr;
  const uint32_t* gnu = nullptr;
  const uint32_t* sysv = nullptr;
};

// glibc relocates the dynamic section in place where it can; what lies below the load address is
// still relative to it.
Tables tables_of(const struct dl_phdr_info* info) {
  Tables t;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    if (info->dlpi_phdr[i].p_type != PT_DYNAMIC) continue;
    const auto* d =
        reinterpret_cast<const ElfW(Dyn)*>(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    for (; d->d_tag != DT_NULL; ++d) {
      uintptr_t at = d->d_un.d_ptr;
      if (at < info->dlpi_addr) at += info->dlpi_addr;
      if (d->d_tag == DT_SYMTAB) t.symbols = reinterpret_cast<const ElfW(Sym)*>(at);
      if (d->d_tag == DT_STRTAB) t.strings = reinterpret_cast<const char*>(at);
      if (d->d_tag == DT_GNU_HASH) t.gnu = reinterpret_cast<const uint32_t*>(at);
      if (d->d_tag == DT_HASH) t.sysv = reinterpret_cast<const uint32_t*>(at);
    }
  }
  return t;
}

bool defines(const Tables& t, uint32_t index, const char* name) {
  const ElfW(Sym)& s = t.symbols[index];
  return s.st_shndx != SHN_UNDEF && ELF64_ST_TYPE(s.st_info) == STT_FUNC &&
         strcmp(t.strings + s.st_name, name) == 0;
}

// Index of the symbol, 0 for none. Layout of the tables: the ELF gABI (DT_HASH) and binutils
// (DT_GNU_HASH: bloom filter, buckets, then chains of hashes whose lowest bit ends a chain).
uint32_t look_up(const Tables& t, const Search& search) {
  if (!t.symbols || !t.strings) return 0;
  if (t.gnu) {
    const uint32_t buckets = t.gnu[0], first = t.gnu[1], bloom_words = t.gnu[2];
    const auto* bucket = t.gnu + 4 + bloom_words * (sizeof(ElfW(Addr)) / 4);
    const auto* chain = bucket + buckets;
    uint32_t index = buckets ? bucket[search.gnu_hash % buckets] : 0;
    if (index < first) return 0;
    for (;; ++index) {
      const uint32_t h = chain[index - first];
      if ((h | 1) == (search.gnu_hash | 1) && defines(t, index, search.name)) return index;
      if (h & 1) return 0;
    }
  }
  if (t.sysv && t.sysv[0]) {
    const uint32_t* bucket = t.sysv + 2;
    const uint32_t* chain = bucket + t.sysv[0];
    for (uint32_t i = bucket[search.sysv_hash % t.sysv[0]]; i; i = chain[i])
      if (defines(t, i, search.name)) return i;
  }
  return 0;
}

bool holds(const struct dl_phdr_info* info, uintptr_t address) {
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& ph = info->dlpi_phdr[i];
    if (ph.p_type == PT_LOAD && address - (info->dlpi_addr + ph.p_vaddr) < ph.p_memsz) return true;
  }
  return false;
}

bool is_named(const struct dl_phdr_info* info, const char* name) {
  const char* slash = info->dlpi_name ? strrchr(info->dlpi_name, '/') : nullptr;
  const char* file = slash ? slash + 1 : info->dlpi_name;
  return file && strncmp(file, name, strlen(name)) == 0;
}

int visit(struct dl_phdr_info* info, size_t, void* data) {
  auto& search = *static_cast<Search*>(data);
  const bool initial = search.index++ < g_initial_objects;
  if (!search.past_us) {
    search.past_us = holds(info, reinterpret_cast<uintptr_t>(&visit));
    return 0;
  }
  const Tables t = tables_of(info);
  const uint32_t index = look_up(t, search);
  if (!index) return 0;
  search.found = reinterpret_cast<void*>(info->dlpi_addr + t.symbols[index].st_value);
  // libstdc++ has unique symbols, which pin it; looking for it at each call would cost too much.
  search.stays = initial || is_named(info, "libstdc++.so");
  return 1;
}

int visit_ahead(struct dl_phdr_info* info, size_t, void* data) {
  auto& search = *static_cast<Search*>(data);
  if (holds(info, reinterpret_cast<uintptr_t>(&visit_ahead))) return 1;
  const Tables t = tables_of(info);
  const uint32_t index = look_up(t, search);
  if (!index) return 0;
  search.found = reinterpret_cast<void*>(info->dlpi_addr + t.symbols[index].st_value);
  return 1;
}

struct Holder {
  uintptr_t address;
  const char* name;
  bool matches;
};
int visit_holder(struct dl_phdr_info* info, size_t, void* data) {
  auto& holder = *static_cast<Holder*>(data);
  if (!holds(info, holder.address)) return 0;
  holder.matches = is_named(info, holder.name);
  return 1;
}

}  // namespace

bool defined_ahead_of_us(const char* name) {
  Search search{name, gnu_hash_of(name), sysv_hash_of(name), false, nullptr};
  dl_iterate_phdr(visit_ahead, &search);
  return search.found;
}

bool lies_in(const void* address, const char* file_name) {
  Holder holder{reinterpret_cast<uintptr_t>(address), file_name, false};
  dl_iterate_phdr(visit_holder, &holder);
  return holder.matches;
}

void* find_behind_us(const char* name, bool* stays) {
  Search search{name, gnu_hash_of(name), sysv_hash_of(name), false, nullptr};
  dl_iterate_phdr(visit, &search);
  *stays = search.stays;
  return search.found;
}

void remember_initial_objects() {
  unsigned objects = 0;
  dl_iterate_phdr(
      [](struct dl_phdr_info*, size_t, void* n) {
        ++*static_cast<unsigned*>(n);
        return 0;
      },
      &objects);
  g_initial_objects = objects;
}

}  // namespace alloctape::tracer
