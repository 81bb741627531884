#include "tracer/diagnosis.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <utility>

#include "tracer/object_facts.h"
#include "tracer/script_signs.h"

namespace alloctape::tracer {
namespace {

constexpr std::string_view kTracerLibrary = "liballoctape-preload";

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 6;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i) {
    text += (i == 0 ? "" : ", ") + names[i];
  }
  return names.size() > kShown ? fmt::format("{} and {} more", text, names.size() - kShown) : text;
}

const char* code_of(Traceable verdict) {
  switch (verdict) {
    case Traceable::kYes:
      return "dynamic";
    case Traceable::kStatic:
      return "static";
    case Traceable::kOtherLibc:
      return "other_libc";
    case Traceable::kOtherClass:
      return "other_class";
    case Traceable::kOtherMachine:
      return "other_machine";
    case Traceable::kPrivileged:
      return "privileged";
    case Traceable::kNoLoader:
      return "no_loader";
    case Traceable::kNoProgram:
      return "no_program";
    case Traceable::kOwnAllocator:
      return "own_allocator";
    case Traceable::kUnknown:
      break;
  }
  return "unknown_format";
}

// Programs that have others started in an environment that is not theirs.
struct Launcher {
  std::string_view name, how;
};
constexpr Launcher kLaunchers[] = {
    {"sudo", "clears LD_PRELOAD"},
    {"doas", "clears LD_PRELOAD"},
    {"pkexec", "clears LD_PRELOAD"},
    {"systemd-run", "has the service manager start the program"},
    {"systemctl", "has the service manager start the program"},
    {"docker", "has a daemon start the program in a container"},
    {"podman", "starts the program in a container, which does not see the tracer's library"},
    {"flatpak", "starts the program in a container, which does not see the tracer's library"},
    {"snap", "starts the program in a container, which does not see the tracer's library"},
    {"bwrap", "starts the program in a container, which may not see the tracer's library"},
    {"ssh", "starts the program on another machine"},
};

void diagnose_launcher(const std::string& program, Diagnosis& diagnosis) {
  for (const Launcher& launcher : kLaunchers) {
    if (base_name(program) != launcher.name) continue;
    diagnosis.add(
        Severity::kWarning, "launcher", program,
        fmt::format("{} {}: what it starts is not traced", launcher.name, launcher.how),
        fmt::format("put alloctape behind it: {} ... alloctape record -- PROGRAM", launcher.name));
  }
}

// Set-user-id and the like where it does not matter to whoever asks, but would to others.
void note_privileges(const std::string& path, Diagnosis& diagnosis) {
  struct stat st;
  if (stat(path.c_str(), &st) != 0 || (st.st_mode & (S_ISUID | S_ISGID)) == 0) return;
  if (!gained_privileges(path).empty()) return;
  diagnosis.add(
      Severity::kNote, "privileged_for_others", path,
      "it is set-user-id or set-group-id, which gives you nothing that you are not, so it "
      "can be traced by you; started by another user it is not");
}

void diagnose_missing(const std::string& program, Diagnosis& diagnosis) {
  struct stat st;
  if (program.find('/') == std::string::npos) {
    diagnosis.add(Severity::kCannot, "not_found", program, "there is no such program in PATH",
                  "give its path; a process is given by its number");
  } else if (stat(program.c_str(), &st) != 0) {
    diagnosis.add(Severity::kCannot, "not_found", program,
                  "there is no such file, or it may not be looked at");
  } else if (S_ISDIR(st.st_mode)) {
    diagnosis.add(Severity::kCannot, "not_executable", program, "it is a directory");
  } else {
    diagnosis.add(Severity::kCannot, "not_executable", program, "it is not executable (for you)",
                  "chmod +x, or give the interpreter: alloctape record -- INTERPRETER FILE");
  }
}

// One line about each language runtime, however many objects belong to it.
void diagnose_runtimes(const std::vector<ObjectFacts>& facts,
                       const std::vector<LoadedObject>& objects, Diagnosis& diagnosis) {
  std::set<std::string_view> told;
  for (std::size_t i = 0; i < facts.size(); ++i) {
    for (const Runtime* runtime : facts[i].runtimes) {
      if (!told.insert(runtime->code).second) continue;
      diagnosis.add(Severity::kNote, std::string(runtime->code), objects[i].path,
                    fmt::format("it is {}: {}", runtime->name, runtime->text),
                    std::string(runtime->remedy));
    }
    if (!facts[i].is_go) continue;
    diagnosis.add(Severity::kWarning, "go", objects[i].path,
                  "it is written in Go, whose own allocator maps its memory: only what is C (cgo) "
                  "is seen");
  }
}

// An allocator that nobody else can bind to, inside one object.
void diagnose_private_allocator(const LoadedObject& object, const ObjectFacts& facts,
                                bool is_executable, Diagnosis& diagnosis) {
  if (exports_malloc(*object.file)) return;
  const std::string bundled = facts.allocator.empty() ? "an allocator" : facts.allocator;
  const char* remedy =
      "link that allocator as a shared library under the usual names, or build without it for the "
      "recording";
  const bool all = is_executable && !facts.imports_malloc();
  const Severity severity = all ? Severity::kCannot : Severity::kWarning;
  if (facts.has_private_malloc()) {
    diagnosis.add(severity, "hidden_allocator", object.path,
                  fmt::format("it holds {} of its own whose malloc and free are hidden symbols: no "
                              "preload comes between{}",
                              bundled, all ? "" : ", and what is served by them is missed"),
                  remedy);
  } else if (!facts.allocator.empty() && facts.exports.empty()) {
    diagnosis.add(severity, "bundled_allocator", object.path,
                  fmt::format("it holds {} under names of its own: {}", bundled,
                              all ? "it asks nobody else for memory, so nothing will be seen"
                                  : "what it takes from there is missed, which may be most"),
                  remedy);
  }
}

void diagnose_object(const LoadedObject& object, const ObjectFacts& facts, bool is_executable,
                     Diagnosis& diagnosis) {
  diagnose_private_allocator(object, facts, is_executable, diagnosis);
  if (!facts.sanitizer.empty() && is_executable) {
    diagnosis.add(Severity::kCannot, "sanitizer", object.path,
                  fmt::format("it is built with {}, which replaces malloc itself and must come "
                              "first",
                              facts.sanitizer),
                  "build it without for the recording");
  }
  if (!facts.nonstandard_imports.empty()) {
    diagnosis.add(
        Severity::kWarning, "nonstandard_api", object.path,
        fmt::format("it calls {}: such calls are not recorded", listed(facts.nonstandard_imports)),
        "build it to use malloc and free for the recording, where it has such a switch");
  }
  if (!facts.size_queries.empty()) {
    diagnosis.add(Severity::kNote, "nonstandard_query", object.path,
                  fmt::format("it calls {}, which allocates nothing and is not recorded",
                              listed(facts.size_queries)));
  }
  if (!facts.libc_imports.empty()) {
    diagnosis.add(Severity::kWarning, "libc_internal_api", object.path,
                  fmt::format("it calls {} past malloc: such calls are not recorded",
                              listed(facts.libc_imports)));
  }
  if (!is_executable && object.file->binds_to_itself_first() && exports_malloc(*object.file)) {
    diagnosis.add(Severity::kWarning, "symbolic", object.path,
                  "it was linked with -Bsymbolic and defines malloc: its own calls stay inside and "
                  "are not recorded",
                  "link it without -Bsymbolic for the recording");
  }
}

// A weak import is a question: "is mallocx there?" Where nobody answers, it is not called.
void drop_unanswered(std::vector<ObjectFacts>& facts) {
  std::set<std::string> provided;
  for (const ObjectFacts& of : facts) {
    provided.insert(of.nonstandard_exports.begin(), of.nonstandard_exports.end());
  }
  for (ObjectFacts& of : facts) {
    const std::set<std::string> weak(of.weak_imports.begin(), of.weak_imports.end());
    std::erase_if(of.nonstandard_imports, [&](const std::string& name) {
      return weak.count(name) != 0 && provided.count(name) == 0;
    });
  }
}

bool is_libc(const LoadedObject& object) { return object.file->soname() == "libc.so.6"; }

void diagnose_provider(const std::vector<LoadedObject>& objects,
                       const std::vector<ObjectFacts>& facts, Diagnosis& diagnosis) {
  for (std::size_t i = 1; i < objects.size(); ++i) {
    if (!exports_malloc(*objects[i].file)) continue;
    if (base_name(objects[i].path).starts_with(kTracerLibrary)) continue;
    const std::string& name = facts[i].allocator;
    diagnosis.add(Severity::kOk, "allocator", objects[i].path,
                  fmt::format("it serves malloc{}", is_libc(objects[i]) ? " (glibc)"
                                                    : name.empty()      ? ""
                                                                   : fmt::format(" ({})", name)));
    return;
  }
  diagnosis.add(Severity::kNote, "no_allocator", objects.front().path,
                "none of the libraries found defines malloc: perhaps one is loaded later");
}

// The tracer's library needs some of libc's newer functions; an older container may not have them.
void diagnose_libc_version(const std::vector<LoadedObject>& objects,
                           const std::string& tracer_library, Diagnosis& diagnosis) {
  if (tracer_library.empty()) return;
  const auto tracer = ElfFile::open(tracer_library);
  if (!tracer) return;
  for (const LoadedObject& object : objects) {
    if (!is_libc(object)) continue;
    const auto provided = object.file->names_in_dynamic_strings("GLIBC_");
    for (const std::string_view version : tracer.value().names_in_dynamic_strings("GLIBC_")) {
      if (std::find(provided.begin(), provided.end(), version) != provided.end()) continue;
      diagnosis.add(Severity::kCannot, "old_libc", object.path,
                    fmt::format("it is too old for the tracer's library, which needs {}", version),
                    "build alloctape on a system as old as the program's");
      return;
    }
    return;
  }
}

}  // namespace

const char* name_of(Severity severity) {
  switch (severity) {
    case Severity::kOk:
      return "ok";
    case Severity::kNote:
      return "note";
    case Severity::kWarning:
      return "warning";
    case Severity::kCannot:
      break;
  }
  return "cannot";
}

void Diagnosis::add(Severity severity, std::string code, std::string subject, std::string text,
                    std::string remedy) {
  findings.push_back(
      {severity, std::move(code), std::move(subject), std::move(text), std::move(remedy)});
}

Severity Diagnosis::worst() const {
  Severity worst = Severity::kOk;
  for (const Finding& finding : findings) worst = std::max(worst, finding.severity);
  return worst;
}

std::string shell_line(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) {
    if (!line.empty()) line += ' ';
    const bool plain =
        !word.empty() && word.find_first_of(" \t\n'\"\\$&|;<>()*?[]#~`!{}") == std::string::npos;
    std::string quoted;
    for (const char c : word) quoted += c == '\'' ? "'\\''" : std::string(1, c);
    line += plain ? word : "'" + quoted + "'";
  }
  return line;
}

void diagnose_probe(const ElfProbe& probe, Diagnosis& diagnosis) {
  diagnosis.path = probe.path;
  for (const std::string& script : probe.scripts) {
    diagnosis.add(Severity::kNote, "script", script,
                  fmt::format("it is a script, run by {}: that is what is looked at here; what the "
                              "script starts is recorded too, each into a trace of its own",
                              probe.path));
    diagnose_script(script, diagnosis);
  }
  if (probe.verdict == Traceable::kUnknown && access(probe.path.c_str(), R_OK) != 0) {
    diagnosis.add(Severity::kCannot, "unreadable", probe.path,
                  "it may be executed by you, but not read, so there is no telling",
                  "ask again as its owner or as root");
  } else if (probe.verdict == Traceable::kUnknown && ElfFile::open(probe.path).ok()) {
    diagnosis.add(Severity::kNote, "loader", probe.path,
                  "it is a loader: what it starts can be traced as if started directly",
                  "look at that program instead");
  } else if (probe.verdict == Traceable::kUnknown) {
    diagnosis.add(Severity::kCannot, code_of(probe.verdict), probe.path,
                  "it is neither an ELF program nor a script whose interpreter is there",
                  "look at its first line, or give the interpreter as PROGRAM");
  } else if (probe.verdict != Traceable::kYes) {
    diagnosis.add(Severity::kCannot, code_of(probe.verdict), probe.path, probe.reason,
                  probe.remedy);
  }
}

void diagnose_objects(const std::vector<LoadedObject>& objects, const std::string& tracer_library,
                      Diagnosis& diagnosis) {
  std::vector<ObjectFacts> facts;
  for (const LoadedObject& object : objects) facts.push_back(gather_facts(*object.file));
  drop_unanswered(facts);
  if (!exports_malloc(*objects.front().file)) diagnose_provider(objects, facts, diagnosis);
  diagnose_libc_version(objects, tracer_library, diagnosis);
  for (std::size_t i = 0; i < objects.size(); ++i) {
    if (base_name(objects[i].path).starts_with(kTracerLibrary)) continue;
    diagnose_object(objects[i], facts[i], i == 0, diagnosis);
  }
  diagnose_runtimes(facts, objects, diagnosis);
}

Diagnosis diagnose_program(const std::string& program, const std::string& tracer_library,
                           const SearchSettings& settings) {
  Diagnosis diagnosis;
  const ElfProbe probe = probe_program(program);
  if (probe.path.empty() && probe.scripts.empty()) {
    diagnose_missing(program, diagnosis);
    return diagnosis;
  }
  if (probe.path.empty()) {
    diagnosis.add(Severity::kCannot, "no_interpreter", probe.scripts.back(),
                  "it is a script whose interpreter is not there, so it cannot start at all",
                  "install the interpreter that its first line names");
    return diagnosis;
  }
  auto opened = ElfFile::open(probe.path);
  if (probe.verdict == Traceable::kYes) {
    diagnosis.add(Severity::kOk, "dynamic", probe.path,
                  fmt::format("it is started by glibc's loader {}", opened->interpreter()));
  }
  diagnose_probe(probe, diagnosis);
  diagnose_launcher(program, diagnosis);
  if (!opened) return diagnosis;
  note_privileges(probe.path, diagnosis);
  // What the libraries are is another loader's affair.
  const auto file = std::make_shared<const ElfFile>(std::move(opened).value());
  const bool no_loader = file->interpreter().empty() || !file->is_native();
  if (no_loader || probe.verdict == Traceable::kOtherLibc ||
      probe.verdict == Traceable::kNoLoader) {
    if (gather_facts(*file).is_go) {
      diagnosis.add(Severity::kNote, "go", probe.path,
                    "it is written in Go, whose own allocator maps its memory");
    }
    return diagnosis;
  }
  const LoadOrder order = load_order(probe.path, file, settings);
  for (const LoadOrder::Missing& missing : order.missing) {
    diagnosis.add(
        Severity::kWarning, "missing_library", missing.needed_by,
        fmt::format("it needs {}, which was not found: perhaps it cannot start", missing.name),
        "set LD_LIBRARY_PATH as for running it");
  }
  diagnose_objects(order.objects, tracer_library, diagnosis);
  return diagnosis;
}

}  // namespace alloctape::tracer
