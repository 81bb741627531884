#!/usr/bin/env python3
"""What packing makes of the benchmarks' recordings: bytes per event, and nanoseconds per event on one core.

    packing.py --build build [--level N ...] [--scale 1] [--only NAME ...]
"""
import argparse
import os
import subprocess
import sys
import tempfile

import workloads


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--build", required=True)
    arguments.add_argument("--level", type=int, nargs="*", default=[3])
    arguments.add_argument("--scale", type=float, default=1)
    arguments.add_argument("--calls", type=int, default=4_000_000)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--only", nargs="*")
    a = arguments.parse_args()
    alloctape = os.path.join(a.build, "alloctape")
    packing = os.path.join(a.build, "tests", "bench", "packing")
    print("| recording | level | events | raw B/event | packed B/event | pack ns | unpack ns | "
          "million packed/s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for load in workloads.all_workloads(a.build):
        if a.only and not any(load.name.startswith(name) for name in a.only):
            continue
        if load.missing:
            print(f"{load.name} is left out: {load.missing}", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as folder:
            load.prepare(folder, a.scale)
            trace = os.path.join(folder, "%e.atrace")
            subprocess.run([alloctape, "record", "-q", "--level", "0", "--no-follow", "-o", trace, "--",
                            *load.argv(a.calls)], check=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd=folder,
                           env={**os.environ, **load.env})
            traces = [os.path.join(folder, f) for f in os.listdir(folder) if f.endswith(".atrace")]
            for level in a.level:
                told = subprocess.run([packing, "--level", str(level), "--rounds", str(a.rounds),
                                       *traces], check=True, stdout=subprocess.PIPE, text=True).stdout
                for line in told.splitlines():
                    said = dict(word.split("=", 1) for word in line.split())
                    print(f"| {load.name} | {level} | {int(said['events']):,} "
                          f"| {said['raw_bytes_per_event']} | {said['packed_bytes_per_event']} "
                          f"| {float(said['pack_ns']):.1f} | {float(said['unpack_ns']):.1f} "
                          f"| {1000 / float(said['pack_ns']):.0f} |", flush=True)


if __name__ == "__main__":
    main()
