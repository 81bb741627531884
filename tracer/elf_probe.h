// What a program is, as far as preloading a library into it is concerned: looked at before it
// starts, so that a recording that must stay empty can say why.
#pragma once

#include <string>
#include <vector>

#include "tracer/elf_file.h"

namespace alloctape::tracer {

enum class Traceable {
  kYes,
  kStatic,      // no dynamic loader: nothing is preloaded
  kOtherLibc,   // another loader than glibc's (musl): the library cannot be loaded
  kOtherClass,  // 32-bit
  kOtherMachine,
  kPrivileged,    // set-user-id, set-group-id or file capabilities: the loader ignores LD_PRELOAD
  kNoLoader,      // the loader that it asks for is not there
  kNoProgram,     // a shared library
  kOwnAllocator,  // defines malloc itself, ahead of whatever is preloaded
  kUnknown,       // cannot be read, or is in no format known here: the kernel will tell
};

struct ElfProbe {
  Traceable verdict = Traceable::kUnknown;
  std::string path;    // the file looked at: of a script, its interpreter
  std::string reason;  // a clause that completes "cannot be traced: "; empty for kYes and kUnknown
  std::string remedy;  // a sentence; may be empty
  std::vector<std::string> scripts;  // that led to `path`, the first one first
};

// Looks `program` up as execvp would and follows "#!" lines. Never fails: kUnknown instead.
ElfProbe probe_program(const std::string& program);

// The verdict on an ELF file. `path` is where its mode and capabilities are looked at.
ElfProbe probe_file(const std::string& path, const ElfFile& file);

// The file that execvp would run; empty when there is none.
std::string find_program(const std::string& program);

// What the loader would call secure execution, if this process started the file now: what gains it
// privileges ("set-user-id root"), or empty.
std::string gained_privileges(const std::string& path);

// "#!" in a file's first bytes: the interpreter that runs it; of "/usr/bin/env NAME", NAME.
// Empty when it is no script.
std::string script_interpreter(const std::string& head);

}  // namespace alloctape::tracer
