// What a preloaded tracer would see of a program, and what not, as findings with reasons and
// remedies. The rules themselves: docs/tracer-rules.md, "What a preload cannot see".
#pragma once

#include <string>
#include <vector>

#include "tracer/elf_probe.h"
#include "tracer/library_search.h"
#include "tracer/process_view.h"

namespace alloctape::tracer {

enum class Severity {
  kOk,
  kNote,     // worth knowing: memory that is not malloc's, or how to go on
  kWarning,  // calls that will be missed
  kCannot,   // nothing, or hardly anything, will be seen
};
const char* name_of(Severity severity);

struct Finding {
  Severity severity = Severity::kOk;
  std::string code;     // stable, for programs: "static", "own_allocator"
  std::string subject;  // the file or process that it is about; may be empty
  std::string text;     // a sentence without its full stop
  std::string remedy;   // the same; may be empty
};

struct Diagnosis {
  std::string path;  // the executable that was looked at; empty when there is none
  std::vector<Finding> findings;

  void add(Severity severity, std::string code, std::string subject, std::string text,
           std::string remedy = {});
  Severity worst() const;
};

// `tracer_library` is the file that would be preloaded; empty: not looked at.
Diagnosis diagnose_program(const std::string& program, const std::string& tracer_library,
                           const SearchSettings& settings = search_settings());

// Of objects in the order of symbol lookup, the executable first: which allocator serves malloc,
// and who goes past it.
void diagnose_objects(const std::vector<LoadedObject>& objects, const std::string& tracer_library,
                      Diagnosis& diagnosis);

// The verdict of the probe as a finding, with the scripts that led there.
void diagnose_probe(const ElfProbe& probe, Diagnosis& diagnosis);

// Words quoted as a shell wants them.
std::string shell_line(const std::vector<std::string>& words);

}  // namespace alloctape::tracer
