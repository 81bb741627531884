// What a program is, as far as preloading a library into it is concerned: looked at before it
// starts, so that a recording that must stay empty can say why.
#pragma once

#include <string>

namespace alloctape::tracer {

enum class Traceable {
  kYes,
  kStatic,      // no dynamic loader: nothing is preloaded
  kOtherLibc,   // another loader than glibc's (musl): the library cannot be loaded
  kOtherClass,  // 32-bit
  kOtherMachine,
  kPrivileged,  // set-user-id, set-group-id or file capabilities: the loader ignores LD_PRELOAD
  kUnknown,     // cannot be read, or is in no format known here: the kernel will tell
};

struct ElfProbe {
  Traceable verdict = Traceable::kUnknown;
  std::string path;    // the file looked at: of a script, its interpreter
  std::string reason;  // a clause that completes "cannot be traced: "; empty for kYes and kUnknown
};

// Looks `program` up as execvp would and follows "#!" lines. Never fails: kUnknown instead.
ElfProbe probe_program(const std::string& program);

// The file that execvp would run; empty when there is none.
std::string find_program(const std::string& program);

}  // namespace alloctape::tracer
