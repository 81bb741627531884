#!/usr/bin/env python3
"""What the replay loop costs, over the same calls in a bare loop; and what many threads cost.

    replay_speed.py --build build [--calls 10000000] [--rounds 5] [--json]

Each figure is the best of some rounds in turn: other work on the machine only ever adds. With one thread
it is CPU time, with several wall time. `none`, `sample` and `all` are the modes of --timing. The no-op allocator shows the loop; the C library's, what is left of
the difference between allocators.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile


def replayed(build, workload, allocator, *options):
    out = subprocess.run([os.path.join(build, "alloctape"), "replay", workload, "-a", allocator,
                          "--touch", "none", "--json", "-", *options],
                         stdout=subprocess.PIPE, check=True).stdout
    run = json.loads(out)
    if run["status"] != "ok":
        sys.exit(f"replay_speed: {allocator}: {run['failure']['message']}")
    return run


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--build", default="build", help="build directory")
    p.add_argument("--make-workload", help="default: found in the build directory")
    p.add_argument("--bare-loop", help="default: found in the build directory")
    p.add_argument("--calls", type=int, default=10_000_000)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    make = a.make_workload or os.path.join(a.build, "tests/integration/make_workload")
    bare = a.bare_loop or os.path.join(a.build, "tests/bench/bare_loop")
    noop = os.path.join(a.build, "lib/alloctape/liballoctape-noop.so")
    for needed in (make, bare, noop):
        if not os.path.exists(needed):
            sys.exit(f"replay_speed: {needed} is missing: build first (./dev build)")

    best = {}
    harness_rss = 0

    def note(key, ns):
        best[key] = min(ns, best.get(key, 1e18))

    with tempfile.TemporaryDirectory() as scratch:
        def workload(kind, *numbers):
            path = os.path.join(scratch, "-".join([kind, *map(str, numbers)]) + ".awl")
            subprocess.run([make, kind, path, *map(str, numbers)], check=True)
            return path

        churn = workload("churn", a.calls)
        batches = max(a.calls // 10 // 128, 4 * 64)
        few, many = workload("handover", batches, 2), workload("handover", batches, 64)
        for _ in range(a.rounds):
            for name, preload in (("glibc", ""), ("noop", noop)):
                env = {**os.environ, "LD_PRELOAD": preload}
                note(("bare", name), float(subprocess.run([bare, str(a.calls), "1"], env=env, check=True,
                                                          stdout=subprocess.PIPE).stdout))
                for timing in ("none", "sample", "all"):
                    run = replayed(a.build, churn, name, "--timing", timing)
                    note((timing, name), (run["user_ns"] + run["system_ns"]) / run["total_ops"])
                    if name == "noop":
                        harness_rss = max(harness_rss, run["end_rss_bytes"])
            for lanes, path in ((2, few), (64, many)):
                run = replayed(a.build, path, "glibc", "--timing", "none")
                note(("lanes", lanes), run["wall_ns"] / run["total_ops"])

    loop = {t: best[t, "noop"] - best["bare", "noop"] for t in ("none", "sample", "all")}
    figures = {
        "ns_per_call": {f"{mode} {name}": round(ns, 2) for (mode, name), ns in best.items()
                        if mode != "lanes"},
        "harness_ns": {t: round(ns, 2) for t, ns in loop.items()},
        "million_calls_per_second": {t: round(1e3 / best[t, "glibc"], 1) for t in loop},
        "glibc_over_noop_untimed": round(best["none", "glibc"] / best["none", "noop"], 2),
        "wall_64_over_2_threads": round(best["lanes", 64] / best["lanes", 2], 2),
        "harness_rss_bytes": harness_rss,
    }
    if a.json:
        print(json.dumps({"schema": "alloctape.bench.replay_speed/1", "calls": a.calls,
                          "rounds": a.rounds, **figures}, indent=2))
        return
    print(f"{'ns per call':24} {'no-op':>8} {'glibc':>8}")
    for mode, text in (("bare", "bare loop"), ("none", "replay, untimed"),
                       ("sample", "replay, one in 64 timed"), ("all", "replay, all timed")):
        print(f"{text:24} {best[mode, 'noop']:8.2f} {best[mode, 'glibc']:8.2f}")
    print("the harness, over the bare loop (no-op): " +
          ", ".join(f"{ns:.2f} {t}" for t, ns in loop.items()))
    print("with glibc, million calls/s: " +
          ", ".join(f"{v} {t}" for t, v in figures["million_calls_per_second"].items()))
    print(f"untimed, glibc takes {figures['glibc_over_noop_untimed']} times as long as the no-op "
          "allocator")
    print(f"64 threads take {figures['wall_64_over_2_threads']} times as long as 2 for the same calls")
    print(f"anonymous memory under the no-op allocator: {harness_rss >> 10} KiB")


if __name__ == "__main__":
    main()
