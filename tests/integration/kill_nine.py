#!/usr/bin/env python3
"""kill -9 at a random moment, 50 times over, of a program that allocates with four threads and counts
its completed calls in shared memory: the trace must be readable each time, and must hold, thread by
thread, every call that had completed; one more where a call was in flight.

usage: kill_nine.py [ROUNDS]"""
import collections
import os
import random
import signal
import struct
import subprocess
import sys
import time

import harness as h

THREADS = 4
# Calls that a thread of the program makes besides the ones it counts: its first lines, in the C library.
UNCOUNTED = 2


def counts_of_threads(path):
    """{tid: completed calls} as the program wrote them."""
    with open(path, "rb") as file:
        data = file.read()
    rows = [struct.unpack_from("<QQ", data, 64 * i) for i in range(len(data) // 64)]
    return {tid: completed for completed, tid in rows if tid}


def events_of_threads(trace):
    """{tid: recorded calls}, from what `dump` prints."""
    process = subprocess.Popen([h.ALLOCTAPE, "dump", "--format", "csv", trace],
                               stdout=subprocess.PIPE, env=h.clean_env())
    header = process.stdout.readline().decode().strip().split(",")
    thread_at, op_at, value_at = (header.index(c) for c in ("thread", "op", "value"))
    tids, calls = {}, collections.Counter()
    for line in process.stdout:
        fields = line.split(b",")
        if fields[op_at] == b"thread_start":
            tids[fields[thread_at]] = int(fields[value_at])
        elif fields[op_at] not in (b"thread_end", b"fork", b"mark"):
            calls[fields[thread_at]] += 1
    h.expect(process.wait() == 0, f"dump failed on {trace}")
    return {tids[thread]: n for thread, n in calls.items()}


def one_round(scratch, chance, number):
    folder = scratch.folder(f"round-{number}")
    counts = os.path.join(folder, "counts")
    traces = os.path.join(folder, "traces")
    os.mkdir(traces)
    env = h.trace_env({}, h.PRELOAD, ALLOCTAPE_OUTPUT=os.path.join(traces, "%e.%p.atrace"))
    process = subprocess.Popen([os.path.join(h.TEST_BUILD, "kill_victim"), counts], env=env)
    # From before the threads run to some flushed buffers of each.
    time.sleep(chance.choice((0.001, 0.01, 0.03, 0.08)) * chance.random() + 0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    completed = counts_of_threads(counts) if os.path.exists(counts) else {}
    files = os.listdir(traces)
    if not files:
        h.expect(not any(completed.values()), f"no trace, but {completed} completed calls")
        return 0, 0
    trace = os.path.join(traces, files[0])
    with open(trace, "rb") as file:
        if not file.read(1):
            h.expect(not any(completed.values()), f"an empty trace, but {completed} completed calls")
            return 0, 0
    stat = h.tool_json("stat", "--json", trace)
    h.expect(stat["dropped_events"] == 0, f"{stat['dropped_events']} events dropped")
    h.tool("check", trace)
    recorded = events_of_threads(trace)
    for tid, n in completed.items():
        seen = recorded.get(tid, 0)
        h.expect(seen >= n, f"round {number}: thread {tid} completed {n} calls, {seen} are recorded")
        h.expect(seen <= n + 1 + UNCOUNTED,
                 f"round {number}: thread {tid} completed {n} calls, but {seen} are recorded")
    os.remove(trace)
    return sum(completed.values()), stat["order"]["unrepairable"]


def test():
    h.need_parts(h.PRELOAD, h.ALLOCTAPE)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    seed = int(os.environ.get("ALLOCTAPE_TEST_SEED", time.time_ns() & 0xffffff))
    h.say(f"{rounds} rounds, ALLOCTAPE_TEST_SEED={seed}")
    chance = random.Random(seed)
    with h.Scratch() as scratch:
        completed, worst = [], 0
        for number in range(rounds):
            calls, unrepairable = one_round(scratch, chance, number)
            completed.append(calls)
            worst = max(worst, unrepairable)
        h.say(f"completed calls at the kill: {min(completed)} to {max(completed)}, all recorded")
        # A thread that was killed between its free and the record of an acquire by another is no
        # inversion: the release is recorded first.
        h.expect(worst == 0, f"{worst} unrepairable inversions")


h.main(test)
