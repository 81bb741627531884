#!/usr/bin/env python3
"""Control of recordings from outside (ctl, record's options) and from within (alloctape.h), each command
seen in the trace.

usage: control.py CASE"""
import json
import os
import signal
import subprocess
import sys
import time

import harness as h
import servers

SCALE = float(os.environ.get("ALLOCTAPE_TEST_SCALE", "1"))


class Traced:
    """A program of ours under the preload alone, or under `record`; stopped by SIGTERM."""

    def __init__(self, folder, name, *args, options="", wrap=(), program_env=None):
        self.trace = os.path.join(folder, f"{name}.atrace")
        argv = [os.path.join(h.TEST_BUILD, name), *args]
        env = h.clean_env(**(program_env or {}))
        if wrap:
            argv = [h.ALLOCTAPE, "record", "-o", self.trace, *wrap, "--", *argv]
        else:
            env.update(LD_PRELOAD=h.PRELOAD, ALLOCTAPE_OUTPUT=self.trace, ALLOCTAPE_OPTIONS=options)
        self.process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.pid = self.process.pid
        if wrap:
            self.pid = self._child()

    def _child(self):
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        found = []

        def ready():
            with open(path, encoding="ascii") as file:
                found[:] = [int(word) for word in file.read().split()]
            return found and os.path.exists(self.trace)
        servers.wait_until(ready, "the start of the program under record")
        return found[0]

    def wait_for(self, line):
        got = self.process.stdout.readline()
        h.expect(got == line + b"\n", f"the program said {got!r}, not {line!r}")

    def end(self, number=signal.SIGTERM, status=0):
        os.kill(self.pid, number)
        return self.finish(status)

    def finish(self, status=0):
        out, err = self.process.communicate(timeout=60)
        h.expect(self.process.returncode == status,
                 f"the program ended with {self.process.returncode}, not {status}: {err.decode()}")
        return out, err.decode()


def ctl(pid, *words, status=0):
    """`alloctape ctl PID WORDS --json`: the images' answers."""
    out = h.tool("ctl", str(pid), *words, "--json", status=status)
    return json.loads(out)["images"] if status == 0 else None


def wait_for_trace(pid):
    """Until the program has come so far that it can be commanded."""
    def ready():
        return h.run([h.ALLOCTAPE, "ctl", str(pid), "status"], env=h.clean_env()).status == 0
    servers.wait_until(ready, "the start of the trace")


def state(pid):
    return ctl(pid, "status")[0]["state"]


def sound(trace, gaps=False):
    """`check` passes, and the order holds; returns `stat --json`."""
    h.tool("check", trace)
    stat = h.tool_json("stat", "--json", trace)
    h.expect(stat["order"]["unrepairable"] == 0,
             f"{stat['order']['unrepairable']} unrepairable inversions in {trace}: {stat['order']}")
    h.expect(stat["dropped_events"] == 0, f"{stat['dropped_events']} events dropped")
    if gaps:
        h.expect(stat["pauses"] > 0 and stat["resumes"] > 0,
                 f"{stat['pauses']} pauses and {stat['resumes']} resumes are in the trace")
    return stat


def sizes(trace):
    """{size: number of mallocs} of a trace."""
    found = {}
    for line in h.tool("dump", "--format", "jsonl", "--op", "malloc", trace).splitlines():
        size = json.loads(line)["size"]
        found[size] = found.get(size, 0) + 1
    return found


def ring_counts(trace):
    info = h.tool_json("info", "--json", trace)
    stat = h.tool_json("stat", "--json", trace)
    return info["events"], stat["overwritten_events"]


# ---- by ctl --------------------------------------------------------------------------------------

def test_redis(scratch):
    """Every command on a server under load."""
    folder = scratch.folder("redis")
    h.need_program("redis-benchmark", "redis-tools")
    path = os.path.join(folder, "socket")
    argv = [h.ALLOCTAPE, "record", "--paused", "-o", os.path.join(folder, "%p.atrace"), "--",
            *servers.Redis().argv(folder)]
    server = subprocess.Popen(argv, env=h.clean_env(), cwd=folder, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE)

    def cli(*args):
        outcome = h.run(["redis-cli", "-s", path, *args], env=h.clean_env())
        h.expect(outcome.status == 0, f"redis-cli {args}: {outcome.stderr.decode()}")
        return outcome.stdout.decode()

    def load(requests):
        outcome = h.run(["redis-benchmark", "-s", path, "-q", "-n", str(requests), "-c", "8", "-r",
                         "500", "-t", "set,lpush,rpop,sadd"], env=h.clean_env())
        h.expect(outcome.status == 0, f"redis-benchmark: {outcome.stderr.decode()}")

    servers.wait_until(lambda: os.path.exists(path) or server.poll() is not None, "redis's socket")
    pid = int(next(line.split(":")[1] for line in cli("info", "server").splitlines()
                   if line.startswith("process_id:")))
    try:
        h.expect(state(pid) == "paused", f"redis is {state(pid)} under --paused")
        load(500)
        trace = ctl(pid, "status")[0]["trace"]
        before = ctl(pid, "status")[0]["events_estimate"]
        h.expect(before < 1000, f"about {before} events were recorded while paused")
        for verb, wanted in (("start", "recording"), ("pause", "paused"), ("resume", "recording"),
                             ("stop", "stopped"), ("start", "recording")):
            answer = ctl(pid, verb)[0]
            h.expect(answer["state"] == wanted and answer["changed"], f"{verb}: {answer}")
            h.expect(not ctl(pid, verb)[0]["changed"], f"{verb} twice changed something")
            h.expect(state(pid) == wanted, f"after {verb} the state is {state(pid)}, not {wanted}")
            ctl(pid, "mark", "after", verb)
            load(1000)
        ctl(pid, "sync")
        status = ctl(pid, "status")[0]
        h.expect(status["events_estimate"] > 10000 and status["commands"] == 5, f"status: {status}")
        cli("shutdown", "nosave")
    except h.Failure:
        server.kill()
        raise
    err = server.communicate(timeout=30)[1]
    h.expect(server.returncode == 0, f"record ended with {server.returncode}: {err.decode()}")
    stat = sound(trace, gaps=True)
    texts = [mark["text"] for mark in stat["mark_list"]]
    h.expect(texts == ["after start", "after pause", "after resume", "after stop", "after start"],
             f"marks: {texts}")
    h.say(f"{stat['events']} events, {stat['pauses']} pauses, {stat['resumes']} resumes by thread; "
          f"seen only when released: {stat['prologue']}")


def test_toggles(scratch):
    """Off and on, again and again, under load: nothing lost, nothing corrupt."""
    rounds = int(1000 * SCALE)
    traced = Traced(scratch.folder("toggles"), "until_told", "3")
    wait_for_trace(traced.pid)
    for _ in range(rounds):
        for verb in ("pause", "resume"):
            h.run([h.ALLOCTAPE, "ctl", str(traced.pid), verb], env=h.clean_env())
    status = ctl(traced.pid, "status")[0]
    h.expect(status["commands"] == 2 * rounds, f"{status['commands']} commands of {2 * rounds}")
    traced.wait_for(b"quiet")
    traced.end()
    stat = sound(traced.trace, gaps=True)
    expect_told_sizes(stat)
    # A thread that makes no call between two commands sees neither: so at most three each.
    h.expect(rounds < stat["pauses"] <= 3 * rounds + 3, f"{stat['pauses']} pauses of {3 * rounds}")


def expect_told_sizes(stat):
    """Blocks from a pause tell their usable size when they go."""
    prologue = stat["prologue"]
    told, untold = prologue["blocks"], prologue["unknown_blocks"]
    h.expect(told > 100 and untold <= 0.01 * told,
             f"blocks seen only when released: {told} told their size, {untold} did not")
    h.say(f"{stat['events']} events, {stat['pauses']} pauses by thread; {told} blocks told their size "
          f"when they went, {untold} did not")


def test_tree(scratch):
    """A command for a process and all that it started."""
    folder = scratch.folder("tree")
    program = os.path.join(h.TEST_BUILD, "until_told")
    shell = subprocess.Popen(
        ["bash", "-c", f"{program} 1 & {program} 2 & wait"], stdout=subprocess.DEVNULL,
        env=h.clean_env(LD_PRELOAD=h.PRELOAD, ALLOCTAPE_OUTPUT=os.path.join(folder, "%e.%p.atrace")))
    wait_for_trace(shell.pid)

    def programs():
        return [i for i in ctl(shell.pid, "status", "--tree") if i["program"] == "until_told"]
    servers.wait_until(lambda: len(programs()) == 2, "the start of both programs")
    answers = ctl(shell.pid, "pause", "--tree")
    h.expect(len(answers) == 3 and all(a["state"] == "paused" for a in answers), f"{answers}")
    h.expect(all(i["state"] == "paused" for i in programs()), f"{programs()}")
    for image in programs():
        os.kill(image["pid"], signal.SIGTERM)
    shell.wait(timeout=20)


def test_errors(scratch):
    """What cannot be commanded says why, and what to do."""
    def complaint(*args, status=1):
        outcome = h.run([h.ALLOCTAPE, "ctl", *args], env=h.clean_env())
        h.expect(outcome.status == status and not outcome.stdout,
                 f"ctl {args}: status {outcome.status}, {outcome.stdout!r}")
        return outcome.stderr.decode()
    stranger = subprocess.Popen(["sleep", "60"])
    for words, status, wanted in (
            (("4194304", "status"), 1, "no process 4194304"),
            ((str(stranger.pid), "status"), 1, f"doctor {stranger.pid}"),
            ((str(stranger.pid), "mark"), 2, "mark needs a text"),
            ((str(stranger.pid), "jump"), 2, "no command 'jump'"),
            (("x", "status"), 2, "'x' is no process id"),
            ((str(stranger.pid),), 2, "needs a process id and a command"),
            (("mark", str(stranger.pid), "x" * 1025), 2, "at most 1024")):
        text = complaint(*words, status=status)
        h.expect(wanted in text, f"ctl {words} says {text!r}, without {wanted!r}")
    stranger.kill()
    stranger.wait()
    traced = Traced(scratch.folder("errors"), "until_told", "1")
    wait_for_trace(traced.pid)
    h.expect("no ring" in complaint(str(traced.pid), "dump"), "a trace without a ring was saved")
    # The trace's name is gone, and so is its folder: commands still arrive.
    os.unlink(traced.trace)
    h.expect(ctl("pause", str(traced.pid))[0]["state"] == "paused", "no pause by a trace without a name")
    traced.end()


# ---- by record -----------------------------------------------------------------------------------

def test_paused(scratch):
    """record --paused: nothing until ctl says so; record tells at its end."""
    folder = scratch.folder("paused")
    traced = Traced(folder, "until_told", "2", "1000", wrap=("--paused",))
    traced.wait_for(b"quiet")
    h.expect(state(traced.pid) == "paused", "not paused")
    traced.end()
    stat = sound(traced.trace)
    h.expect(stat["api_events"] == 0, f"{stat['api_events']} calls recorded while paused")

    traced = Traced(folder, "until_told", "2", wrap=("--paused",))
    wait_for_trace(traced.pid)
    time.sleep(0.1)
    ctl(traced.pid, "start")
    time.sleep(0.3)
    traced.end()
    stat = sound(traced.trace)
    h.expect(stat["api_events"] > 1000, f"{stat['api_events']} calls recorded after start")
    expect_told_sizes(stat)


def test_delay_duration(scratch):
    """record --delay --duration: a stretch in the middle, of all images."""
    folder = scratch.folder("delay")
    begin = time.monotonic()
    traced = Traced(folder, "until_told", "2", wrap=("--delay", "300ms", "--duration", "500ms"))
    states = []
    while time.monotonic() - begin < 1.5:
        answer = h.run([h.ALLOCTAPE, "ctl", str(traced.pid), "status", "--json"], env=h.clean_env())
        if answer.status == 0:
            now = json.loads(answer.stdout)["images"][0]["state"]
            if not states or states[-1] != now:
                states.append(now)
        time.sleep(0.02)
    traced.end()
    h.expect(states[-2:] == ["recording", "stopped"] and set(states[:-2]) <= {"paused"},
             f"states in turn: {states}")
    stat = sound(traced.trace)
    recorded = stat["duration_ns"] / 1e9
    h.expect(stat["api_events"] > 1000 and recorded < 1.2,
             f"{stat['api_events']} calls over {recorded:.2f} s")
    h.say(f"{stat['api_events']} calls over {recorded:.2f} s, of {time.monotonic() - begin:.1f} s")


# ---- flight recorder -----------------------------------------------------------------------------

PAIRS = 200_000


def pairs_made(folder):
    """Events of a run with four threads and PAIRS pairs each, recorded in full."""
    traced = Traced(folder, "until_told", "4", str(PAIRS))
    traced.wait_for(b"quiet")
    traced.end()
    info = h.tool_json("info", "--json", traced.trace)
    os.unlink(traced.trace)
    return info["events"]


def test_ring_exact(scratch):
    """What a ring keeps and what it has overwritten is what was made, to the event."""
    folder = scratch.folder("ring")
    made = pairs_made(folder)
    for ring in (1 << 20, 5_000_000, 64 << 20):
        traced = Traced(folder, "until_told", "4", str(PAIRS), options=f"ring={ring}")
        traced.wait_for(b"quiet")
        traced.end()
        sound(traced.trace)
        kept, overwritten = ring_counts(traced.trace)
        h.say(f"ring of {ring} bytes: kept {kept}, overwritten {overwritten}, made {made}")
        h.expect(kept + overwritten == made, "kept and overwritten are not what was made")
        os.unlink(traced.trace)


def test_ring_killed(scratch):
    """The ring is the file: kill -9 leaves it whole."""
    folder = scratch.folder("killed")
    for turn in range(5):
        traced = Traced(folder, "until_told", "4", "1000000000", options="ring=4194304")
        wait_for_trace(traced.pid)
        time.sleep(0.2 + 0.1 * turn)
        traced.end(signal.SIGKILL, status=-signal.SIGKILL)
        sound(traced.trace)
        kept, overwritten = ring_counts(traced.trace)
        h.expect(kept > 100_000 and overwritten > 0, f"kept {kept}, overwritten {overwritten}")
        os.unlink(traced.trace)


def test_ring_dump(scratch):
    """Copies taken while four threads overwrite the ring are sound, and exact once they rest."""
    folder = scratch.folder("dump")
    traced = Traced(folder, "until_told", "4", str(PAIRS * 20), options="ring=8388608")
    wait_for_trace(traced.pid)
    for turn in range(1, 5):
        copy = ctl(traced.pid, "dump")[0]
        h.expect(copy["dump"] == traced.trace.replace(".atrace", f".dump{turn}.atrace"), f"{copy}")
        sound(copy["dump"])
        kept, overwritten = ring_counts(copy["dump"])
        h.expect((kept, overwritten) == (copy["events"], copy["overwritten_events"]),
                 f"the copy holds {kept} and {overwritten}, ctl says {copy}")
        h.say(f"under load: {kept} events, {overwritten} overwritten, {copy['lost_blocks']} blocks "
              f"while copying")
    traced.wait_for(b"quiet")
    name = os.path.join(folder, "named.atrace")
    copy = ctl(traced.pid, "dump", "-o", name)[0]
    estimate = ctl(traced.pid, "status")[0]
    h.expect(copy["exact"] and copy["events"] == estimate["events_estimate"]
             and copy["overwritten_events"] == estimate["ring"]["overwritten_events"],
             f"at rest the copy {copy} differs from the ring {estimate}")
    traced.end()


def test_on_rss(scratch):
    """record --on-rss saves the ring once, when memory has grown so far."""
    folder = scratch.folder("rss")
    outcome = h.run([h.ALLOCTAPE, "record", "-o", os.path.join(folder, "%e.atrace"), "--ring", "2M",
                     "--on-rss", "40M", "--", os.path.join(h.TEST_BUILD, "grows"), "4", "20"],
                    env=h.clean_env())
    h.expect(outcome.status == 0, outcome.stderr.decode())
    h.expect(sorted(os.listdir(folder)) == ["grows.atrace", "grows.dump1.atrace"],
             f"files: {os.listdir(folder)}")
    h.expect(b"was saved at" in outcome.stderr, outcome.stderr.decode())
    dumped = sum(ring_counts(os.path.join(folder, "grows.dump1.atrace")))
    made = sum(ring_counts(os.path.join(folder, "grows.atrace")))
    h.expect(30_000 < dumped < made, f"saved after {dumped} of {made} events")
    sound(os.path.join(folder, "grows.dump1.atrace"))


# ---- from within ---------------------------------------------------------------------------------

def test_inside(scratch):
    """alloctape.h, in each way to compile a program; without the tracer it does nothing."""
    folder = scratch.folder("inside")
    for name in ("steers_itself", "steers_itself_fixed", "steers_itself_cxx", "steers_itself_static"):
        program = os.path.join(h.TEST_BUILD, name)
        outcome = h.run([program], env=h.clean_env())
        h.expect(outcome.status == 0, f"{name} alone: {outcome}")
        if name.endswith("static"):
            continue
        traced = Traced(folder, name)
        traced.finish()
        h.expect(sizes(traced.trace) == {202: 10, 404: 10, 606: 10},
                 f"{name}: sizes recorded: {sizes(traced.trace)}")
        stat = sound(traced.trace, gaps=True)
        h.expect([m["text"] for m in stat["mark_list"]] == ["two", "four"], f"{stat['mark_list']}")


def test_inside_toggles(scratch):
    """Off and on a thousand times from within, under load."""
    rounds = int(1000 * SCALE)
    traced = Traced(scratch.folder("toggles"), "steers_itself", str(rounds))
    traced.finish()
    stat = sound(traced.trace, gaps=True)
    h.say(f"{stat['events']} events, {stat['pauses']} pauses by thread")


def main():
    tests = {k[5:]: f for k, f in globals().items() if k.startswith("test_")}
    h.expect(len(sys.argv) == 2 and sys.argv[1] in tests, f"usage: control.py {'|'.join(tests)}")
    h.need_parts(h.ALLOCTAPE, h.PRELOAD)
    with h.Scratch() as scratch:
        tests[sys.argv[1]](scratch)


if __name__ == "__main__":
    h.main(main)
