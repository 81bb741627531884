#include "tracer/process_diagnosis.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <set>
#include <utility>

#include "cli/units.h"
#include "formats/wire/session.h"
#include "formats/wire/trace_layout.h"

namespace alloctape::tracer {
namespace {

constexpr std::string_view kTracerLibrary = "/liballoctape-preload";
constexpr std::string_view kDeleted = " (deleted)";

// Files that were replaced while they run are reached through the mapping itself.
std::string reachable_path(const ProcessView& view, const std::string& path) {
  for (const MemoryRegion& mapping : view.mappings) {
    if (mapping.path == path + std::string(kDeleted)) {
      return fmt::format("/proc/{}/map_files/{:x}-{:x}", view.pid, mapping.start, mapping.end);
    }
  }
  return view.inside(path);
}

std::shared_ptr<const ElfFile> open_object(const std::string& path) {
  auto file = ElfFile::open(path);
  if (!file) return nullptr;
  return std::make_shared<const ElfFile>(std::move(file).value());
}

bool is_tracer_mapped(const ProcessView& view) {
  for (const MemoryRegion& mapping : view.mappings) {
    if (mapping.path.find(kTracerLibrary) != std::string::npos) return true;
  }
  return false;
}

// The trace that the process writes: its header page stays mapped, shared.
std::string trace_file(const ProcessView& view) {
  std::set<std::string> seen;
  for (const MemoryRegion& mapping : view.mappings) {
    if (!mapping.is_file() || mapping.permissions != "rw-s") continue;
    if (!seen.insert(mapping.path).second) continue;
    std::ifstream file(view.inside(mapping.path), std::ios::binary);
    char magic[sizeof wire::kTraceMagic] = {};
    file.read(magic, sizeof magic);
    if (file && std::memcmp(magic, wire::kTraceMagic, sizeof magic) == 0) return mapping.path;
  }
  return {};
}

void diagnose_tracing(const ProcessView& view, Diagnosis& diagnosis) {
  const std::string subject = fmt::format("process {}", view.pid);
  if (is_tracer_mapped(view)) {
    const std::string trace = trace_file(view);
    diagnosis.add(
        Severity::kOk, "traced", subject,
        trace.empty() ? "the tracer is loaded into it, but no trace file is mapped: "
                        "recording has not begun, or could not"
                      : fmt::format("it is being traced into {}", trace),
        fmt::format("alloctape ctl {0} status; pause, resume and mark work likewise", view.pid));
    return;
  }
  std::vector<std::string> command = {"alloctape", "record", "--paused", "--"};
  command.insert(command.end(), view.command_line.begin(), view.command_line.end());
  std::string remedy = fmt::format("start it anew with {}, and begin with alloctape ctl PID start",
                                   shell_line(command));
  if (!view.unit.empty()) {
    remedy = fmt::format(
        "it belongs to {0}: put alloctape record --paused -- before the command of its ExecStart "
        "(systemctl edit {0}), restart it, and begin with alloctape ctl PID start",
        view.unit);
  }
  diagnosis.add(
      Severity::kNote, "already_running", subject,
      "a running process cannot be traced after the fact: the tracer must be there before "
      "the first malloc",
      remedy);
}

void diagnose_restrictions(const ProcessView& view, const std::string& tracer_library,
                           Diagnosis& diagnosis) {
  const std::string subject = fmt::format("process {}", view.pid);
  if (view.secure.value_or(false)) {
    diagnosis.add(
        Severity::kCannot, "secure_execution", subject,
        "it was started in secure-execution mode (set-user-id, set-group-id or file "
        "capabilities), in which the loader ignores LD_PRELOAD",
        "start it as the user whose rights it takes, or from a copy without these rights");
  }
  if (view.seccomp_mode == 2) {
    diagnosis.add(Severity::kNote, "seccomp", subject,
                  "its system calls are filtered (seccomp): the tracer needs openat, pwritev, "
                  "fallocate, mmap, munmap, madvise and fcntl; where the filter refuses them, "
                  "recording stops, and where it kills for them, the process would die",
                  "try it on a test system first, or start it without the filter");
  }
  if (view.no_new_privileges) {
    diagnosis.add(Severity::kOk, "no_new_privileges", subject,
                  "it has renounced new privileges: set-user-id programs that it starts gain none, "
                  "and so are traced, too");
  }
  if (!view.other_root && !view.other_mounts) return;
  const bool reachable =
      !tracer_library.empty() && access(view.inside(tracer_library).c_str(), R_OK) == 0;
  const char* where = view.other_root ? "another root directory" : "another mount namespace";
  if (reachable) {
    diagnosis.add(Severity::kNote, "other_root", subject,
                  fmt::format("it has {}, in which the tracer's library can be reached; the trace "
                              "must be written where it has a place, too",
                              where));
  } else {
    diagnosis.add(Severity::kWarning, "other_root", subject,
                  fmt::format("it has {}, in which the tracer's library cannot be reached", where),
                  "install alloctape there (in the container's image) and record from within");
  }
}

void diagnose_environment(const ProcessView& view, Diagnosis& diagnosis) {
  if (!view.environment) return;
  const auto preload = view.environment->find("LD_PRELOAD");
  if (preload == view.environment->end()) return;
  std::string others;
  for (const std::string& entry : preload_entries(preload->second)) {
    if (entry.find(kTracerLibrary) != std::string::npos) continue;
    others += (others.empty() ? "" : ", ") + entry;
  }
  if (others.empty()) return;
  diagnosis.add(
      Severity::kOk, "preloaded", fmt::format("process {}", view.pid),
      fmt::format("LD_PRELOAD brought it {}: record keeps such entries behind its own", others));
}

void diagnose_memory(const ProcessView& view, Diagnosis& diagnosis) {
  const AnonymousMemory memory = anonymous_memory(view.mappings);
  if (memory.total() == 0) return;
  diagnosis.add(
      Severity::kNote, "memory", fmt::format("process {}", view.pid),
      fmt::format("of {} of anonymous memory {} are [heap], {} other mappings (of malloc or of the "
                  "program's own), {} stacks and {} private copies of files",
                  cli::bytes(memory.total()), cli::bytes(memory.heap_bytes),
                  cli::bytes(memory.mapped_bytes), cli::bytes(memory.stack_bytes),
                  cli::bytes(memory.file_bytes)));
}

std::vector<LoadedObject> loaded_objects(const ProcessView& view,
                                         const std::shared_ptr<const ElfFile>& executable) {
  std::vector<LoadedObject> objects = {{view.executable, executable}};
  for (std::size_t i = 1; i < view.load_order.size(); ++i) {
    auto file = open_object(reachable_path(view, view.load_order[i]));
    if (file) objects.push_back({view.load_order[i], std::move(file)});
  }
  return objects;
}

// True when there is a process to look at.
bool diagnose_access(const ProcessView& view, Diagnosis& diagnosis) {
  const std::string subject = fmt::format("process {}", view.pid);
  switch (view.access) {
    case ProcessView::Access::kFull:
      return true;
    case ProcessView::Access::kNoSuchProcess:
      diagnosis.add(Severity::kCannot, "not_found", subject, "there is no such process",
                    fmt::format("a program of that name is given by its path: ./{}", view.pid));
      break;
    case ProcessView::Access::kEnded:
      diagnosis.add(Severity::kCannot, "ended", subject,
                    "it has ended; only its parent still has to take note of it");
      break;
    case ProcessView::Access::kKernelThread:
      diagnosis.add(Severity::kCannot, "kernel_thread", subject,
                    "it is a thread of the kernel and runs no program");
      break;
    case ProcessView::Access::kDenied:
      diagnosis.add(Severity::kCannot, "denied", subject,
                    "it may not be looked at: it belongs to another user, or is protected",
                    "ask again as its user or as root");
      break;
  }
  return false;
}

}  // namespace

Diagnosis diagnose_process(const ProcessView& view, const std::string& tracer_library) {
  Diagnosis diagnosis;
  diagnosis.path = view.executable;
  if (!diagnose_access(view, diagnosis)) return diagnosis;
  diagnose_tracing(view, diagnosis);
  diagnose_restrictions(view, tracer_library, diagnosis);
  diagnose_environment(view, diagnosis);
  diagnose_memory(view, diagnosis);

  // Whatever became of the file's name, this is the file that runs.
  const auto executable = open_object(fmt::format("/proc/{}/exe", view.pid));
  if (!executable) {
    diagnosis.add(Severity::kWarning, "unreadable", view.executable,
                  "its executable may not be read, so it was not looked at",
                  "ask again as its user or as root");
    return diagnosis;
  }
  ElfProbe probe = probe_file(fmt::format("/proc/{}/exe", view.pid), *executable);
  probe.path = view.executable;
  // How this process would start it is beside the point, and its loader need not be in our view.
  if (probe.verdict == Traceable::kPrivileged || probe.verdict == Traceable::kNoLoader) {
    probe.verdict = Traceable::kYes;
  }
  diagnose_probe(probe, diagnosis);
  diagnosis.path = view.executable;
  const bool no_loader = executable->interpreter().empty() || !executable->is_native();
  if (no_loader || probe.verdict == Traceable::kOtherLibc) return diagnosis;
  if (view.load_order.empty()) {
    diagnosis.add(Severity::kNote, "libraries_unknown", view.executable,
                  "its memory may not be read, so its libraries were not looked at",
                  "ask again as its user or as root");
    return diagnosis;
  }
  diagnose_objects(loaded_objects(view, executable), tracer_library, diagnosis);
  return diagnosis;
}

}  // namespace alloctape::tracer
