#include "tests/golden/trace_text.h"

#include <fmt/format.h>

#include "formats/heap_walk.h"

namespace alloctape::formats {

std::string event_text(const Event& e) {
  std::string notes;
  if (e.notes & kNoteUsable) notes += fmt::format(" usable={}", e.usable);
  if (e.notes & kNoteOldUsable) notes += fmt::format(" old_usable={}", e.old_usable);
  if (e.notes & kNoteDuration) notes += fmt::format(" duration_ticks={}", e.duration_ticks);
  return fmt::format(
      "{} thread={} stamp={} release_stamp={} path={:#x} fields={:#x} pointer={:#x} "
      "old_pointer={:#x} size={} count={} alignment={} value={}{}\n",
      wire::traits(e.op).name, static_cast<std::uint32_t>(e.thread), e.stamp, e.release_stamp,
      e.path, e.fields, e.pointer, e.old_pointer, e.size, e.count, e.alignment, e.value, notes);
}

std::string trace_text(const TraceFile& file) {
  const wire::TraceHeader& h = file.header();
  const TraceMetadata& m = file.metadata();
  std::string text = fmt::format(
      "version={} features={:#x} pid={} parent_pid={} clock_kind={} clock_shift={} "
      "ticks_per_second={} state={} truncated={} dropped_events={} event_words={} warnings={}\n",
      h.version, h.features, h.pid, h.parent_pid, static_cast<unsigned>(h.clock_kind),
      h.clock_shift, h.ticks_per_second, static_cast<unsigned>(h.state), file.truncated(),
      file.dropped_events(), file.event_words(), file.warnings().size());
  text += fmt::format(
      "executable={} arguments={} working_directory={} preload={} allocator_path={} "
      "allocator_build_id={} tracer_version={} options={} host_kernel={}\n",
      m.executable, fmt::join(m.command_line, ","), m.working_directory, m.preload,
      m.allocator_path, m.allocator_build_id, m.tracer_version, m.options, m.host_kernel);
  for (const auto& sample : file.rss()) {
    text += fmt::format("rss ticks={} ns={} anon_bytes={} vm_bytes={}\n", sample.ticks,
                        file.ticks_to_ns(sample.ticks), sample.anon_bytes, sample.vm_bytes);
  }
  for (std::uint32_t i = 0; i < file.streams().size(); ++i) {
    text += fmt::format("stream {}\n", i);
    StreamDecoder decoder(file, StreamIndex{i});
    Event e;
    do {
      while (decoder.next(e)) text += event_text(e);
      if (decoder.error()) text += fmt::format("error {}\n", decoder.error()->message);
    } while (decoder.error() && decoder.skip_block());
  }
  HeapVisitor ignore;
  const WalkTotals t = HeapWalk(file).run(ignore);
  text += fmt::format(
      "walk events={} api_events={} repaired={} unrepairable={} unseen_releases={} "
      "unseen_queries={} bytes={} blocks={} peak_bytes={} peak_blocks={} peak_event={} "
      "peak_stamp={} first_stamp={} last_stamp={} corrupt_blocks={}\n",
      t.events, t.api_events, t.order.repaired, t.order.unrepairable, t.order.unseen_releases,
      t.order.unseen_queries, t.live.bytes, t.live.blocks, t.live.peak_bytes, t.live.peak_blocks,
      t.live.peak_event, t.live.peak_stamp, t.first_stamp, t.last_stamp, t.corrupt_blocks);
  return text;
}

}  // namespace alloctape::formats
