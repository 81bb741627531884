#!/usr/bin/env python3
"""What tracing costs: each way of tracing beside the untraced run, in turn, on loops that do
nothing but call the API and on whole programs.

    tracer_overhead.py --build build [--quick | --full] [--json FILE]

Figures are medians over rounds; in each round the modes run once, in random order, and differences
are taken within the round, since machines drift. `wall` is the time on the clock, `CPU` user and
system time of the program and of what the tracer does inside it (not of LTTng's consumer daemon): on
a busy machine believe CPU. `best` compares the best run of each mode, which noise touches least.
"""
import argparse
import os
import re
import shutil
import sys
import tempfile
import time

import benchlib
import modes as ways
import workloads as loads

# rounds, rounds of peers, calls of a loop, share of them for peers, scale of the programs
SIZES = {
    "smoke": (1, 1, 20_000, 1.0, 0.01),
    "quick": (3, 2, 1_000_000, 0.5, 0.3),
    "normal": (5, 2, 4_000_000, 0.25, 1.0),
    "full": (9, 3, 4_000_000, 0.25, 1.0),
}
# Where these modes have nothing to add, they are left out: time is better spent on rounds.
LOOPS_ONLY = {"forwarding + rdtsc", "preload alone", "strict order", "usable sizes", "latency",
              "mtrace"}


def wall_per_call(sample):
    return sample.said["wall_ns"]


def cpu_per_call(sample):
    # The median slice, where there is one: what a switch of tasks costs is not in it.
    return sample.said.get("slice_ns", sample.said["cpu_ns"])


def mean_cpu_per_call(sample):
    return sample.said["cpu_ns"]


def first(samples):
    return samples[min(samples)]


def optional(value, form):
    return "-" if value is None else format(value, form)


def spread(r, digits):
    return f"{r.median:.{digits}f} ({r.low:.{digits}f} to {r.high:.{digits}f})"


class Result:
    """One workload: {mode: {round: Sample}}, and the events it makes."""

    def __init__(self, workload, samples, events):
        self.workload, self.samples = workload, samples
        self.modes = {m.name: m for m in samples}
        self.base = samples[next(iter(samples))]
        self.events = events  # of a full share, by alloctape's own count; None: not known
        ours = self.modes.get("alloctape")
        self.ours = self.added(ours).median if ours else None

    def added(self, mode):
        """Of CPU time: ns per call of loops, percent of programs."""
        if self.workload.program:
            return benchlib.paired_percent(self.samples[mode], self.base, lambda s: s.cpu)
        return benchlib.paired(self.samples[mode], self.base, cpu_per_call)

    def rss(self, mode):
        return benchlib.paired(self.samples[mode], self.base, lambda s: s.peak_rss_kib)

    def events_of(self, mode):
        sample = first(self.samples[mode])
        if "calls" in sample.said:
            return sample.said["calls"]
        return self.events

    def bytes_per_event(self, mode):
        sample, events = first(self.samples[mode]), self.events_of(mode)
        if mode.kind in ("base", "floor") or mode.name == "paused" or not sample.bytes or not events:
            return None
        return sample.bytes / max(1, events - (sample.lost or 0))

    def packed_per_event(self, mode):
        packed = getattr(mode, "packed_bytes", {}).get(self.workload.name)
        return packed / self.events_of(mode) if packed and self.events_of(mode) else None

    def lost(self, mode):
        lost = first(self.samples[mode]).lost
        return None if mode.kind in ("base", "floor") or lost is None else lost

    def per_event(self, mode):
        events = self.events_of(mode)
        if not events or mode.kind == "base":
            return "-"
        added = benchlib.paired(self.samples[mode], self.base, lambda s: s.cpu).median
        return f"{1e9 * added / events:.0f}"

    def times_ours(self, mode):
        # Against less than a percent or a nanosecond that is noise over noise.
        if self.ours is None or self.ours < 1 or mode.kind == "base":
            return None
        return self.added(mode).median / self.ours

    def row(self, mode):
        samples = self.samples[mode]
        lost, events = self.lost(mode), self.events_of(mode)
        told_lost = "-" if lost is None else (f"{lost:,} ({100 * lost / events:.1f}%)"
                                              if lost and events else f"{lost}")
        if self.workload.program:
            wall = benchlib.paired_percent(samples, self.base, lambda s: s.wall)
            cpu = self.added(mode)
            best = 100 * (min(s.cpu for s in samples.values())
                          / min(s.cpu for s in self.base.values()) - 1)
            lead = [f"{benchlib.Range(s.cpu for s in samples.values()).median:.3f}",
                    "-" if mode.kind == "base" else spread(wall, 1),
                    "-" if mode.kind == "base" else spread(cpu, 1),
                    "-" if mode.kind == "base" else f"{best:.1f}",
                    self.per_event(mode)]
        else:
            wall = benchlib.paired(samples, self.base, wall_per_call)
            cpu = self.added(mode)
            lead = [f"{benchlib.Range(map(wall_per_call, samples.values())).median:.1f}",
                    "-" if mode.kind == "base" else spread(wall, 1),
                    "-" if mode.kind == "base" else spread(cpu, 1)]
        return [mode.name, *lead, optional(self.times_ours(mode), ".1f"),
                optional(self.bytes_per_event(mode), ".2f"),
                optional(self.packed_per_event(mode), ".2f"),
                "-" if mode.kind == "base" else f"{self.rss(mode).median:.0f}", told_lost]

    def head(self):
        lead = (["CPU s", "wall %", "CPU %", "best", "ns/event"] if self.workload.program
                else ["ns/call", "wall added", "CPU added"])
        return ["mode", *lead, "times ours", "B/event", "packed", "RSS KiB", "lost"]

    def text(self):
        events = f", {self.events:,} events" if self.workload.program and self.events else ""
        return (f"### {self.workload.name}{events}\n\n"
                + benchlib.table(self.head(), [self.row(m) for m in self.samples]))

    def as_json(self):
        rows = []
        for mode, samples in self.samples.items():
            row = {"mode": mode.name, "bytes_per_event": self.bytes_per_event(mode),
                   "packed_bytes_per_event": self.packed_per_event(mode), "lost": self.lost(mode),
                   "events": self.events_of(mode),
                   "rss_added_kib": self.rss(mode).as_json(),
                   "samples": [s.as_json() for s in samples.values()]}
            if self.workload.program:
                row["wall_percent"] = benchlib.paired_percent(samples, self.base,
                                                              lambda s: s.wall).as_json()
                row["cpu_percent"] = self.added(mode).as_json()
            else:
                row["wall_added_ns"] = benchlib.paired(samples, self.base, wall_per_call).as_json()
                row["cpu_added_ns"] = self.added(mode).as_json()
                row["mean_cpu_added_ns"] = benchlib.paired(samples, self.base,
                                                           mean_cpu_per_call).as_json()
            rows.append(row)
        return {"workload": self.workload.name, "events": self.events, "rows": rows}


def measure(workload, modes, size, scratch):
    rounds, _, calls, _, scale = size
    folder = os.path.join(scratch, re.sub(r"\W+", "-", workload.name))
    os.mkdir(folder)
    workload.prepare(folder, scale)
    for mode in modes:
        if isinstance(mode, ways.Alloctape):
            mode.start_workload()

    def run(mode):
        return mode.run(workload.argv(int(calls * mode.share)), folder, workload.env)

    # One run unmeasured: files come into the page cache, and what does not run at all says so.
    run(modes[0])
    samples = benchlib.interleave(rounds, modes, run)
    events = None
    for mode in samples:
        if isinstance(mode, ways.Alloctape) and mode.stat:
            if mode.name == "alloctape":
                events = mode.stat["events"]
            if not hasattr(mode, "packed_bytes"):
                mode.packed_bytes = {}
            mode.packed_bytes[workload.name] = mode.packed
    shutil.rmtree(folder)
    return Result(workload, samples, events)


def targets(results):
    """What the tracer is built to reach, and what it reached here."""
    found = {r.workload.name: r for r in results}
    rows = []

    def figure(workload, mode, what):
        result = found.get(workload)
        mode = result.modes.get(mode) if result else None
        return what(result, mode) if mode else None

    def goal(text, value, limit, unit, at_least=False):
        if value is None:
            rows.append([text, f"{limit:g}{unit}", "-", "-"])
        else:
            reached = value >= limit if at_least else value <= limit
            aim = f"{'>=' if at_least else '<='} {limit:g}{unit}"
            rows.append([text, aim, f"{value:.2f}{unit}", "yes" if reached else "no"])

    def added(result, mode):
        return result.added(mode).median

    single, one, two = ("churn, never a second thread", "churn, 1 thread", "churn, 2 threads")
    goal("added a call, never a second thread", figure(single, "alloctape", added), 4, " ns")
    goal("added a call, 1 thread", figure(one, "alloctape", added), 9, " ns")
    goal("the same, a clock reading at every event", figure(one, "dense stamps", added), 9, " ns")
    goal("added a call, 2 threads", figure(two, "alloctape", added), 10, " ns")
    goal("the same, a clock reading at every event", figure(two, "dense stamps", added), 10, " ns")
    goal("added a call, paused", figure(one, "paused", added), 1, " ns")
    # A peer that waits for another process is dear by the clock, not in CPU time.
    for workload in (one, two):
        for peer, limit in (("LTTng-ust, lossless", 7), ("heaptrack", 8)):
            result = found.get(workload)
            if not result or peer not in result.modes or "alloctape" not in result.modes:
                continue
            goal(f"{peer} against ours, {workload[7:]}, CPU",
                 result.times_ours(result.modes[peer]), limit, " times", True)
            wall = [benchlib.paired(result.samples[result.modes[name]], result.base,
                                    wall_per_call).median for name in (peer, "alloctape")]
            if wall[1] > 0:
                goal("the same by the clock", wall[0] / wall[1], limit, " times", True)
    for program, limit in (("cc1plus", 3), ("sqlite3", 3), ("python3", 10),
                           ("python3, PYTHONMALLOC=malloc", 10)):
        goal(f"{program}, whole process", figure(program, "alloctape", added), limit, "%")
    for workload in found:
        goal(f"bytes an event, {workload}",
             figure(workload, "alloctape", Result.bytes_per_event), 8.5, "")
    for workload, limit in ((one, 4), ("cc1plus", 2.1), ("python3", 1.5), ("sqlite3", 0.6)):
        value = figure(workload, "alloctape", Result.packed_per_event)
        if value is not None:
            goal(f"packed bytes an event, {workload}", value, limit, "")
    goal("RSS added, 1 thread", figure(one, "alloctape", lambda r, m: r.rss(m).median), 1024,
         " KiB")
    lost = [r.lost(m) for r in results for m in r.samples
            if m.kind == "alloctape" and r.lost(m) is not None]
    if lost:
        goal("events lost, all modes of alloctape", sum(lost), 0, "")
    return "### Aims\n\n" + benchlib.table(["", "aim", "here", "reached"], rows)


def chosen(a, size):
    build = os.path.abspath(a.build)
    modes = ways.all_modes(build, not a.no_peers, size[1], size[3])
    loads_ = loads.all_workloads(build)
    if a.smoke:
        # A daemon for the sake of a smoke run is more than a test should start.
        modes = [m for m in modes if not isinstance(m, ways.Lttng)]
        loads_ = [w for w in loads_ if not w.program or w.name == "sqlite3"]
    if a.modes:
        modes = [m for m in modes if m.kind == "base" or re.search(a.modes, m.name)]
    if a.workloads:
        loads_ = [w for w in loads_ if re.search(a.workloads, w.name)]
    for what in [*modes, *loads_]:
        if what.missing:
            print(f"tracer_overhead: left out: {what.name}: {what.missing}", file=sys.stderr)
    return [m for m in modes if not m.missing], [w for w in loads_ if not w.missing]


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0],
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build", help="build directory")
    p.add_argument("--smoke", action="store_true", help="does it run at all? (ten seconds)")
    p.add_argument("--quick", action="store_true", help="rough figures (a minute)")
    p.add_argument("--full", action="store_true", help="for the record (10 minutes, machine quiet)")
    p.add_argument("--modes", metavar="REGEX", help="only these, beside untraced")
    p.add_argument("--workloads", metavar="REGEX", help="only these")
    p.add_argument("--no-peers", action="store_true", help="alloctape alone")
    p.add_argument("--rounds", type=int, help="instead of the size's own")
    p.add_argument("--json", metavar="FILE", help="all samples, too; `-`: instead of the tables")
    p.add_argument("--update", metavar="FILE", help="put the tables into docs/performance.md")
    p.add_argument("--scratch", help="a folder for traces and inputs (default: the temporary one)")
    a = p.parse_args()
    name = ("smoke" if a.smoke else "quick" if a.quick else "full" if a.full else "normal")
    size = SIZES[name]
    if a.rounds:
        size = (a.rounds, min(a.rounds, size[1]), *size[2:])
    modes, workloads = chosen(a, size)
    if not workloads or not (a.modes or any(m.kind == "alloctape" for m in modes)):
        sys.exit("tracer_overhead: nothing to measure: build first (./dev build)")

    start, before = time.time(), benchlib.environment()
    results, told = [], []

    def tell(text):
        told.append(text)
        if a.json != "-":
            print(text + "\n", flush=True)

    tell(f"{before['cpu']}, {before['cores']} cores, Linux {before['kernel']}, load "
         f"{before['load_average'][0]:.1f}; size `{name}`: {size[0]} rounds, {size[1]} of peers")
    if before["load_average"][0] > before["cores"] / 4:
        tell("Other work had the machine meanwhile: `wall`, and the hand-overs, say little here.")
    try:
        with tempfile.TemporaryDirectory(prefix="alloctape-bench-", dir=a.scratch) as scratch:
            for workload in workloads:
                skipped = LOOPS_ONLY if workload.program else ()
                results.append(measure(workload, [m for m in modes if m.name not in skipped], size,
                                       scratch))
                tell(results[-1].text())
    finally:
        for mode in modes:
            mode.close()
    if not a.smoke:
        tell(targets(results))
    seconds = time.time() - start
    if a.json != "-":
        print(f"{seconds:.0f} s; load at the end {os.getloadavg()[0]:.1f}")
    if a.json:
        benchlib.write_json(a.json, {
            "schema": "alloctape.bench.tracer_overhead", "version": 2, "size": name,
            "seconds": round(seconds, 1), "environment": before,
            "load_average_at_end": list(os.getloadavg()),
            "results": [r.as_json() for r in results]})
    if a.update:
        benchlib.update_document(a.update, "tracer_overhead", "\n\n".join(told))
    # A peer that fails here is no failure of ours.
    if any(m.failed for m in modes if m.kind != "peer"):
        sys.exit(1)


if __name__ == "__main__":
    main()
