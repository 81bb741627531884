// `alloctape ctl`: commands to programs that are being traced.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/cli.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/units.h"
#include "tracer/commands.h"
#include "tracer/image_control.h"
#include "tracer/process_info.h"
#include "tracer/ring_snapshot.h"
#include "tracer/status_summary.h"

namespace alloctape::tracer {
namespace {

namespace po = boost::program_options;
using Json = nlohmann::ordered_json;

enum class Verb { kStart, kStop, kPause, kResume, kSync, kReset, kMark, kStatus, kDump };
constexpr std::pair<const char*, Verb> kVerbs[] = {
    {"start", Verb::kStart},   {"stop", Verb::kStop},     {"pause", Verb::kPause},
    {"resume", Verb::kResume}, {"sync", Verb::kSync},     {"reset", Verb::kReset},
    {"mark", Verb::kMark},     {"status", Verb::kStatus}, {"dump", Verb::kDump}};

struct Request {
  Verb verb = Verb::kStatus;
  std::string verb_name;
  pid_t pid = 0;
  std::string text;         // of a mark
  std::string output_path;  // of a dump; empty: beside the trace
  bool tree = false, json = false;
};

std::optional<pid_t> to_pid(const std::string& word) {
  pid_t pid = 0;
  const char* end = word.data() + word.size();
  const auto result = std::from_chars(word.data(), end, pid);
  if (result.ec != std::errc{} || result.ptr != end || pid <= 0) return std::nullopt;
  return pid;
}

const std::pair<const char*, Verb>* find_verb(const std::string& word) {
  const auto* found = std::find_if(std::begin(kVerbs), std::end(kVerbs),
                                   [&](const auto& verb) { return word == verb.first; });
  return found == std::end(kVerbs) ? nullptr : found;
}

std::optional<Request> parse_request(const std::vector<std::string>& args) {
  cli::CommandLine line;
  line.synopsis = "ctl PID start|stop|pause|resume|sync|reset|mark TEXT|status|dump [options]";
  line.description =
      "Commands the tracer in process PID, which `alloctape record` (or a preload) put there. The "
      "process is sent no signal: a command takes effect in each of its threads at its next call.\n"
      "start, resume: record. pause: forget what happens until resume. stop: pause, and bring all "
      "to the disk. sync: bring all to the disk. reset: what was recorded so far counts no more. "
      "mark: put TEXT into the trace, at this time. status: tell how it goes. dump: save the ring "
      "of a flight recorder (record --ring) as a trace of its own.";
  line.examples =
      "  alloctape ctl 4711 status\n"
      "  alloctape ctl 4711 mark \"load test begins\"\n"
      "  alloctape ctl 4711 pause --tree\n"
      "  alloctape ctl 4711 dump -o before-the-crash.atrace\n";
  line.options.add_options()("tree", "also all processes that PID started, and they")(
      "output,o", po::value<std::string>()->value_name("FILE"),
      "dump: the copy; by default NAME.dump1.atrace beside NAME.atrace")(
      "json", "print the result as JSON");
  line.hidden.add_options()("words", po::value<std::vector<std::string>>());
  line.positional.add("words", -1);
  const auto options = cli::parse(line, args);
  if (!options) return std::nullopt;

  std::vector<std::string> words;
  if (options->count("words")) words = (*options)["words"].as<std::vector<std::string>>();
  if (words.size() < 2) cli::usage_error("ctl needs a process id and a command");
  // `ctl PID start` and `ctl start PID` mean the same.
  if (!to_pid(words[0]) && to_pid(words[1])) std::swap(words[0], words[1]);
  const auto pid = to_pid(words[0]);
  if (!pid) cli::usage_error(fmt::format("'{}' is no process id", words[0]));
  const auto* verb = find_verb(words[1]);
  if (verb == nullptr) cli::usage_error(fmt::format("there is no command '{}'", words[1]));

  Request request;
  request.pid = *pid;
  request.verb_name = verb->first;
  request.verb = verb->second;
  request.tree = options->count("tree");
  request.json = options->count("json");
  for (std::size_t i = 2; i < words.size(); ++i) {
    request.text += (request.text.empty() ? "" : " ") + words[i];
  }
  if (request.verb == Verb::kMark) {
    if (request.text.empty()) cli::usage_error("mark needs a text");
    if (request.text.size() > wire::kMaxMarkBytes) {
      cli::usage_error(fmt::format("a mark's text has at most {} bytes", wire::kMaxMarkBytes));
    }
  } else if (!request.text.empty()) {
    cli::usage_error(fmt::format("{} takes no '{}'", request.verb_name, words[2]));
  }
  if (options->count("output")) {
    if (request.verb != Verb::kDump) cli::usage_error("-o is for dump");
    request.output_path = (*options)["output"].as<std::string>();
  }
  return request;
}

// The trace's name if it means the same file to us as to the process, else a name in the current
// directory: it may live in another mount namespace, or under a name that is gone.
std::string dump_path(const ImageControl& image) {
  struct stat theirs, ours;
  if (fstat(image.fd(), &theirs) == 0 && stat(image.path().c_str(), &ours) == 0 &&
      theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino) {
    return snapshot_path(image.path());
  }
  return snapshot_path(fmt::format("alloctape.{}.{}", program_name(image.pid()), image.pid()));
}

std::string who(const ImageControl& image) {
  return fmt::format("{}[{}]", program_name(image.pid()), image.pid());
}

struct Answer {
  std::string text;  // without its line end
  Json json = Json::object();
};

Answer set_state(const ImageControl& image, const Request& request) {
  using wire::ControlState;
  const ControlState wanted = request.verb == Verb::kPause  ? ControlState::kPaused
                              : request.verb == Verb::kStop ? ControlState::kStopped
                                                            : ControlState::kRecord;
  const bool changed = image.command(wanted);
  if (request.verb == Verb::kStop) image.sync();
  if (!changed && image.commanded() != wanted) {
    throw ControlError{ControlError::Kind::kFailed, who(image) + " is not recording yet",
                       "try again in a moment"};
  }
  const char* state = wanted == ControlState::kPaused    ? "paused"
                      : wanted == ControlState::kStopped ? "stopped"
                                                         : "recording";
  Answer answer;
  answer.text =
      fmt::format("{}: {}{}, {}", who(image), changed ? "" : "was already ", state, image.path());
  answer.json["state"] = state;
  answer.json["changed"] = changed;
  return answer;
}

Answer dump(const ImageControl& image, const Request& request, bool several) {
  std::string path = request.output_path;
  if (path.empty()) {
    path = dump_path(image);
  } else if (several) {
    cli::usage_error("-o names one file, and there are several images: leave it out");
  }
  const RingSnapshot copy = save_ring(image.fd(), path);
  Answer answer;
  answer.text =
      fmt::format("{}: saved {} events in {}; {} older ones were overwritten{}", who(image),
                  cli::count(copy.events), copy.path, cli::count(copy.overwritten_events),
                  copy.exact ? "" : " (about: the ring turned round meanwhile)");
  answer.json["dump"] = copy.path;
  answer.json["events"] = copy.events;
  answer.json["overwritten_events"] = copy.overwritten_events;
  answer.json["overwritten_blocks"] = copy.overwritten_blocks;
  answer.json["lost_blocks"] = copy.lost_blocks;
  answer.json["exact"] = copy.exact;
  answer.json["file_bytes"] = copy.bytes;
  return answer;
}

Answer obey(const ImageControl& image, const Request& request, bool several) {
  Answer answer;
  switch (request.verb) {
    case Verb::kStart:
    case Verb::kResume:
    case Verb::kPause:
    case Verb::kStop:
      return set_state(image, request);
    case Verb::kSync:
      image.sync();
      answer.text = fmt::format("{}: all recorded so far is on the disk", who(image));
      return answer;
    case Verb::kReset:
      image.reset();
      answer.text = fmt::format("{}: what was recorded so far counts no more", who(image));
      answer.json["reset_stamp"] = image.header().reset_stamp;
      return answer;
    case Verb::kMark:
      image.mark(request.text);
      answer.text = fmt::format("{}: marked '{}'", who(image), request.text);
      answer.json["text"] = request.text;
      return answer;
    case Verb::kDump:
      return dump(image, request, several);
    case Verb::kStatus: {
      const ImageStatus status = read_status(image);
      answer.text = to_text(status);
      answer.json = to_json(status);
      return answer;
    }
  }
  return answer;
}

// The process asked for must be traced; of those that it started, those that are.
std::vector<ImageControl> find_images(const Request& request) {
  std::vector<ImageControl> images = ImageControl::of_process(request.pid);
  if (!request.tree) return images;
  for (const pid_t pid : descendants(images.front().pid())) {
    try {
      for (auto& image : ImageControl::of_process(pid)) images.push_back(std::move(image));
    } catch (const ControlError& error) {
      if (error.kind == ControlError::Kind::kNoProcess ||
          error.kind == ControlError::Kind::kEnded) {
        continue;
      }
      std::fputs(fmt::format("alloctape: note: {}\n", error.what).c_str(), stderr);
    }
  }
  return images;
}

int run_ctl(const std::vector<std::string>& args) {
  const auto request = parse_request(args);
  if (!request) return cli::kExitOk;
  try {
    const std::vector<ImageControl> images = find_images(*request);
    Json list = Json::array();
    for (const ImageControl& image : images) {
      Answer answer = obey(image, *request, images.size() > 1);
      if (request->json) {
        Json item = {
            {"pid", image.pid()}, {"program", program_name(image.pid())}, {"trace", image.path()}};
        item.update(answer.json);
        list.push_back(std::move(item));
      } else {
        fmt::print("{}\n", answer.text);
      }
    }
    if (request->json) {
      const Json json = {{"schema", {{"name", "alloctape.ctl"}, {"version", 1}}},
                         {"command", request->verb_name},
                         {"images", std::move(list)}};
      fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
    }
  } catch (const ControlError& error) {
    cli::fail(error.what, error.remedy);
  }
  return cli::kExitOk;
}

}  // namespace

const cli::Command kCtlCommand = {"ctl", "start, pause, mark or look at a program being traced",
                                  run_ctl};

}  // namespace alloctape::tracer
