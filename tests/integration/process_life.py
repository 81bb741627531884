#!/usr/bin/env python3
"""What a process may go through while it is recorded, where more is needed than nasty.py's three runs: a
hand from outside, another user, a program that counts its calls itself.

usage: process_life.py CASE [--full]      CASE: a name of CASES below"""
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import harness as h

FULL = "--full" in sys.argv
KIB = 1 << 10


def program(name, *arguments):
    path = os.path.join(h.TEST_BUILD, name)
    h.need_parts(path)
    return [path, *map(str, arguments)]


def by_preload(scratch, command, options="", preexec=None):
    """One run under the preload; its outcome and its images."""
    traces = os.path.join(scratch.path, "traces")
    shutil.rmtree(traces, ignore_errors=True)
    os.mkdir(traces)
    env = h.trace_env({}, h.PRELOAD, ALLOCTAPE_OUTPUT=os.path.join(traces, "%e.%p.atrace"))
    env["ALLOCTAPE_OPTIONS"] = options
    outcome = h.run(command, env=env, preexec=preexec)
    return outcome, h.read_traces(traces)


def by_record(scratch, command, *options, env=None, during=None, timeout=50):
    """One run under `record`, which another thread of the test may disturb; outcome and images."""
    traces = os.path.join(scratch.path, "recorded")
    shutil.rmtree(traces, ignore_errors=True)
    os.mkdir(traces)
    wrap = [h.ALLOCTAPE, "record", "-o", os.path.join(traces, "%e.%p.atrace"), *options, "--"]
    environment = h.clean_env(**(env or {}))
    if not during:
        return h.run([*wrap, *command], env=environment, timeout=timeout), h.read_traces(traces)
    process = subprocess.Popen([*wrap, *command], env=environment, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        during(process, traces)
        out, err = process.communicate(timeout=timeout)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return h.Outcome(process.returncode, out, err, 0), h.read_traces(traces)


# ---- programs that count for themselves ----------------------------------------------------------

def self_counted(scratch, name, rounds):
    """The calls of the rounds, by the program's own count, are what a trace with them holds more than
    a trace without."""
    outcome, base = by_preload(scratch, program(name, 0))
    h.expect(outcome.status == 0, f"{name} 0: exit status {outcome.status}: {outcome.stderr}")
    plain = h.run(program(name, rounds), env=h.clean_env())
    outcome, images = by_preload(scratch, program(name, rounds))
    h.expect_same_outcome(plain, outcome, "recorded")
    made = {}
    for line in outcome.stdout.decode().splitlines():
        function, count = line.rsplit(" ", 1)
        made[function] = int(count)
    made = {function: n for function, n in made.items() if n}
    seen = {f: n - base[0].calls.get(f, 0) for f, n in images[0].calls.items()}
    seen = {f: n for f, n in seen.items() if n}
    h.expect(made == seen, f"{name}: {{function: (made, recorded)}} = {h.differences(made, seen)}")
    h.expect_sound(images[0])
    h.say(f"{name}: {sum(made.values())} calls, each recorded once")


def leaves_new(scratch):
    self_counted(scratch, "leaves_new", 50)


def coroutines(scratch):
    self_counted(scratch, "coroutines", 300)


def dlopen_churn(scratch):
    """Plugins with operators of their own come and go; a call is forwarded to those that are there."""
    plugins = [os.path.join(h.TEST_BUILD, f"libown_operators_{pad}.so") for pad in (0, 16)]
    h.need_parts(*plugins)
    command = program("dlopen_churn", *plugins)
    plain = h.run(command, env=h.clean_env())
    h.expect(plain.status == 0, f"untraced: exit status {plain.status}: {plain.stderr}")
    outcome, images = by_preload(scratch, command)
    h.expect_same_outcome(plain, outcome, "recorded")
    calls = int(plain.stdout.split()[0])
    for function in ("operator new", "operator new(align)", "operator delete", "operator delete(align)"):
        h.expect(images[0].calls.get(function) == calls,
                 f"{function}: {images[0].calls.get(function)} recorded, {calls} made")
    h.expect_sound(images[0])
    h.say(f"{calls} calls of each operator, of plugins that come and go")


# ---- who may be traced, and with what --------------------------------------------------------------

def set_user_id(scratch):
    """A set-user-id program is not traced, by the loader's rule; it runs as ever, and `record` says so."""
    if os.geteuid() != 0:
        h.skip("a program that is set-user-id for somebody else takes root to make")
    os.chmod(scratch.path, 0o755)
    path = os.path.join(scratch.path, "privileged")
    shutil.copy(program("busy_threads")[0], path)
    os.chown(path, 65534, 65534)
    os.chmod(path, 0o4755)
    command = [path, "2", "20000"]
    plain = h.run(command, env=h.clean_env())
    outcome, images = by_record(scratch, command)
    h.expect_same_outcome(plain, outcome, "record", stderr=False)
    if images:
        h.skip("set-user-id is not honoured here (a file system mounted nosuid?)")
    said = outcome.stderr.decode()
    h.expect("cannot be traced" in said and "set-user-id" in said, f"record does not say why:\n{said}")
    h.say(said.strip())


def user_allocator(scratch):
    """An allocator that the user preloads stays, serves the program, and is what gets traced."""
    library = next((path for path in (f"/usr/lib/{a}-linux-gnu/libjemalloc.so.2" for a in ("x86_64",))
                    if os.path.exists(path)), None)
    if not library:
        h.skip("libjemalloc.so.2 is not installed (Debian package libjemalloc2)")
    command = ["/bin/sh", "-c", "echo \"$LD_PRELOAD\"; cat /proc/self/maps; exit 3"]
    outcome, images = by_record(scratch, command, env={"LD_PRELOAD": library})
    lines = outcome.stdout.decode().splitlines()
    h.expect(outcome.status == 3, f"exit status {outcome.status}")
    h.expect(lines[0].split(":")[-1] == library, f"the user's entry is gone: LD_PRELOAD={lines[0]}")
    h.expect(any(library.split("/")[-1] in line for line in lines[1:]), "jemalloc is not loaded")
    h.expect(images, "nothing was traced")
    for image in images:
        info = h.tool("info", image.path).decode()
        h.expect("libjemalloc" in info, f"the trace does not name the allocator:\n{info}")
        h.expect_sound(image)
    h.say(f"{len(images)} images, allocator jemalloc, LD_PRELOAD kept")


# ---- a hand from outside -------------------------------------------------------------------------

def stopped(scratch):
    """SIGSTOP and SIGCONT in mid-burst, time and again."""
    command = program("busy_threads", 4, 2_000_000)
    plain = h.run(command, env=h.clean_env())
    chance = random.Random(4)

    def stop_and_go(process, traces):
        stops = 0
        while process.poll() is None and stops < 25:
            pids = [int(name.split(".")[1]) for name in os.listdir(traces) if name.count(".") >= 2]
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGSTOP)
                    time.sleep(0.02 * chance.random())
                    os.kill(pid, signal.SIGCONT)
                    stops += 1
                except ProcessLookupError:
                    pass
            time.sleep(0.004 * chance.random())
        stop_and_go.stops = stops
    outcome, images = by_record(scratch, command, during=stop_and_go)
    h.expect_same_outcome(plain, outcome, "record", stderr=False)
    h.expect(stop_and_go.stops >= 5, f"only {stop_and_go.stops} stops")
    h.expect(images[0].calls["malloc"] >= 4_000_000 and images[0].calls["free"] >= 4_000_000,
             f"calls are missing: {images[0].calls}")
    h.expect_sound(images[0])
    h.say(f"{stop_and_go.stops} stops, {images[0].events} events, dropped 0")


def under_debuggers(scratch):
    """A program that is traced in the other sense: system calls by strace, signals by gdb."""
    command = program("fork_from_thread")
    plain = h.run(command, env=h.clean_env())
    for name, package, how in (
            ("strace", "strace", ["-f", "-o", "/dev/null", "-e", "trace=all"]),
            ("gdb", "gdb", ["-q", "-batch", "-nx", "-ex", "set startup-with-shell off",
                            "-ex", "handle all nostop noprint pass", "-ex", "run", "--args"])):
        debugger = shutil.which(name)
        if not debugger:
            h.say(f"SKIP {name}: not installed (Debian package {package})")
            continue
        traces = scratch.folder(f"under-{name}")
        env = h.clean_env()
        settings = {"LD_PRELOAD": h.PRELOAD, "ALLOCTAPE_OUTPUT": os.path.join(traces, "%e.%p.atrace")}
        if name == "strace":
            how += [w for k, v in settings.items() for w in ("-E", f"{k}={v}")]
        else:
            at = how.index("run")
            how[at - 1:at - 1] = [w for k, v in settings.items()
                                  for w in ("-ex", f"set environment {k} {v}")]
        outcome = h.run([debugger, *how, *command], env=env)
        h.expect(plain.stdout.strip() in outcome.stdout, f"{name}: {outcome.stdout}\n{outcome.stderr}")
        images = [i for i in h.read_traces(traces) if i.name == "fork_from_thread"]
        if name == "gdb" and not images:  # it stops where ptrace or personality is not permitted
            h.say(f"SKIP gdb: it cannot run programs here: {outcome.stderr.decode().strip()[-200:]}")
            continue
        # gdb follows the parent; the children are let go, and recorded all the same.
        h.expect(len(images) == 11, f"{name}: {len(images)} images, not 11")
        for image in images:
            h.expect_sound(image)
        h.say(f"{name}: {len(images)} images, {sum(i.events for i in images)} events, dropped 0")


def seccomp(scratch):
    """A program that forbids itself all that a tracer needs: recording stops and counts."""
    command = program("seccomp", 60_000)
    outcome, counted = h.Runs(scratch, lambda folder: command).counted()
    h.expect(outcome.status == 0, f"counted: exit status {outcome.status}: {outcome.stderr}")
    traced, images = by_preload(scratch, command)
    h.expect_same_outcome(outcome, traced, "recorded", stderr=False)
    said = traced.stderr.decode().splitlines()
    h.expect(len(said) == 1 and "not permitted" in said[0], f"one line with the reason expected: {said}")
    recorded, dropped = images[0].events, images[0].stat["dropped_events"]
    h.expect(recorded + dropped == counted[0].events and dropped > 0,
             f"recorded {recorded} + dropped {dropped}, made {counted[0].events}")
    h.say(f"recorded {recorded} + dropped {dropped} == made; it said: {said[0]}")


# ---- threads by the thousand ---------------------------------------------------------------------

def short_threads(scratch):
    """A hundred thousand threads, 20 at a time: neither memory nor the trace grows with their number,
    beyond their events."""
    many = 100_000 if FULL else 30_000
    base, peak = {}, {}
    for count in (1000, many):
        command = program("many_threads", count, 20, 10, "rss")
        plain = h.run(command, env=h.clean_env(), timeout=150)
        begin = time.monotonic()
        outcome, images = by_preload(scratch, command)
        seconds = time.monotonic() - begin
        h.expect(outcome.status == 0, f"exit status {outcome.status}: {outcome.stderr}")
        image = images[0]
        h.expect_sound(image)
        h.expect(image.stat["threads"] == count + 1, f"{image.stat['threads']} threads in the trace")
        base[count] = int(plain.stdout.split()[0])
        peak[count] = int(outcome.stdout.split()[0])
        # Each thread has a first and a last word of its own, and its events have absolute times.
        h.expect(image.bytes <= 9 * image.events + 96 * count + (4 << 20),
                 f"{image.bytes} bytes for {image.events} events of {count} threads")
        h.say(f"{count} threads: peak RSS {base[count]} KiB untraced, {peak[count]} KiB recorded; "
              f"{image.bytes / image.events:.1f} bytes an event; {seconds:.1f} s")
    h.expect(peak[many] - peak[1000] <= 1024 + max(0, base[many] - base[1000]),
             f"peak RSS grew from {peak[1000]} to {peak[many]} KiB")


CASES = {f.__name__: f for f in (
    leaves_new, coroutines, dlopen_churn, set_user_id, user_allocator, stopped, under_debuggers, seccomp, short_threads)}


def test(case):
    h.need_parts(h.PRELOAD, h.ALLOCTAPE, h.COUNTER)
    with h.Scratch() as scratch:
        case(scratch)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in CASES:
        sys.exit(__doc__ + "\n" + " ".join(CASES))
    h.main(lambda: test(CASES[sys.argv[1]]))
