// `alloctape doctor`: whether a program can be traced, what a trace of it would miss, and why.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/cli.h"
#include "cli/install_paths.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/table.h"
#include "tracer/commands.h"
#include "tracer/diagnosis.h"
#include "tracer/process_diagnosis.h"

namespace alloctape::tracer {
namespace {

namespace po = boost::program_options;
using Json = nlohmann::ordered_json;

// Names come from files that may hold anything: nothing of them shall steer the terminal.
std::string printable(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte < 0x20 || byte == 0x7f ? fmt::format("\\x{:02x}", byte) : std::string(1, c);
  }
  return out;
}

const char* verdict(Severity worst) {
  switch (worst) {
    case Severity::kOk:
    case Severity::kNote:
      return "yes";
    case Severity::kWarning:
      return "partly";
    case Severity::kCannot:
      break;
  }
  return "no";
}

const char* sentence(Severity worst, bool is_process) {
  switch (worst) {
    case Severity::kOk:
    case Severity::kNote:
      return is_process ? "It can be traced from a new start." : "It can be traced.";
    case Severity::kWarning:
      return "It can be traced in part: see the warnings.";
    case Severity::kCannot:
      break;
  }
  return "It cannot be traced, or hardly.";
}

std::string coloured(Severity severity) {
  const std::string name = fmt::format("{:<8}", name_of(severity));
  switch (severity) {
    case Severity::kOk:
      return cli::green(name);
    case Severity::kNote:
      return cli::dim(name);
    case Severity::kWarning:
      return cli::bold(name);
    case Severity::kCannot:
      break;
  }
  return cli::red(name);
}

bool is_traced(const Diagnosis& diagnosis) {
  return std::any_of(diagnosis.findings.begin(), diagnosis.findings.end(),
                     [](const Finding& finding) { return finding.code == "traced"; });
}

void print_text(cli::Output& out, const Diagnosis& diagnosis, const std::string& target,
                bool is_process) {
  const std::string what = is_process ? "process " + target : target;
  out.print(
      "{}{}\n", printable(what),
      diagnosis.path.empty() || diagnosis.path == what ? "" : ": " + printable(diagnosis.path));
  for (const Finding& finding : diagnosis.findings) {
    const bool own =
        finding.subject.empty() || finding.subject == diagnosis.path || finding.subject == what;
    out.print("  {} {}{}{}\n", coloured(finding.severity),
              own ? "" : printable(finding.subject) + ": ", printable(finding.text),
              finding.remedy.empty() ? "" : " -> " + printable(finding.remedy));
  }
  const Severity worst = diagnosis.worst();
  out.print("{}\n", is_traced(diagnosis) && worst < Severity::kWarning
                        ? "It is being traced."
                        : sentence(worst, is_process));
}

Json to_json(const Diagnosis& diagnosis, const std::string& target, bool is_process) {
  Json json;
  json["schema"] = "alloctape.doctor/1";
  json["kind"] = is_process ? "process" : "program";
  json["target"] = target;
  json["path"] = diagnosis.path.empty() ? Json() : Json(diagnosis.path);
  json["traceable"] = verdict(diagnosis.worst());
  if (is_process) json["traced_now"] = is_traced(diagnosis);
  json["findings"] = Json::array();
  for (const Finding& finding : diagnosis.findings) {
    json["findings"].push_back(
        {{"severity", name_of(finding.severity)},
         {"code", finding.code},
         {"subject", finding.subject},
         {"text", finding.text},
         {"remedy", finding.remedy.empty() ? Json() : Json(finding.remedy)}});
  }
  return json;
}

bool is_number(const std::string& text) {
  return !text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == text.npos;
}

// What stands behind PROGRAM is its own, options too; only --json is taken from anywhere before it.
std::vector<std::string> own_arguments(const std::vector<std::string>& args) {
  for (std::size_t i = 0; i < args.size(); ++i) {
    const bool is_option = args[i].starts_with("-") && args[i] != "--";
    if (is_option) continue;
    std::size_t end = i + (args[i] == "--" ? 2 : 1);
    if (end < args.size() && args[end] == "--json") ++end;
    return {args.begin(), args.begin() + static_cast<long>(std::min(end, args.size()))};
  }
  return args;
}

int run_doctor(const std::vector<std::string>& args) {
  cli::CommandLine line;
  line.synopsis = "doctor PROGRAM|PID [--json] [ARGUMENTS, ignored...]";
  line.description =
      "Tells whether PROGRAM can be traced, what a trace would miss, why, and what to do about it: "
      "one finding a line. Nothing of the program is run. Of a process, given by its number, it "
      "tells the same, whether it is being traced, and which allocator serves it.";
  line.examples =
      "  alloctape doctor ./server\n"
      "  alloctape doctor python3 --json\n"
      "  alloctape doctor $(pidof redis-server)\n";
  line.options.add_options()("json", "Print JSON (schema alloctape.doctor/1).");
  line.hidden.add_options()("program", po::value<std::string>()->required(), "");
  line.positional.add("program", 1);
  const auto values = cli::parse(line, own_arguments(args));
  if (!values) return cli::kExitOk;

  const auto target = (*values)["program"].as<std::string>();
  const std::string library = cli::preload_library();
  const bool is_process = is_number(target);
  const Diagnosis diagnosis = is_process
                                  ? diagnose_process(view_process(std::stoi(target)), library)
                                  : diagnose_program(target, library);
  cli::Output out;
  if (values->count("json")) {
    out.write(
        to_json(diagnosis, target, is_process).dump(2, ' ', false, Json::error_handler_t::replace));
    out.write("\n");
  } else {
    print_text(out, diagnosis, target, is_process);
  }
  out.flush();
  return diagnosis.worst() == Severity::kCannot ? cli::kExitFailure : cli::kExitOk;
}

}  // namespace

const cli::Command kDoctorCommand = {
    "doctor", "whether a program can be traced, and what is missed", run_doctor};

}  // namespace alloctape::tracer
