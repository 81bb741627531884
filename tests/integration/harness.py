"""What the integration tests share: running programs untraced, under the counter and under the tracer,
and reading what the two wrote.

Where the parts of the build lie comes from the environment, set by CMake (see tracer.cmake):
ALLOCTAPE_BUILD, the build folder, and ALLOCTAPE_TEST_BUILD, where this folder's programs are built.
"""
import collections
import ctypes
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

SKIP = 77  # ctest's SKIP_RETURN_CODE
BUILD = os.environ.get("ALLOCTAPE_BUILD", "build")
TEST_BUILD = os.environ.get("ALLOCTAPE_TEST_BUILD", os.path.join(BUILD, "tests", "integration"))
ALLOCTAPE = os.path.join(BUILD, "alloctape")
PRELOAD = os.path.join(BUILD, "lib", "alloctape", "liballoctape-preload.so")
COUNTER = os.path.join(TEST_BUILD, "libcounter.so")
ALLOCATORS = ("glibc", "jemalloc", "tcmalloc_minimal", "mimalloc", "tbbmalloc")


class Failure(Exception):
    """An expectation that did not hold; the text says which and by how much."""


def expect(condition, text):
    if not condition:
        raise Failure(text)


def say(text):
    print(text, flush=True)


def skip(reason):
    say(f"SKIP: {reason}")
    sys.exit(SKIP)


def need_program(name, package):
    """The path of a program, or the test is skipped with the name of the package that brings it."""
    path = name if os.path.isabs(name) and os.access(name, os.X_OK) else shutil.which(name)
    if not path:
        skip(f"{name} is not installed (Debian package {package})")
    return path


def need_parts(*paths):
    for path in paths:
        if not os.path.exists(path):
            skip(f"{path} has not been built")


class Scratch:
    """A temporary folder, removed at the end unless KEEP_SCRATCH is set."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="alloctape-test-")
        return self

    def __exit__(self, *exc):
        if os.environ.get("KEEP_SCRATCH"):
            say(f"kept {self.path}")
        else:
            shutil.rmtree(self.path, ignore_errors=True)

    def folder(self, name):
        path = os.path.join(self.path, name)
        os.makedirs(path, exist_ok=True)
        return path


Outcome = collections.namedtuple("Outcome", "status stdout stderr seconds")


def run(argv, env=None, cwd=None, stdin=b"", timeout=50, executable=None, preexec=None):
    """Runs to the end; status is the exit status, or minus the signal's number."""
    begin = time.monotonic()
    process = subprocess.Popen(argv, env=env, cwd=cwd, executable=executable, preexec_fn=preexec,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, start_new_session=True)
    try:
        out, err = process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise Failure(f"{argv[0]} did not end within {timeout} s\n{err.decode(errors='replace')}")
    return Outcome(process.returncode, out, err, time.monotonic() - begin)


def clean_env(**extra):
    """An environment that is the same on every machine."""
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8",
           "HOME": os.environ.get("HOME", "/"), "TMPDIR": os.environ.get("TMPDIR", "/tmp")}
    env.update(extra)
    return env


def fix_addresses():
    """In a child before exec: no randomised address space, where that is permitted."""
    ctypes.CDLL(None).personality(0x0040000)


# The variables that a traced program sees. Programs allocate for each variable, and for its length; so
# every way to run one sets all of them, equally long and in the same order.
TRACE_VARIABLES = ("LD_PRELOAD", "ALLOCTAPE_OUTPUT", "ALLOCTAPE_SESSION", "COUNTER_OUT")


def trace_env(extra, preload="", **values):
    """The environment of one way to run a program; a preload that `extra` brings stays behind ours."""
    env = clean_env()
    env.update({name: values.get(name, "") for name in TRACE_VARIABLES})
    env.update({k: v for k, v in extra.items() if k != "LD_PRELOAD"})
    env["LD_PRELOAD"] = ":".join(p for p in (preload, extra.get("LD_PRELOAD", "")) if p)
    return env


def pad(path, length):
    """The same path, as long as that: more slashes where one will do."""
    folder, name = os.path.split(path)
    return folder + "/" * max(1, length - len(folder) - len(name)) + name


# ---- images: what the counter counted and what the tracer recorded ------------------------------

class Image:
    """One process image. calls: {function: n}, functions with no call left out."""

    def __init__(self, executable, pid, start_ns, calls, path):
        self.executable, self.pid, self.start_ns = executable, pid, start_ns
        self.calls, self.path = calls, path
        self.name = os.path.basename(executable)
        self.events = sum(calls.values())


def read_counts(folder):
    """The counter's images, in order of their start. Layout: counter/counter.h."""
    images = []
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        with open(path, "rb") as file:
            data = file.read()
        if len(data) < 512 or data[:8] != b"ACOUNT1\n":
            continue  # killed between creating and naming it: no call was counted yet
        pid, parent, sequence, entries, start, nulls, bootstrap = struct.unpack_from("<IIIIQQQ", data, 8)
        executable = data[48:512].split(b"\0")[0].decode()
        calls, failed, requested = {}, 0, 0
        for i in range(entries):
            function, n, f, size = struct.unpack_from("<40sQQQ", data, 512 + 64 * i)
            if n:
                calls[function.split(b"\0")[0].decode()] = n
            failed += f
            requested += size
        image = Image(executable, pid, start, calls, path)
        image.parent, image.failed, image.requested, image.nulls = parent, failed, requested, nulls
        images.append(image)
    return sorted((i for i in images if i.events), key=lambda i: (i.start_ns, i.pid))


def trace_identity(path):
    """What the header page and the metadata say (docs/formats/trace.md), read without the readers
    that are being tested."""
    with open(path, "rb") as file:
        header = file.read(4096)
        size = os.fstat(file.fileno()).st_size
        expect(header[:8] == b"\x89ATRACE\n", f"{path} is no trace: it starts with {header[:8]!r}")
        identity = {"bytes": size, "pid": struct.unpack_from("<I", header, 32)[0],
                    "start_ns": struct.unpack_from("<Q", header, 96)[0], "executable": ""}
        at = 4096
        while at + 64 <= min(size, 4096 + (64 << 20)):
            file.seek(at)
            magic, kind, _, payload = struct.unpack("<IHHQ", file.read(16))
            if magic != 0x4b4c4241:
                at += 64
                continue
            if kind == 3:
                file.seek(at + 64)
                data, i = file.read(min(payload, 1 << 20)), 0
                while i + 8 <= len(data):
                    key, length = struct.unpack_from("<II", data, i)
                    if key == 0:
                        break
                    if key == 1:
                        identity["executable"] = data[i + 8:i + 8 + length].rstrip(b"\0").decode()
                    i += 8 + (length + 7) // 8 * 8
                break
            at += (64 + payload + 63) // 64 * 64
    return identity


def tool(*args, timeout=50, status=0):
    """Runs `alloctape ARGS`, expects its exit status, returns its stdout."""
    outcome = run([ALLOCTAPE, *args], env=clean_env(), timeout=timeout)
    expect(outcome.status == status,
           f"alloctape {' '.join(args)} exited with {outcome.status}, not {status}:\n"
           f"{outcome.stdout.decode(errors='replace')[-2000:]}"
           f"{outcome.stderr.decode(errors='replace')[-2000:]}")
    return outcome.stdout


def tool_json(*args, timeout=50):
    return json.loads(tool(*args, timeout=timeout))


def read_traces(folder):
    """The tracer's images, in order of their start; image.stat is `alloctape stat --json`."""
    images = []
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)  # of a second image of one pid: NAME.atrace.1
        identity = trace_identity(path)
        stat = tool_json("stat", "--json", path)
        calls = {k: n for k, n in stat["calls"].items() if n}
        image = Image(identity["executable"], identity["pid"], identity["start_ns"], calls, path)
        image.stat, image.bytes = stat, identity["bytes"]
        images.append(image)
    return sorted((i for i in images if i.events), key=lambda i: (i.start_ns, i.pid))


# ---- the three ways to run a program ------------------------------------------------------------

class Runs:
    """Runs one program untraced, counted and recorded, each in a fresh folder of its own.

    command(folder) -> argv, or a function of (env, folder) -> Outcome for what is more than one
    process to start. Output that names the folder is compared with the folder's name taken out."""

    def __init__(self, scratch, command, prepare=None, stdin=b"", env=None, executable=None,
                 timeout=50, preexec=None, everyone=False):
        self.scratch, self.command, self.prepare, self.stdin = scratch, command, prepare, stdin
        self.env, self.executable, self.timeout = env or {}, executable, timeout
        self.preexec, self.everyone = preexec, everyone
        if everyone:  # any user may reach and write what the runs leave
            os.chmod(scratch.path, 0o755)

    def _go(self, env, wrap=()):
        # All turns use one path: programs allocate for the names that they are given.
        folder = os.path.join(self.scratch.path, "work")
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        if self.prepare:
            self.prepare(folder)
        command = self.command(folder) if not hasattr(self.command, "drive") else self.command
        if hasattr(command, "drive"):
            return command.drive(env, folder, list(wrap))
        executable = None if wrap else self.executable
        return run([*wrap, *command], env=env, cwd=folder, stdin=self.stdin, executable=executable,
                   timeout=self.timeout, preexec=self.preexec)

    def untraced(self):
        return self._go(clean_env(**self.env))

    def _outputs(self):
        """Folders for counts and for traces, the pattern of traces, and a session that is none."""
        counts = tempfile.mkdtemp(prefix="counts-", dir=self.scratch.path)
        traces = tempfile.mkdtemp(prefix="traces-", dir=self.scratch.path)
        if self.everyone:
            os.chmod(counts, 0o777)
            os.chmod(traces, 0o777)
        session = os.path.join(clean_env()["TMPDIR"], "alloctape-session.NONE..")
        return counts, traces, {"COUNTER_OUT": counts, "ALLOCTAPE_SESSION": session,
                                "ALLOCTAPE_OUTPUT": os.path.join(traces, "%e.%p.atrace")}

    def counted(self):
        counts, _, values = self._outputs()
        outcome = self._go(trace_env(self.env, pad(self._counter(), len(PRELOAD)), **values))
        return outcome, read_counts(counts)

    def _counter(self):
        """The counter under a short name, which pad() can make as long as the preload's."""
        link = os.path.join(self.scratch.path, "libcounter.so")
        if not os.path.exists(link):
            os.symlink(os.path.abspath(COUNTER), link)
        return link

    def recorded(self, read=True):
        """With the preload alone: what must hold without `record` to look after it."""
        _, traces, values = self._outputs()
        outcome = self._go(trace_env(self.env, pad(PRELOAD, len(self._counter())), **values))
        return outcome, (read_traces(traces) if read else traces)

    def stacked(self):
        """Counted and recorded at once: exact also for a program that never runs the same way twice.
        The counter is on top, and sees what the program calls."""
        counts, traces, values = self._outputs()
        outcome = self._go(trace_env(self.env, f"{COUNTER}:{PRELOAD}", **values))
        return outcome, read_counts(counts), read_traces(traces)

    def by_record(self):
        _, traces, values = self._outputs()
        outcome = self._go(trace_env(self.env, **values),
                           wrap=[ALLOCTAPE, "record", "-o", values["ALLOCTAPE_OUTPUT"], "--"])
        return outcome, read_traces(traces)


def expect_same_outcome(plain, other, how, stderr=True):
    expect(other.status == plain.status,
           f"{how}: exit status {other.status}, untraced {plain.status}\n"
           f"{other.stderr.decode(errors='replace')[-2000:]}")
    expect(other.stdout == plain.stdout,
           f"{how}: stdout differs from the untraced run\nuntraced: {plain.stdout[-500:]!r}\n"
           f"{how}: {other.stdout[-500:]!r}")
    if stderr:
        expect(other.stderr == plain.stderr,
               f"{how}: stderr differs from the untraced run\nuntraced: {plain.stderr[-500:]!r}\n"
               f"{how}: {other.stderr[-500:]!r}")


def differences(a, b):
    """{function: (count in a, count in b)} where the two differ."""
    return {k: (a.get(k, 0), b.get(k, 0)) for k in sorted({*a, *b}) if a.get(k, 0) != b.get(k, 0)}


def describe(image):
    return f"{image.name}[{image.pid}] {image.events} calls"


def pair_images(counted, recorded):
    """Pairs by executable, and within one executable by order of start; where siblings ran side by
    side and the order may differ, by equal counts. Fails when the two lists cannot be paired."""
    left, right = collections.defaultdict(list), collections.defaultdict(list)
    for image in counted:
        left[image.executable].append(image)
    for image in recorded:
        right[image.executable].append(image)
    expect({k: len(v) for k, v in left.items()} == {k: len(v) for k, v in right.items()},
           "the images differ:\n  " + "\n  ".join(
               [f"A: {describe(i)}" for i in counted] + [f"B: {describe(i)}" for i in recorded]))
    pairs = []
    for executable, images in left.items():
        rest = list(right[executable])
        unmatched = []
        for image, in_order in zip(images, list(rest)):
            twin = in_order if in_order in rest and in_order.calls == image.calls else next(
                (r for r in rest if r.calls == image.calls), None)
            if twin is None:
                unmatched.append(image)
            else:
                rest.remove(twin)
                pairs.append((image, twin))
        pairs += list(zip(unmatched, rest))
    return pairs


def same_counts(a, b):
    """Whether two runs made the same calls, image by image."""
    try:
        return all(x.calls == y.calls for x, y in pair_images(a, b))
    except Failure:
        return False


def expect_equal_counts(counted, recorded, what="counter and trace"):
    for a, b in pair_images(counted, recorded):
        expect(a.calls == b.calls, f"{what} differ for {describe(a)}: "
               f"{{function: (counted, recorded)}} = {differences(a.calls, b.calls)}")


def expect_sound(image, dropped=0):
    """Losses 0, unrepairable inversions 0, and `check` passes."""
    stat = image.stat
    expect(stat["dropped_events"] == dropped,
           f"{describe(image)}: {stat['dropped_events']} events dropped, not {dropped}")
    expect(stat["order"]["unrepairable"] == 0,
           f"{describe(image)}: {stat['order']['unrepairable']} unrepairable inversions")
    tool("check", image.path)


def bytes_per_event(image):
    return image.bytes / max(1, image.events)


def installed_allocators():
    """Names of ALLOCATORS that `alloctape allocators` finds here."""
    if os.environ.get("ALLOCTAPE_TEST_NO_REPLAY"):
        say("SKIP replays: ALLOCTAPE_TEST_NO_REPLAY is set")
        return []
    listed = tool_json("allocators", "--json")
    entries = listed["allocators"] if isinstance(listed, dict) else listed
    here = {e["name"] for e in entries if e["installed"]}
    for name in ALLOCATORS:
        if name not in here:
            say(f"SKIP allocator {name}: not installed here")
    return [name for name in ALLOCATORS if name in here]


def replay(workload, allocator, timeout=50, options=()):
    return tool_json("replay", workload, "--allocator", allocator, "--json", "-", *options, timeout=timeout)


def expect_replays(image, scratch, allocators, slack_bytes=4096, timeout=50, options=()):
    """trace -> workload -> replay in the default order: status ok, the same ops by kind, and the same live
    peak; with several threads within 1%, or `slack_bytes` where that is but a few blocks. Returns what
    is to be said of the peak."""
    if not allocators:
        return "-"
    peak = image.stat["live"]["peak_bytes"]
    tolerance = max(0.01 * peak, slack_bytes) if image.stat["threads"] > 1 else 0
    off = replay_under_all(image, scratch, allocators, (), timeout, options)
    text = deviation(off, peak)
    expect(off <= tolerance, f"replays of {describe(image)}: live peak {text}")
    return text


def deviation(off, peak):
    percent = 100 * off / max(1, peak)
    return "equal" if off == 0 else "off by <0.01%" if percent < 0.01 else f"off by {percent:.2f}%"


def replay_under_all(image, scratch, allocators, order, timeout, options=(), turns=1):
    """Converts with those options, replays under each allocator; returns how far the live peak was off at worst."""
    workload = os.path.join(scratch.path, f"{os.path.basename(image.path)}.awl")
    tool("convert", image.path, "-o", workload, *order, timeout=timeout)
    tool("check", workload, timeout=timeout)
    worst = 0
    for allocator in list(allocators) * turns:
        result = replay(workload, allocator, timeout, options)
        who = f"replay of {describe(image)} under {allocator}"
        expect(result["status"] == "ok", f"{who} ended with {result['status']!r}: {result}")
        ops = {k: n for k, n in result["ops"].items() if n}
        expect(ops == image.calls, f"{who}: ops differ from the trace, "
               f"{{function: (recorded, replayed)}} = {differences(image.calls, ops)}")
        worst = max(worst, abs(result["peak_live_bytes"] - image.stat["live"]["peak_bytes"]))
    os.remove(workload)
    return worst


def main(test):
    """Runs a test function; its Failure is a message and exit status 1."""
    try:
        test()
    except Failure as failure:
        say(f"FAILED: {failure}")
        sys.exit(1)
    say("passed")
