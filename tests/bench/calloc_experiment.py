#!/usr/bin/env python3
"""Which allocators zero the memory of a large calloc, and what that costs for each MB.

    calloc_experiment.py --build build [--times 10000] [--megabytes 100] [--allocators a,b,c]

Records a program that callocs and frees and never looks at the memory, replays it under each
allocator, and prints the table. An allocator that knows its pages to be fresh from the kernel has
no page faults in calloc; one that zeroes by hand has one for each page, and takes the time.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--build", default="build", help="build directory")
    p.add_argument("--program", help="big_calloc (default: found in the build directory)")
    p.add_argument("--times", type=int, default=10_000)
    p.add_argument("--megabytes", type=int, default=100)
    p.add_argument("--allocators", default="all")
    a = p.parse_args()
    alloctape = os.path.join(a.build, "alloctape")
    size = a.megabytes * 1_000_000
    program = a.program or os.path.join(a.build, "tests/bench/big_calloc")
    for needed in (alloctape, program):
        if not os.path.exists(needed):
            sys.exit(f"calloc_experiment: {needed} is missing: build first (./dev build)")
    with tempfile.TemporaryDirectory() as scratch:
        trace, workload = os.path.join(scratch, "calloc.atrace"), os.path.join(scratch, "calloc.awl")
        result = os.path.join(scratch, "calloc.json")
        subprocess.run([alloctape, "record", "-o", trace, "--", program, str(a.times), str(size)],
                       check=True, stderr=subprocess.DEVNULL)
        subprocess.run([alloctape, "convert", trace, "-o", workload], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        subprocess.run([alloctape, "compare", workload, "--allocators", a.allocators, "--rounds", "1",
                        "--touch", "none", "--json", result], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        runs = json.load(open(result))["runs"]
    print(f"{a.times} times calloc({a.megabytes} MB) and free, never touched")
    print(f"{'allocator':18} {'zeroes':>7} {'calloc':>12} {'for each MB':>12} {'faults/call':>12} {'peak RSS':>10}")
    for run in sorted(runs, key=lambda r: r["candidate"]):
        if run["status"] != "ok":
            print(f"{run['candidate']:18} {run['status']}: {run['failure']['message']}")
            continue
        large = [c for c in run["latency_by_size"]["calloc"]
                 if c["from_bytes"] <= size and (c["to_bytes"] or size) >= size][0]
        faults = run["call_faults"] / large["count"]
        print(f"{run['candidate']:18} {'yes' if large['p50_ns'] > 1e3 * a.megabytes else 'no':>7} "
              f"{large['p50_ns'] / 1e3:9.1f} us {large['p50_ns'] / a.megabytes:9.1f} ns "
              f"{faults:12.1f} {run['peak_rss_bytes'] / 1e6:7.1f} MB")


if __name__ == "__main__":
    main()
