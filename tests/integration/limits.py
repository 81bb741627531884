#!/usr/bin/env python3
"""Where recording hits a limit, four busy threads of the program must not notice: it ends as it always
does, at most one line on stderr says what happened, what was recorded before is readable, and recorded +
dropped events are exactly all there were.

usage: limits.py LIMIT [--turns N] [--full]      LIMIT: a name of LIMITS below; --full: 20 turns"""
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import harness as h

NOBODY = 65534
THREADS = 4
MIB = 1 << 20
# What the program makes in all: 13 MB of trace; for what happens in mid-run, 40 MB.
CALLS, LONG_CALLS = 400_000, 1_250_000
# glibc tries four mappings at each call of a thread that could not get an arena.
CALLS_WITHOUT_SPACE = 10_000


class Bench:
    """The program and the tracer where anybody may read them, and how many calls a run makes."""

    def __init__(self, scratch, turns):
        self.scratch, self.turns = scratch, turns
        os.chmod(scratch.path, 0o755)
        self.public = scratch.folder("public")
        self.preload = shutil.copy(h.PRELOAD, self.public)
        self.known = {}

    def program(self, name, *arguments):
        path = os.path.join(self.public, name)
        if not os.path.exists(path):
            shutil.copy(os.path.join(h.TEST_BUILD, name), path)
        return [path, *map(str, arguments)]

    def busy(self, calls=CALLS, *more):
        return self.program("busy_threads", THREADS, calls, *more)

    def made(self, command):
        """The outcome under the counter, and the calls that it saw."""
        key = tuple(command)
        if key not in self.known:
            outcome, images = h.Runs(self.scratch, lambda folder: command).counted()
            h.expect(outcome.status == 0, f"counted: exit status {outcome.status}\n"
                     f"{outcome.stderr.decode(errors='replace')}")
            self.known[key] = (outcome, images[0].events)
        return self.known[key]

    def traces(self, parent, turn):
        path = os.path.join(parent, f"traces-{turn}")
        os.mkdir(path)
        os.chmod(path, 0o777)
        return path

    def record(self, command, traces, preexec=None, during=None, options=""):
        """One run under the preload. during(process, trace) acts in mid-run, once the trace has grown
        to 2 MB; it must then still be running."""
        env = h.trace_env({}, self.preload, ALLOCTAPE_OUTPUT=os.path.join(traces, "%e.%p.atrace"))
        env["ALLOCTAPE_OPTIONS"] = options
        return self.go(command, env, traces, preexec, during)

    def by_record(self, command, traces, options=(), preexec=None, during=None):
        wrap = [h.ALLOCTAPE, "record", "-o", os.path.join(traces, "%e.%p.atrace"), *options, "--"]
        return self.go([*wrap, *command], h.clean_env(), traces, preexec, during)

    def go(self, command, env, traces, preexec, during):
        if not during:
            return h.run(command, env=env, preexec=preexec)
        for _ in range(5):
            shutil.rmtree(traces, ignore_errors=True)
            os.mkdir(traces)
            os.chmod(traces, 0o777)
            process = subprocess.Popen(command, env=env, preexec_fn=preexec, start_new_session=True,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE)
            begin = time.monotonic()
            trace = wait_for_trace(process, traces)
            if trace:
                during(process, trace)
            was_running = trace and process.poll() is None
            try:
                out, err = process.communicate(timeout=50)
            except subprocess.TimeoutExpired as late:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                raise h.Failure("the program hangs") from late
            if was_running:
                return h.Outcome(process.returncode, out, err, time.monotonic() - begin)
            h.expect(process.returncode == 0, f"exit status {process.returncode}\n{err.decode()}")
        raise h.Failure("the program was never caught in mid-run")


def wait_for_trace(process, traces, size=2 * MIB):
    while process.poll() is None:
        for name in os.listdir(traces):
            path = os.path.join(traces, name)
            if os.path.getsize(path) >= size:
                return path
        time.sleep(0.001)
    return None


def expect_unharmed(plain, outcome, lines=(1,)):
    h.expect_same_outcome(plain, outcome, "recorded", stderr=False)
    said = outcome.stderr.decode().splitlines()
    h.expect(len(said) in lines and all("alloctape" in line for line in said),
             f"{lines} line(s) of the tracer on stderr expected:\n{outcome.stderr.decode()}")
    return said


def expect_all_accounted(trace, made, must_drop=True):
    stat = h.tool_json("stat", "--json", trace)
    recorded, dropped = sum(stat["calls"].values()), stat["dropped_events"]
    h.expect(recorded + dropped == made, f"recorded {recorded} + dropped {dropped} = "
             f"{recorded + dropped}, made {made}")
    h.expect(dropped > 0 or not must_drop, "the limit was not hit: the test tests nothing")
    h.expect(recorded > 0, "nothing was recorded before the limit was hit")
    h.expect(stat["order"]["unrepairable"] == 0, f"{stat['order']['unrepairable']} inversions")
    if dropped:
        # An incomplete trace is a finding of `check`, and it says of what kind.
        findings = h.tool("check", trace, status=1).decode()
        h.expect("counted but not recorded" in findings, f"check does not say it: {findings}")
    return recorded, dropped


def only_trace(traces):
    names = os.listdir(traces)
    h.expect(len(names) == 1, f"one trace expected: {names}")
    return os.path.join(traces, names[0])


class Tally:
    """What the turns of one kind came to, said in one line."""

    def __init__(self, what):
        self.what, self.turns, self.recorded, self.dropped, self.lines = what, 0, [], [], set()

    def add(self, counts, lines=()):
        self.turns += 1
        self.recorded.append(counts[0])
        self.dropped.append(counts[1])
        for line in lines:
            self.lines.add(line[line.find("): ") + 3:])

    def say(self):
        h.say(f"{self.what}: {self.turns} turns, recorded {min(self.recorded)} to "
              f"{max(self.recorded)}, dropped {min(self.dropped)} to {max(self.dropped)}, sums exact")
        for line in sorted(self.lines):
            h.say(f"  it said: {line}")


# ---- disks ---------------------------------------------------------------------------------------

def mount(*arguments, why):
    outcome = subprocess.run(["mount", *arguments], stderr=subprocess.PIPE, check=False)
    if outcome.returncode:
        h.skip(f"{why}: {outcome.stderr.decode().splitlines()[0]}")


def small_tmpfs(scratch):
    disk = scratch.folder("disk")
    mount("-t", "tmpfs", "-o", "size=2m", "none", disk, why="a small tmpfs cannot be mounted here")
    return disk


def small_ext4(scratch, *features, options="loop", mib=8, why="are there no loop devices?"):
    mkfs = h.need_program("mkfs.ext4", "e2fsprogs")
    image, disk = os.path.join(scratch.path, "image"), scratch.folder("disk")
    with open(image, "wb") as file:
        file.truncate(mib << 20)
    subprocess.run([mkfs, "-q", "-m", "0", *features, image], check=True)
    mount("-o", options, image, disk, why=f"a small ext4 cannot be mounted here ({why})")
    return disk


def fill_disk(bench, disk, what, preexec=None):
    os.chmod(disk, 0o777)
    command = bench.busy()
    plain, made = bench.made(command)
    tally = Tally(what)
    for turn in range(bench.turns):
        # A little less room each time, so that it ends in ever other places.
        with open(os.path.join(disk, "ballast"), "wb") as file:
            file.write(bytes(turn * 23_456))
        if preexec:
            os.chown(os.path.join(disk, "ballast"), NOBODY, NOBODY)
        traces = bench.traces(disk, turn)
        said = expect_unharmed(plain, bench.record(command, traces, preexec))
        tally.add(expect_all_accounted(only_trace(traces), made), said)
        shutil.rmtree(traces)
    tally.say()


def full_disk(bench):
    """A tmpfs of 2 MiB."""
    disk = small_tmpfs(bench.scratch)
    try:
        fill_disk(bench, disk, "full tmpfs")
        # Too full for the very header: no trace, one line, no harm.
        with open(os.path.join(disk, "ballast"), "wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
        plain, _ = bench.made(bench.busy())
        for line in expect_unharmed(plain, bench.record(bench.busy(), disk)):
            h.say(f"no room at all: {line[line.find('): ') + 3:]}")
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def full_ext4(bench):
    """An ext4 of 8 MiB on a loop device: blocks are allocated late there, and mapped pages need some."""
    disk = small_ext4(bench.scratch)
    try:
        fill_disk(bench, disk, "full ext4")
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


class DiskQuota(ctypes.Structure):
    """struct if_dqblk of linux/quota.h; limits in blocks of 1 KiB."""
    _fields_ = [(n, ctypes.c_uint64) for n in ("hard", "soft", "space", "inode_hard", "inode_soft",
                                               "inodes", "block_time", "inode_time")]
    _fields_.append(("valid", ctypes.c_uint32))


def quota(bench):
    """A user's quota of 2 MiB."""
    become_nobody = drop_to_nobody()
    disk = small_ext4(bench.scratch, "-O", "quota", "-E", "quotatype=usrquota",
                      options="loop,usrquota", mib=32, why="a kernel without quota?")
    try:
        with open("/proc/mounts", encoding="utf-8") as file:
            device = next(line.split()[0] for line in file if line.split()[1] == disk)
        limits = DiskQuota(hard=2048, soft=2048, valid=1)
        set_quota = 0x800008 << 8  # QCMD(Q_SETQUOTA, USRQUOTA)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.quotactl(set_quota, device.encode(), NOBODY, ctypes.byref(limits)):
            h.skip(f"no quota to be had here: {os.strerror(ctypes.get_errno())}")
        fill_disk(bench, disk, "quota", become_nobody)
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


# ---- limits of the process -----------------------------------------------------------------------

def file_size(bench):
    """RLIMIT_FSIZE from the start, and lowered in mid-run, also to less than there is already."""
    command = bench.busy()
    plain, made = bench.made(command)
    tally = Tally("RLIMIT_FSIZE from the start")
    for turn in range(bench.turns):
        limit = (300_000, MIB, 5_000_001)[turn % 3] + turn * 10_007
        traces = bench.traces(bench.scratch.path, turn)
        said = expect_unharmed(plain, bench.record(command, traces, limit_files(limit)))
        trace = only_trace(traces)
        tally.add(expect_all_accounted(trace, made), said)
        size = os.path.getsize(trace)
        h.expect(size <= limit, f"the trace has {size} bytes, the limit was {limit}")
        shutil.rmtree(traces)
    tally.say()
    command = bench.busy(LONG_CALLS)
    plain, made = bench.made(command)
    tally = Tally("RLIMIT_FSIZE lowered in mid-run")
    for turn in range(bench.turns):
        def lower(process, trace, bytes_more=(100_000, 1, -MIB, 3)[turn % 4]):
            limit = os.path.getsize(trace) + bytes_more
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        traces = bench.traces(bench.scratch.path, turn)
        said = expect_unharmed(plain, bench.record(command, traces, during=lower))
        tally.add(expect_all_accounted(only_trace(traces), made), said)
        shutil.rmtree(traces)
    tally.say()


def max_size(bench):
    """--max-size, which the user sets for the trace alone."""
    command = bench.busy()
    plain, made = bench.made(command)
    tally = Tally("--max-size")
    for turn in range(bench.turns):
        limit = (300_000, MIB, 5_000_001)[turn % 3] + turn * 10_007
        traces = bench.traces(bench.scratch.path, turn)
        said = expect_unharmed(plain, bench.record(command, traces, options=f"max_size={limit}"))
        trace = only_trace(traces)
        tally.add(expect_all_accounted(trace, made), said)
        size = os.path.getsize(trace)
        h.expect(size <= limit, f"the trace has {size} bytes, --max-size was {limit}")
        shutil.rmtree(traces)
    tally.say()


def limit_files(size):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


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


def address_space(bench):
    """A program that takes all address space from itself in mid-run, and lives on the heap it has."""
    for how, must_drop in (("born", True), ("grow", False)):
        command = bench.program("out_of_space", how, THREADS, 60_000)
        plain, made = bench.made(command)
        tally = Tally(f"RLIMIT_AS reached in mid-run, threads {how}")
        for turn in range(bench.turns):
            traces = bench.traces(bench.scratch.path, turn)
            outcome = bench.record(command, traces)
            said = expect_unharmed(plain, outcome, (1,) if must_drop else (0, 1))
            tally.add(expect_all_accounted(only_trace(traces), made, must_drop), said)
            shutil.rmtree(traces)
        tally.say()


def little_space(bench):
    """As much address space as the program needs with some preload in place (the counter), and a
    little more, from what is too little for the tracer to start to what is enough."""
    command = bench.busy(CALLS_WITHOUT_SPACE)
    plain, made = bench.made(command)
    need = needed_space(command, h.trace_env({}, h.COUNTER, COUNTER_OUT=bench.scratch.path))
    h.say(f"the program needs {need} KiB of address space")
    for turn, extra in enumerate((200, 300, 400, 600, 1000, 4000)):
        traces = bench.traces(bench.scratch.path, turn)
        outcome = bench.record(command, traces, limit_space(need + extra))
        said = expect_unharmed(plain, outcome, (0, 1))
        names = os.listdir(traces)
        if not names or not os.path.getsize(os.path.join(traces, names[0])):
            h.expect(said, "no trace, and no word about it")
            h.say(f"{extra} KiB to spare: {said[0][said[0].find('): ') + 3:]}")
            continue
        stat = h.tool_json("stat", "--json", os.path.join(traces, names[0]))
        recorded, dropped = sum(stat["calls"].values()), stat["dropped_events"]
        h.say(f"{extra} KiB to spare: recorded {recorded} + dropped {dropped}")
        h.expect(recorded + dropped == made, f"recorded + dropped = {recorded + dropped}, made {made}")


# ---- directories ---------------------------------------------------------------------------------

def drop_to_nobody():
    """For a child before exec: an ordinary user, whom permissions stop."""
    if os.geteuid() != 0:
        return lambda: None

    def drop():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    return drop


def in_mid_run(bench, what, act, *more, must_drop, lines, preexec=None):
    """act(folder of the traces) in mid-run. A second name of the trace keeps it for the accounts."""
    command = bench.busy(LONG_CALLS, *more)
    plain, made = bench.made(command)
    tally, kept = Tally(what), os.path.join(bench.scratch.path, "kept")
    for turn in range(bench.turns):
        traces = bench.traces(bench.scratch.path, turn)

        def now(_, trace, traces=traces):
            if os.path.exists(kept):
                os.remove(kept)
            os.link(trace, kept)
            act(traces)
        outcome = bench.record(command, traces, preexec, during=now)
        said = expect_unharmed(plain, outcome, lines)
        tally.add(expect_all_accounted(kept, made, must_drop), said)
        if os.path.exists(traces):
            os.chmod(traces, 0o755)
            shutil.rmtree(traces)
    tally.say()


def removed_directory(bench):
    """rm -rf of the traces' folder: an open file lives on, all is recorded. If the program also
    closes the tracer's descriptor, the file cannot be found again."""
    def remove(traces):
        subprocess.run(["rm", "-rf", traces], check=True)
    in_mid_run(bench, "rm -rf in mid-run", remove, must_drop=False, lines=(0,))
    in_mid_run(bench, "rm -rf in mid-run, descriptors closed all the while", remove, "close",
               must_drop=True, lines=(1,))


def forbidden_directory(bench):
    """chmod of the traces' folder, read-only and then beyond reach, for a user whom that stops."""
    become_nobody = drop_to_nobody()
    in_mid_run(bench, "chmod 555 in mid-run", lambda traces: os.chmod(traces, 0o555),
               must_drop=False, lines=(0,), preexec=become_nobody)
    in_mid_run(bench, "chmod 555 in mid-run, descriptors closed all the while",
               lambda traces: os.chmod(traces, 0o555), "close", must_drop=False, lines=(0,),
               preexec=become_nobody)
    in_mid_run(bench, "chmod 000 in mid-run, descriptors closed all the while",
               lambda traces: os.chmod(traces, 0), "close", must_drop=True, lines=(1,),
               preexec=become_nobody)


def no_directory(bench):
    """No folder, a file in its stead, or one that may not be written to."""
    command = bench.busy()
    plain, _ = bench.made(command)
    path = bench.scratch.path
    with open(os.path.join(path, "file"), "w", encoding="ascii"):
        pass
    locked = os.path.join(path, "locked")
    os.mkdir(locked)
    os.chmod(locked, 0o555)
    for folder, preexec in ((os.path.join(path, "no", "such"), None),
                            (os.path.join(path, "file"), None), (locked, drop_to_nobody())):
        for line in expect_unharmed(plain, bench.record(command, folder, preexec)):
            h.say(f"it said: {line[line.find('): ') + 3:]}")


def under_record(bench):
    """The same limits with `record` looking on: it has to write, too, and must neither fail nor hang."""
    command = bench.busy(LONG_CALLS)
    plain, made = bench.made(command)
    disk = bench.scratch.folder("disk")
    small = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk],
                           stderr=subprocess.DEVNULL, check=False).returncode == 0
    try:
        for turn in range(bench.turns):
            for what in ("nothing", "--max-size", "full disk", "file size", "removed folder"):
                if what == "full disk" and not small:
                    h.say("SKIP full disk: a small tmpfs cannot be mounted here (needs root)")
                    continue
                traces = bench.traces(disk if what == "full disk" else bench.scratch.path, turn)
                options = ["--max-size", "2MiB"] if what == "--max-size" else []
                outcome = bench.by_record(command, traces, options,
                                          limit_files(34 * MIB) if what == "file size" else None,
                                          remove if what == "removed folder" else None)
                h.expect_same_outcome(plain, outcome, f"under record, {what}", stderr=False)
                said = outcome.stderr.decode(errors="replace")
                if os.path.exists(traces):
                    counts = expect_all_accounted(only_trace(traces), made, what != "nothing")
                    h.expect(not counts[1] or "incomplete" in said, f"record does not tell:\n{said}")
                    h.say(f"under record, {what}: recorded {counts[0]}, dropped {counts[1]}")
                    shutil.rmtree(traces)
                else:
                    h.expect("warning" in said.lower(), f"record does not tell that it is gone:\n{said}")
                    h.say(f"under record, {what}: no harm")
    finally:
        if small:
            subprocess.run(["umount", "-l", disk], check=False)


def remove(_, trace):
    shutil.rmtree(os.path.dirname(trace), ignore_errors=True)


# ---- what the tracer has to say ------------------------------------------------------------------

def stderr_in_the_way(bench):
    """The one line must not harm either: where standard error is a pipe that nobody reads (SIGPIPE), a
    pipe that is full (it would wait for ever), a file at its size limit (SIGXFSZ), or not stderr at all."""
    command = bench.busy()
    plain, made = bench.made(command)
    limit = limit_files(MIB)
    env = h.trace_env({}, bench.preload)
    for how in ("reader gone", "full pipe", "full file", "closed"):
        traces = bench.traces(bench.scratch.path, how.replace(" ", "-"))
        env["ALLOCTAPE_OUTPUT"] = os.path.join(traces, "%e.%p.atrace")
        ours, theirs = os.pipe()
        before = limit
        if how == "reader gone":
            os.close(ours)
        elif how == "full pipe":
            os.set_blocking(theirs, False)
            for size in (65536, 4096, 1):
                try:
                    while os.write(theirs, bytes(size)):
                        pass
                except BlockingIOError:
                    pass
            os.set_blocking(theirs, True)
        elif how == "full file":
            os.close(theirs)
            os.close(ours)
            theirs = os.open(os.path.join(bench.scratch.path, "err"), os.O_RDWR | os.O_CREAT | os.O_APPEND)
            os.write(theirs, bytes(MIB))
        else:
            def before():
                limit()
                os.close(2)
        process = subprocess.Popen(command, env=env, preexec_fn=before, stdout=subprocess.PIPE,
                                   stderr=theirs, restore_signals=True)
        try:
            out = process.communicate(timeout=50)[0]
        except subprocess.TimeoutExpired as late:
            process.kill()
            raise h.Failure(f"stderr: {how}: the program hangs") from late
        h.expect((process.returncode, out) == (plain.status, plain.stdout),
                 f"stderr: {how}: exit status {process.returncode}, stdout {out!r}")
        recorded, dropped = expect_all_accounted(only_trace(traces), made)
        h.say(f"stderr: {how}: recorded {recorded}, dropped {dropped}, no harm")


LIMITS = {f.__name__: f for f in (
    full_disk, full_ext4, quota, file_size, max_size, under_record, address_space, little_space, removed_directory,
    forbidden_directory, no_directory, stderr_in_the_way)}


def mounts_of_its_own():
    """Runs this script again where its mounts are seen by nobody else, and end with it."""
    if os.geteuid() != 0 or os.environ.get("OWN_MOUNTS"):
        return
    if subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        return
    os.environ["OWN_MOUNTS"] = "1"
    os.execvp("unshare", ["unshare", "-m", sys.executable, *sys.argv])


def main(arguments):
    turns = 20 if "--full" in arguments else 3
    if "--turns" in arguments:
        turns = int(arguments[arguments.index("--turns") + 1])
    h.need_parts(h.PRELOAD, h.ALLOCTAPE, h.COUNTER)
    with h.Scratch() as scratch:
        LIMITS[arguments[0]](Bench(scratch, turns))


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in LIMITS:
        sys.exit(__doc__ + "\n" + " ".join(LIMITS))
    if sys.argv[1] in ("full_disk", "full_ext4", "quota", "under_record"):
        mounts_of_its_own()
    h.main(lambda: main(sys.argv[1:]))
