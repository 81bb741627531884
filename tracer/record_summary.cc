#include "tracer/record_summary.h"

#include <fmt/format.h>
#include <string.h>
#include <sys/wait.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/table.h"
#include "cli/units.h"
#include "formats/trace_file.h"
#include "tracer/elf_probe.h"

namespace alloctape::tracer {
namespace {

// Decoding is fast, but nobody wants to wait long for a table: beyond this, events are estimated.
constexpr std::uint64_t kMaxWordsCounted = 200'000'000;
constexpr std::size_t kMaxRows = 24;
// Below this the header and the buffers outweigh the events, and their ratio says nothing.
constexpr std::uint64_t kMinEventsForRatio = 10'000;
// Of an image without any event: less resident memory than this needs no explanation.
constexpr std::uint64_t kWorthAWord = 4 << 20;

std::string signal_name(int signal) {
  const char* name = sigabbrev_np(signal);
  return name ? fmt::format("SIG{}", name) : fmt::format("signal {}", signal);
}

std::string describe_state(const Image& image, const wire::TraceHeader& header,
                           const std::map<pid_t, int>& wait_statuses) {
  if (header.state == wire::TraceState::kStopped) {
    const char* limit = strerrorname_np(static_cast<int>(header.stop_errno));
    return fmt::format("stopped: {}", limit ? limit : "limit");
  }
  if (image.end == ImageEnd::kRunning) return "running";
  if (header.state == wire::TraceState::kFinished) return "finished";
  if (image.end == ImageEnd::kExeced) return "exec";
  const auto status = wait_statuses.find(static_cast<pid_t>(image.pid));
  if (status == wait_statuses.end()) return "cut short";
  if (WIFSIGNALED(status->second)) return signal_name(WTERMSIG(status->second));
  return "_exit";  // it ended of its own accord, but ran no destructors
}

std::uint64_t count_events(const formats::TraceFile& trace) {
  std::uint64_t events = 0;
  for (std::size_t i = 0; i < trace.streams().size(); ++i) {
    formats::StreamDecoder decoder(trace, static_cast<formats::StreamIndex>(i));
    formats::Event event;
    do {
      while (decoder.next(event)) events += wire::is_api_op(event.op);
    } while (decoder.error() != nullptr && decoder.skip_block());
  }
  return events;
}

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// Below the current directory a relative name is the shorter one to read and to type.
std::string short_path(const std::string& path) {
  std::error_code error;
  const std::string here = std::filesystem::current_path(error).string() + "/";
  return !error && path.rfind(here, 0) == 0 ? path.substr(here.size()) : path;
}

std::string per_event(const ImageSummary& image) {
  if (image.events < kMinEventsForRatio) return "-";
  return fmt::format("{:.2f}",
                     static_cast<double>(image.trace_bytes) / static_cast<double>(image.events));
}

std::string describe_command(const wire::TraceHeader& header) {
  switch (wire::control_state(header.control)) {
    case wire::ControlState::kPaused:
      return "paused";
    case wire::ControlState::kStopped:
      return "stopped";
    default:
      return "recording";
  }
}

// What an event count alone would make one wonder about. Few images are steered by hand.
std::string steering_text(const RecordSummary& summary) {
  std::string text;
  std::size_t lines = 0;
  for (const auto& image : summary.images) {
    std::string what;
    if (image.ring_bytes != 0) {
      what = fmt::format("a ring of {}; {} older events were overwritten",
                         cli::bytes(image.ring_bytes), cli::count(image.overwritten_events));
    }
    if (image.problem.empty() && image.commanded != "recording") {
      what += (what.empty() ? "" : "; ") + image.commanded + " at the end";
    }
    if (what.empty() || ++lines > kMaxRows) continue;
    text += fmt::format("alloctape: {} (pid {}): {}\n", image.program, image.pid, what);
  }
  return text;
}

}  // namespace

std::vector<ImageSummary> summarise(const std::vector<Image>& images,
                                    const std::map<pid_t, int>& wait_statuses) {
  std::vector<ImageSummary> result;
  std::uint64_t words_left = kMaxWordsCounted;
  for (const Image& image : images) {
    ImageSummary& s = result.emplace_back();
    s.pid = image.pid;
    s.trace_path = image.trace_path;
    s.went_on_as = image.went_on_as;
    if (image.peak_anon_bytes != 0) s.peak_anon_bytes = image.peak_anon_bytes;
    auto opened = formats::TraceFile::open(image.trace_path);
    if (!opened) {
      s.problem = opened.error().to_string();
      s.state = "unreadable";
      continue;
    }
    const formats::TraceFile& trace = *opened;
    s.executable = trace.metadata().executable;
    s.program = base_name(s.executable);
    s.state = describe_state(image, trace.header(), wait_statuses);
    if (trace.header().state == wire::TraceState::kStopped) {
      s.stop_errno = static_cast<int>(trace.header().stop_errno);
    }
    s.commanded = describe_command(trace.header());
    s.ring_bytes = trace.header().ring_bytes;
    s.overwritten_events = trace.overwritten_events();
    s.trace_bytes = trace.file_bytes();
    s.dropped_events = trace.dropped_events();
    s.threads = trace.header().next_thread;
    s.events_exact = trace.event_words() <= words_left;
    if (s.events_exact) {
      words_left -= trace.event_words();
      s.events = count_events(trace);
    } else {
      s.events = trace.event_words();
    }
  }
  return result;
}

std::string to_text(const RecordSummary& summary) {
  cli::Table table;
  using Align = cli::Table::Align;
  table.column("pid");
  table.column("program", Align::kLeft);
  table.column("state", Align::kLeft);
  for (const char* name :
       {"events", "bytes", "bytes/event", "dropped", "threads", "peak anon RSS"}) {
    table.column(name);
  }
  table.column("trace", Align::kLeft);

  std::uint64_t events = 0, bytes = 0;
  bool exact = true;
  for (const auto& image : summary.images) {
    events += image.events;
    bytes += image.trace_bytes;
    exact = exact && image.events_exact;
  }
  std::vector<std::size_t> shown(summary.images.size());
  for (std::size_t i = 0; i < shown.size(); ++i) shown[i] = i;
  if (shown.size() > kMaxRows) {  // the largest, in the order in which they started
    std::partial_sort(shown.begin(), shown.begin() + kMaxRows, shown.end(), [&](auto a, auto b) {
      return summary.images[a].trace_bytes > summary.images[b].trace_bytes;
    });
    shown.resize(kMaxRows);
    std::sort(shown.begin(), shown.end());
  }
  for (const std::size_t i : shown) {
    const ImageSummary& image = summary.images[i];
    if (!image.problem.empty()) {
      table.row({std::to_string(image.pid), "-", image.state, "-", "-", "-", "-", "-", "-",
                 short_path(image.trace_path)});
      continue;
    }
    table.row({std::to_string(image.pid), image.program, image.state,
               (image.events_exact ? "" : "~") + cli::count(image.events),
               cli::bytes(image.trace_bytes), per_event(image), cli::count(image.dropped_events),
               cli::count(image.threads),
               image.peak_anon_bytes ? cli::bytes(*image.peak_anon_bytes) : "-",
               short_path(image.trace_path)});
  }
  std::string text = fmt::format(
      "alloctape: {} ended with status {} after {}: {} process image{}, {}{} events, {}\n",
      base_name(summary.arguments.front()), summary.exit_status,
      cli::duration_ns(static_cast<double>(summary.wall_ns)), cli::count(summary.images.size()),
      summary.images.size() == 1 ? "" : "s", exact ? "" : "about ", cli::count(events),
      cli::bytes(bytes));
  text += table.str();
  if (shown.size() < summary.images.size()) {
    text += fmt::format("alloctape: and {} smaller images (--json lists them all)\n",
                        cli::count(summary.images.size() - shown.size()));
  }
  return text + steering_text(summary) + warnings_text(summary);
}

namespace {

// Images that loaded the tracer, but whose calls never reach it: told by program, with the reason
// if the file shows one. Small ones may well make no call at all.
std::string silent_images_text(const RecordSummary& summary) {
  struct Silent {
    std::uint64_t images = 0, peak_anon_bytes = 0;
  };
  std::map<std::string, Silent> programs;
  for (const auto& image : summary.images) {
    if (!image.problem.empty() || image.events + image.dropped_events != 0) continue;
    if (image.commanded != "recording") continue;  // it was to be silent
    Silent& silent = programs[image.executable];
    ++silent.images;
    silent.peak_anon_bytes = std::max(silent.peak_anon_bytes, image.peak_anon_bytes.value_or(0));
  }
  std::string text;
  for (const auto& [executable, silent] : programs) {
    const ElfProbe probe = executable.empty() ? ElfProbe{} : probe_program(executable);
    if (probe.reason.empty() && silent.peak_anon_bytes < kWorthAWord) continue;
    text += fmt::format("alloctape: warning: no call of {} was recorded (process images: {}): {}\n",
                        executable.empty() ? "a program" : executable, silent.images,
                        probe.reason.empty()
                            ? fmt::format("none reached the tracer, though up to {} were resident: "
                                          "perhaps it has an allocator of its own",
                                          cli::bytes(silent.peak_anon_bytes))
                            : probe.reason);
  }
  return text;
}

// Processes that became, by exec, a program that left no trace.
std::string untraced_successors_text(const RecordSummary& summary) {
  std::map<std::string, std::uint64_t> programs;
  for (std::size_t i = 0; i < summary.images.size(); ++i) {
    const ImageSummary& image = summary.images[i];
    const bool followed = std::any_of(summary.images.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                                      summary.images.end(),
                                      [&](const auto& later) { return later.pid == image.pid; });
    if (!image.went_on_as.empty() && !followed) ++programs[image.went_on_as];
  }
  std::string text;
  for (const auto& [executable, count] : programs) {
    const ElfProbe probe = probe_program(executable);
    text += fmt::format(
        "alloctape: warning: {} was started by exec (processes: {}) and left no "
        "trace{}\n",
        executable, count, probe.reason.empty() ? "" : ": " + probe.reason);
  }
  return text;
}

}  // namespace

std::string warnings_text(const RecordSummary& summary) {
  std::string text = silent_images_text(summary) + untraced_successors_text(summary);
  for (const auto& image : summary.images) {
    if (!image.problem.empty()) text += fmt::format("alloctape: warning: {}\n", image.problem);
    if (image.stop_errno != 0 || image.dropped_events != 0) {
      text += fmt::format(
          "alloctape: WARNING: the recording of {} (pid {}) is incomplete: {} events were "
          "dropped{}\n",
          image.program, image.pid, cli::count(image.dropped_events),
          image.stop_errno != 0 ? fmt::format(" ({})", strerror(image.stop_errno)) : "");
    }
  }
  return text;
}

std::string to_json(const RecordSummary& summary) {
  nlohmann::ordered_json json;
  json["schema"] = {{"name", "alloctape.record"}, {"version", 1}};
  json["arguments"] = summary.arguments;
  json["exit_status"] = summary.exit_status;
  json["wall_ns"] = summary.wall_ns;
  json["ticks_per_second"] = summary.ticks_per_second;
  json["images"] = nlohmann::ordered_json::array();
  for (const auto& image : summary.images) {
    nlohmann::ordered_json item;
    item["pid"] = image.pid;
    item["trace"] = image.trace_path;
    item["state"] = image.state;
    if (!image.problem.empty()) {
      item["problem"] = image.problem;
    } else {
      item["program"] = image.program;
      item["events"] = image.events;
      item["events_exact"] = image.events_exact;
      item["trace_bytes"] = image.trace_bytes;
      item["dropped_events"] = image.dropped_events;
      item["stop_errno"] = image.stop_errno;
      item["commanded"] = image.commanded;
      item["ring_bytes"] = nullptr;
      if (image.ring_bytes != 0) item["ring_bytes"] = image.ring_bytes;
      item["overwritten_events"] = image.overwritten_events;
      item["threads"] = image.threads;
      item["peak_anon_bytes"] = nullptr;
      if (image.peak_anon_bytes) item["peak_anon_bytes"] = *image.peak_anon_bytes;
    }
    json["images"].push_back(std::move(item));
  }
  // Program names and arguments are bytes, not always UTF-8.
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace alloctape::tracer
