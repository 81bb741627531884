#!/usr/bin/env python3
"""What tracing adds to each call: churn with and without the tracer, in turn, medians of rounds.

    tracer_overhead.py --build build [--rounds 7] [--calls 10000000] [--json]

Every figure is the difference of two medians taken in the same run, since these machines drift.
"""
import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
import tempfile

MODES = {
    "untraced": None,
    "traced": "",
    "traced, stamp on every event": "dense",
    "traced, strict order": "strict",
}


def run(churn, preload, options, threads, calls, scratch):
    env = dict(os.environ)
    if options is not None:
        env["LD_PRELOAD"] = preload
        env["ALLOCTAPE_OUTPUT"] = os.path.join(scratch, "t.%p.atrace")
        env["ALLOCTAPE_OPTIONS"] = options
    out = subprocess.run([churn, str(threads), str(calls)], env=env, check=True, text=True,
                         stdout=subprocess.PIPE).stdout
    traces = glob.glob(os.path.join(scratch, "*.atrace*"))
    size = sum(os.path.getsize(t) for t in traces)
    for t in traces:
        os.unlink(t)
    return float(out), size


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--build", default="build", help="build directory")
    p.add_argument("--churn", help="the churn program (default: found in the build directory)")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--calls", type=int, default=10_000_000)
    p.add_argument("--threads", default="0,1,2")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    preload = os.path.abspath(os.path.join(a.build, "lib/alloctape/liballoctape-preload.so"))
    churn = a.churn or os.path.join(a.build, "tests/bench/churn")
    for needed in (preload, churn):
        if not os.path.exists(needed):
            sys.exit(f"tracer_overhead: {needed} is missing: build first (./dev build)")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for threads in map(int, a.threads.split(",")):
            times = {m: [] for m in MODES}
            sizes = {}
            for _ in range(a.rounds):
                for mode, options in MODES.items():
                    t, size = run(churn, preload, options, threads, a.calls, scratch)
                    times[mode].append(t)
                    sizes[mode] = size / (a.calls * max(threads, 1))
            base = statistics.median(times["untraced"])
            for mode in MODES:
                median = statistics.median(times[mode])
                rows.append({"threads": threads, "mode": mode, "ns_per_call": round(median, 2),
                             "min_ns": min(times[mode]), "max_ns": max(times[mode]),
                             "added_ns": round(median - base, 2),
                             "bytes_per_event": round(sizes[mode], 3)})
    if a.json:
        print(json.dumps({"schema": "alloctape.bench.tracer_overhead/1", "rounds": a.rounds,
                          "calls": a.calls, "rows": rows}, indent=2))
        return
    print(f"{'threads':>7}  {'mode':30} {'ns/call':>8} {'added':>7} {'B/event':>8}   range")
    for r in rows:
        print(f"{r['threads']:>7}  {r['mode']:30} {r['ns_per_call']:8.2f} {r['added_ns']:7.2f} "
              f"{r['bytes_per_event']:8.3f}   {r['min_ns']:.1f}-{r['max_ns']:.1f}")


if __name__ == "__main__":
    main()
