#include "converter/converter.h"

#include <sys/stat.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "converter/output_file.h"
#include "converter/script_builder.h"
#include "formats/sync_order.h"
#include "formats/workload_writer.h"

namespace alloctape::converter {
namespace {

std::string basename_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

// A workload is made to be handed on: no addresses, no directories, no command line.
std::string provenance_of(const formats::TraceFile& trace, const ConvertOptions& options,
                          const formats::WalkTotals& walk) {
  const formats::TraceMetadata& metadata = trace.metadata();
  nlohmann::ordered_json json = {
      {"schema", "alloctape.provenance/1"},
      {"program", basename_of(metadata.executable)},
      {"recorded_allocator", basename_of(metadata.allocator_path)},
      {"tracer_version", metadata.tracer_version},
      {"converter_version", options.tool_version},
      {"trace_events", walk.events},
      {"dropped_events", trace.dropped_events()},
      {"order", formats::order_name(options.order)},
  };
  if (options.order == wire::SyncOrder::kBounded) json["window_events"] = options.window_events;
  if (trace.header().features & wire::kFeatureMaps) json["maps"] = options.maps ? "replay" : "skip";
  // Names come from the trace and may be no UTF-8.
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

formats::Result<ConvertSummary> write_workload(const formats::TraceFile& trace,
                                               const std::string& path,
                                               const ConvertOptions& options) {
  auto writer = formats::WorkloadWriter::create(path);
  if (!writer) return writer.error();
  ConvertSummary summary;
  try {
    ScriptBuilder builder(trace, *writer, options);
    formats::WalkOptions walk_options;
    walk_options.progress = options.progress;
    formats::HeapWalk walk(trace, std::move(walk_options));
    const formats::WalkTotals walk_totals = walk.run(builder);
    formats::WorkloadWriter::Totals totals = builder.finish(walk_totals, summary);
    totals.provenance_json = provenance_of(trace, options, walk_totals);
    formats::Status status = writer->finish(totals);
    if (!status) return status.error();
  } catch (const WriteFailed& failure) {
    return failure.error;
  }
  return summary;
}

}  // namespace

formats::Result<ConvertSummary> convert(const formats::TraceFile& trace, const std::string& output,
                                        const ConvertOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  auto file = OutputFile::beside(output);
  if (!file) return file.error();
  auto summary = write_workload(trace, file->temporary(), options);
  if (!summary) {
    formats::Error error = summary.error();
    if (error.path == file->temporary() || error.path.empty()) error.path = output;
    return error;
  }
  struct stat st {};
  if (::stat(file->temporary().c_str(), &st) == 0) {
    summary->workload_bytes = static_cast<std::uint64_t>(st.st_size);
  }
  formats::Status status = file->commit();
  if (!status) return status.error();
  summary->trace_bytes = trace.file_bytes();
  summary->inherited = trace.header().parent_image_id != 0;
  summary->dropped_events = trace.dropped_events();
  summary->truncated = trace.truncated();
  summary->wall_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return summary;
}

}  // namespace alloctape::converter
