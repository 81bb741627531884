#!/usr/bin/env python3
"""Where recording hits a limit, the program must not notice: it ends as it always does, one line on
stderr says what happened, what was recorded before is readable, and recorded + dropped events are all
there were.

usage: limits.py full_disk|file_size|no_directory|address_space"""
import os
import resource
import subprocess
import sys

import harness as h

def program(calls=400_000):
    """Four threads, so many calls each."""
    return [os.path.join(h.TEST_BUILD, "busy_threads"), "4", str(calls)]


# glibc tries four mappings at each call of a thread that could not get an arena.
CALLS_WITHOUT_SPACE = 10_000


def made_calls(scratch, command):
    outcome, images = h.Runs(scratch, lambda folder: command).counted()
    return outcome, images[0].events


def record(traces, preexec=None, command=None):
    env = h.trace_env({}, h.PRELOAD, ALLOCTAPE_OUTPUT=os.path.join(traces, "%e.%p.atrace"))
    return h.run(command or program(), env=env, preexec=preexec)


def expect_unharmed(plain, outcome, lines=1):
    h.expect_same_outcome(plain, outcome, "recorded", stderr=False)
    said = [line for line in outcome.stderr.decode().splitlines() if "alloctape" in line]
    h.expect(len(said) == lines and len(outcome.stderr.splitlines()) == lines,
             f"{lines} line(s) on stderr expected:\n{outcome.stderr.decode()}")
    for line in said:
        h.say(f"it said: {line}")


def expect_all_accounted(traces, made):
    images = [os.path.join(traces, name) for name in os.listdir(traces)]
    h.expect(len(images) == 1, f"one trace expected: {images}")
    stat = h.tool_json("stat", "--json", images[0])
    recorded, dropped = sum(stat["calls"].values()), stat["dropped_events"]
    h.say(f"recorded {recorded} + dropped {dropped} = {recorded + dropped} of {made}")
    h.expect(dropped > 0, "the limit was not hit: the test tests nothing")
    h.expect(recorded > 0, "nothing was recorded before the limit was hit")
    h.expect(recorded + dropped == made, f"recorded + dropped = {recorded + dropped}, made {made}")
    # An incomplete trace is a finding of `check`, and it says of what kind.
    findings = h.tool("check", images[0], status=1).decode()
    h.expect("counted but not recorded" in findings, f"check does not say it: {findings}")


def full_disk(scratch, plain, made):
    disk = scratch.folder("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk]
    if subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode:
        h.skip("a small tmpfs may not be mounted here (needs root)")
    try:
        for turn in range(3):
            traces = os.path.join(disk, str(turn))
            os.mkdir(traces)
            expect_unharmed(plain, record(traces))
            expect_all_accounted(traces, made)
            for name in os.listdir(traces):
                os.remove(os.path.join(traces, name))
    finally:
        subprocess.run(["umount", disk], check=False)


def file_size(scratch, plain, made):
    for turn, limit in enumerate((300_000, 1 << 20, 5_000_001)):
        traces = scratch.folder(f"limited-{turn}")

        def limit_files(size=limit):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        expect_unharmed(plain, record(traces, limit_files))
        expect_all_accounted(traces, made)
        for name in os.listdir(traces):
            size = os.path.getsize(os.path.join(traces, name))
            h.expect(size <= limit, f"the trace has {size} bytes, the limit was {limit}")


def no_directory(scratch, plain, made):
    del made
    outcome = record(os.path.join(scratch.path, "no", "such", "folder"))
    expect_unharmed(plain, outcome)
    # Nor where a file stands in the way.
    with open(os.path.join(scratch.path, "file"), "w", encoding="ascii"):
        pass
    expect_unharmed(plain, record(os.path.join(scratch.path, "file")))


def limit_space(kib):
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (kib << 10, kib << 10))


def needed_space(command, env):
    """KiB of address space below which the program does not get through."""
    low, high = 1 << 10, 8 << 20
    while high - low > 16:
        middle = (low + high) // 2
        if h.run(command, env=env, preexec=limit_space(middle)).status == 0:
            high = middle
        else:
            low = middle
    return high


def address_space(scratch, plain, made):
    """As much as the program needs with some preload in place (the counter), and a little more, from
    what is too little for the tracer's buffers to what is enough."""
    command = program(CALLS_WITHOUT_SPACE)
    plain, made = made_calls(scratch, command)
    need = needed_space(command, h.trace_env({}, h.COUNTER, COUNTER_OUT=scratch.path))
    h.say(f"the program needs {need} KiB of address space")
    for extra in (200, 300, 400, 600, 1000, 4000):
        traces = scratch.folder(f"space-{extra}")
        outcome = record(traces, limit_space(need + extra), command)
        h.expect_same_outcome(plain, outcome, f"recorded with {extra} KiB to spare", stderr=False)
        for name in os.listdir(traces):
            stat = h.tool_json("stat", "--json", os.path.join(traces, name))
            recorded, dropped = sum(stat["calls"].values()), stat["dropped_events"]
            h.say(f"{extra} KiB to spare: recorded {recorded} + dropped {dropped}")
            h.expect(recorded + dropped == made, f"recorded + dropped = {recorded + dropped}, "
                     f"made {made}")


LIMITS = {f.__name__: f for f in (full_disk, file_size, no_directory, address_space)}


def test(name):
    h.need_parts(h.PRELOAD, h.ALLOCTAPE, h.COUNTER)
    with h.Scratch() as scratch:
        plain, made = made_calls(scratch, program())
        h.expect(plain.status == 0, f"counted: exit status {plain.status}")
        LIMITS[name](scratch, plain, made)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in LIMITS:
        sys.exit(__doc__)
    h.main(lambda: test(sys.argv[1]))
