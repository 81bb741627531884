#!/usr/bin/env python3
"""What tracing adds to the resident memory of a process: with one busy thread, for each further busy one,
and for each thread that makes only 100 calls.

    tracer_rss.py --build build [--rounds 5] [--calls 1000000] [--options ""] [--json]

Two views that must agree: the tracer's own mappings (its library, the parts of the trace file, memory
marked to be wiped on fork), from /proc/PID/smaps; and the difference of the medians of the whole
process's RSS, traced and not, of runs in turn. The second carries the allocator's own noise.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

KIB = 1024
# What each figure is to stay within, in KiB.
GOALS = {"one busy thread": 1024, "each further busy thread": 300, "each thread of 100 calls": 16}
HEAD = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+ *(.*)$")


def mappings(pid):
    """[(path, {field: KiB}, flags)] of /proc/PID/smaps."""
    found = []
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as file:
        for line in file:
            head = HEAD.match(line)
            if head:
                found.append((head.group(1), {}, set()))
            elif line.startswith("VmFlags:"):
                found[-1][2].update(line.split()[1:])
            elif line.rstrip().endswith("kB"):
                name, value = line.split(":")
                found[-1][1][name] = int(value.split()[0])
    return found


def is_tracers(path, flags):
    return "liballoctape-preload" in path or ".atrace" in path or "wf" in flags


def measure(program, preload, options, threads, calls, scratch):
    """KiB: {"total", "total_pss", "own", "own_pss"} of one run."""
    env = dict(os.environ)
    if preload:
        env.update(LD_PRELOAD=preload, ALLOCTAPE_OPTIONS=options,
                   ALLOCTAPE_OUTPUT=os.path.join(scratch, "t.%p.atrace"))
    process = subprocess.Popen([program, str(threads), str(calls)], env=env, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    if process.stdout.readline() != b"ready\n":
        sys.exit(f"tracer_rss: {program} failed")
    all_of_it = mappings(process.pid)
    process.communicate()
    for name in os.listdir(scratch):
        os.unlink(os.path.join(scratch, name))
    own = [fields for path, fields, flags in all_of_it if is_tracers(path, flags)]
    whole = [fields for _, fields, _ in all_of_it]
    return {"total": sum(f.get("Rss", 0) for f in whole), "total_pss": sum(f.get("Pss", 0) for f in whole),
            "own": sum(f.get("Rss", 0) for f in own), "own_pss": sum(f.get("Pss", 0) for f in own)}


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--build", default="build", help="build directory")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--calls", type=int, default=1_000_000, help="of a busy thread")
    p.add_argument("--busy", type=int, default=8, help="how many further busy threads")
    p.add_argument("--light", type=int, default=400, help="how many threads of 100 calls")
    p.add_argument("--options", default="", help="the tracer's options (ALLOCTAPE_OPTIONS)")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    preload = os.path.abspath(os.path.join(a.build, "lib/alloctape/liballoctape-preload.so"))
    program = os.path.join(a.build, "tests/bench/rss_threads")
    for needed in (preload, program):
        if not os.path.exists(needed):
            sys.exit(f"tracer_rss: {needed} is missing: build first (./dev build)")
    # (threads, calls): one busy thread is the main thread alone.
    cases = {"alone": (0, a.calls), "busy": (a.busy, a.calls), "few": (10, 100),
             "light": (10 + a.light, 100)}
    runs = {(case, traced): [] for case in cases for traced in (False, True)}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(a.rounds):
            for case, (threads, calls) in cases.items():
                for traced in (False, True):
                    runs[case, traced].append(measure(program, traced and preload, a.options, threads,
                                                      calls, scratch))

    def added(case, view):
        return (statistics.median(r[view] for r in runs[case, True])
                - statistics.median(r[view] for r in runs[case, False]))
    figures = {}
    for view in ("own", "own_pss", "total"):
        figures[view] = {
            "one busy thread": added("alone", view),
            # With further threads the main one makes no calls: as many busy ones as there are.
            "each further busy thread": (added("busy", view) - added("alone", view)) / (a.busy - 1),
            "each thread of 100 calls": (added("light", view) - added("few", view)) / a.light}
    if a.json:
        print(json.dumps({"schema": "alloctape.bench.tracer_rss/1", "rounds": a.rounds, "calls": a.calls,
                          "options": a.options, "goals_kib": GOALS, "added_kib": figures}, indent=2))
        return
    print(f"{'RSS added, KiB':28} {'own mappings':>12} {'own PSS':>9} {'whole process':>14} {'goal':>6}")
    for name, goal in GOALS.items():
        own, pss, total = (figures[view][name] for view in ("own", "own_pss", "total"))
        verdict = "met" if own <= goal else "MISSED"
        print(f"{name:28} {own:12.1f} {pss:9.1f} {total:14.1f} {goal:6}  {verdict}")


main()
