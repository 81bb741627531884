"""`alloctape doctor` on real programs and processes. Usage: doctor.py PART"""
import glob
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time

import harness
from harness import ALLOCTAPE, PRELOAD, Failure, Scratch, expect, need_program, say, skip

NOBODY = 65534


def doctor(*arguments, **options):
    """What doctor says, and that its two forms and its exit code agree."""
    done = subprocess.run([ALLOCTAPE, "doctor", *arguments, "--json"], capture_output=True, text=True,
                          timeout=60, **options)
    expect(done.stderr == "" and done.returncode in (0, 1), f"{arguments}: {done}")
    report = json.loads(done.stdout)
    expect(report["schema"] == "alloctape.doctor/1", report)
    expect((done.returncode == 1) == (report["traceable"] == "no"), f"{arguments}: {report}")
    text = subprocess.run([ALLOCTAPE, "doctor", *arguments], capture_output=True, text=True,
                          timeout=60, **options)
    expect(text.returncode == done.returncode, f"{arguments}: {text}")
    lines = text.stdout.splitlines()
    expect(len(lines) == len(report["findings"]) + 2, f"one finding a line\n{text.stdout}")
    return report


def codes(report):
    return {finding["code"]: finding for finding in report["findings"]}


def compiled(folder, name, source, *flags):
    path = os.path.join(folder, name)
    with open(path + ".c", "w") as file:
        file.write(source)
    built = subprocess.run(["gcc", "-O0", "-fno-builtin", "-o", path, path + ".c", *flags],
                           capture_output=True, text=True)
    return path if built.returncode == 0 else None


CALLS = "int main(void) { for (int i = 0; i < 1000; ++i) free(malloc(100)); return 0; }\n"
PLAIN = "#include <stdlib.h>\n" + CALLS
OWN = """#include <stddef.h>
static char pool[1 << 16];
SCOPE void *malloc(size_t n) { return n < sizeof pool ? pool : NULL; }
SCOPE void free(void *p) { (void)p; }
""" + CALLS


def recorded_calls(folder, program):
    """How many calls of malloc a recording of it holds, over all its images."""
    pattern = os.path.join(folder, os.path.basename(program) + ".%p.atrace")
    done = subprocess.run([ALLOCTAPE, "record", "-q", "-o", pattern, "--", program],
                          capture_output=True, text=True, timeout=60)
    calls = 0
    for trace in glob.glob(pattern.replace("%p", "*")):
        stat_json = subprocess.run([ALLOCTAPE, "stat", "--json", trace], capture_output=True, text=True)
        calls += json.loads(stat_json.stdout)["calls"].get("malloc", 0)
    return calls, done.stderr


def verdicts():
    """What doctor says comes true when the program is recorded."""
    need_program("gcc", "gcc")
    with Scratch() as scratch:
        cases = (("plain", PLAIN, (), "yes", True),
                 ("static", PLAIN, ("-static",), "no", False),
                 ("static_pie", PLAIN, ("-static-pie",), "no", False),
                 ("own", OWN, ("-DSCOPE=", "-rdynamic"), "no", False),
                 ("hidden", OWN, ('-DSCOPE=__attribute__((visibility("hidden")))',), "no", False))
        for name, source, flags, verdict, is_seen in cases:
            program = compiled(scratch.path, name, source, *flags)
            if program is None:
                say(f"{name}: cannot be built here")
                continue
            report = doctor(program)
            calls, messages = recorded_calls(scratch.path, program)
            say(f"{name}: {report['traceable']}, {calls} calls of malloc recorded")
            expect(report["traceable"] == verdict, f"{name}: {report}")
            expect((calls >= 1000) == is_seen, f"{name}: {calls} calls were recorded")
            if name in ("static", "static_pie", "own"):
                expect("cannot be traced" in messages, f"record says so, too: {messages}")


def programs():
    """Programs of this machine; those that are not installed are left out."""
    looked_at = 0

    def look(name, expected, verdict):
        nonlocal looked_at
        path = shutil.which(name) if "/" not in name else name if os.path.exists(name) else None
        if path is None:
            say(f"{name}: not installed")
            return
        report = doctor(path)
        looked_at += 1
        say(f"{path}: {report['traceable']}, {sorted(codes(report))}")
        for code in expected:
            expect(code in codes(report), f"{path}: no finding {code}: {report}")
        expect(report["traceable"] in verdict, f"{path}: {report}")

    look("/usr/bin/python3", ("allocator", "python"), ("yes",))
    look("/usr/bin/node", ("allocator", "v8"), ("yes",))
    look("/usr/bin/java", ("allocator", "java"), ("yes",))
    look("git", ("allocator",), ("yes",))
    look("/usr/lib/chromium/chromium", ("own_allocator",), ("no",))
    look("/lib64/ld-linux-x86-64.so.2", ("loader",), ("yes",))
    redis = shutil.which("redis-server")
    if redis:
        look(redis, ("allocator",), ("yes", "partly"))
        library = codes(doctor(redis))["allocator"]["subject"]
        needs_jemalloc = b"libjemalloc" in open(redis, "rb").read()
        expect(("jemalloc" in library) == needs_jemalloc, f"{redis} is served by {library}")
    busybox = shutil.which("busybox")
    if busybox:
        look(busybox, (), ("yes", "no"))
        is_static = b"ld-linux" not in open(busybox, "rb").read(1 << 16)
        expect(("static" in codes(doctor(busybox))) == is_static, busybox)
    if not looked_at:
        skip("none of the programs is installed")


def setuid():
    """Set-user-id programs gain something or not, depending on who asks."""
    path = next((p for p in ("/usr/bin/su", "/usr/bin/passwd", "/usr/bin/sudo")
                 if os.path.exists(p) and os.stat(p).st_mode & stat.S_ISUID), None)
    if path is None:
        skip("no set-user-id program here")
    if os.getuid() != 0:
        expect("privileged" in codes(doctor(path)), path)
        return
    expect("privileged_for_others" in codes(doctor(path)), path)
    test = subprocess.run([ALLOCTAPE, "--version"], capture_output=True, user=NOBODY, cwd="/") \
        if os.access(ALLOCTAPE, os.X_OK) else None
    if test is None or test.returncode != 0:
        skip("the build cannot be run by another user")
    report = doctor(path, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/")
    say(json.dumps(codes(report).get("privileged"), indent=1))
    expect("privileged" in codes(report) and report["traceable"] == "no", report)
    # Of a process of root's, nobody is told nothing.
    report = doctor(str(os.getpid()), user=NOBODY, group=NOBODY, extra_groups=[], cwd="/")
    expect("denied" in codes(report), report)


class Running:
    def __init__(self, *command, **options):
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        **options)

    def __enter__(self):
        return self.process

    def __exit__(self, *exc):
        self.process.kill()
        self.process.wait()


def eventually(what, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = what()
        if result:
            return result
        time.sleep(0.05)
    raise Failure(f"it did not come to that within {seconds} s")


def process():
    sleeper = need_program("sleep", "coreutils")
    with Running(sleeper, "60") as child:
        eventually(lambda: os.readlink(f"/proc/{child.pid}/exe") == os.path.realpath(sleeper))
        time.sleep(0.1)  # for the loader to have loaded libc
        report = doctor(str(child.pid))
        found = codes(report)
        expect(report["kind"] == "process" and report["traced_now"] is False, report)
        expect("record --paused -- " in found["already_running"]["remedy"], report)
        expect(found["already_running"]["remedy"].count("60") == 1, report)
        expect(found["allocator"]["subject"].endswith("/libc.so.6"), report)
    for library in ("libjemalloc.so.2", "libmimalloc.so.2", "libtcmalloc_minimal.so.4"):
        with Running(sleeper, "60", env={**os.environ, "LD_PRELOAD": library}) as child:
            time.sleep(0.3)
            with open(f"/proc/{child.pid}/maps") as maps:
                if library.split(".so")[0] not in maps.read():
                    say(f"{library}: not installed")
                    continue
            found = codes(doctor(str(child.pid)))
            expect(library.split(".so")[0] in found["allocator"]["subject"], found)
            expect(library in found["preloaded"]["text"], found)
            name = library.split(".so")[0][3:].split("_")[0]
            expect(name in found["allocator"]["text"], found)
            say(f"{library}: {found['allocator']['text']}")


def traced_process():
    sleeper = need_program("sleep", "coreutils")
    harness.need_parts(PRELOAD)
    with Scratch() as scratch:
        trace = os.path.join(scratch.path, "sleep.atrace")
        with Running(ALLOCTAPE, "record", "-q", "-o", trace, "--", sleeper, "60",
                     cwd=scratch.path) as recorder:
            def child():
                children = f"/proc/{recorder.pid}/task/{recorder.pid}/children"
                pids = open(children).read().split()
                return pids and os.path.exists(trace) and os.path.realpath(
                    f"/proc/{pids[0]}/exe") == os.path.realpath(sleeper) and pids[0]

            pid = eventually(child)
            try:
                report = eventually(lambda: (lambda r: r["traced_now"] and r)(doctor(pid)))
                found = codes(report)
                say(found["traced"]["text"])
                expect(trace in found["traced"]["text"], report)
                expect("already_running" not in found, report)
                expect(found["allocator"]["subject"].endswith("/libc.so.6"), report)
            finally:
                os.kill(int(pid), signal.SIGKILL)


if __name__ == "__main__":
    try:
        {f.__name__: f for f in (verdicts, programs, setuid, process, traced_process)}[sys.argv[1]]()
    except Failure as failure:
        say(f"FAILED: {failure}")
        sys.exit(1)
