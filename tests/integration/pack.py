#!/usr/bin/env python3
"""`alloctape pack`, and the packing that `record` does while a program runs: whatever is packed, whoever
is killed, a trace tells the same. Usage: pack.py CASE"""
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time

import harness
from harness import ALLOCTAPE, Scratch, expect, say

PROGRAM = os.path.join(harness.TEST_BUILD, "calls_then_waits")
CALLS = 1_500_000
STATE, REQUIRED, FILE_END, RELEASED, INDEX = 280, 24, 256, 352, 360


def run(*arguments, **options):
    return subprocess.run([ALLOCTAPE, *map(str, arguments)], capture_output=True, text=True, **options)


def ok(*arguments):
    result = run(*arguments)
    expect(result.returncode == 0, f"{' '.join(map(str, arguments))}: {result.stderr}")
    return result.stdout


def stat(trace):
    return json.loads(ok("stat", "--json", trace))


def story(trace):
    figures = stat(trace)
    for key in ("file", "bytes", "file_bytes"):
        figures.pop(key, None)
    return figures


def header(trace, offset):
    with open(trace, "rb") as file:
        file.seek(offset)
        return struct.unpack("<Q", file.read(8))[0]


def calls(trace):
    """Those that the program counts itself."""
    made = stat(trace)["calls"]
    return made.get("malloc", 0) + made.get("free", 0)


def expect_all(trace, made, when):
    """The C library makes a few calls of its own."""
    expect(made <= calls(trace) <= made + 32, f"{when}: {calls(trace)} calls of {made}")


def start(trace, seconds, *options, threads=2):
    """`record` with a program that makes CALLS calls, says so, and waits."""
    process = subprocess.Popen(
        [ALLOCTAPE, "record", "-q", "-o", trace, *options, "--", PROGRAM, str(threads), str(CALLS),
         str(seconds)],
        stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline().split()
    expect(line[:1] == ["done"], f"the program said {line}")
    return process, int(line[1])


def wait_for(what, condition, seconds=40):
    end = time.monotonic() + seconds
    while not condition():
        expect(time.monotonic() < end, f"waited in vain for: {what}")
        time.sleep(0.05)


def raw_trace(scratch, threads=2):
    trace = os.path.join(scratch, "raw.atrace")
    process, _ = start(trace, 0, "--level", "0", threads=threads)
    expect(process.wait() == 0, "record failed")
    return trace


def case_pack_and_unpack():
    with Scratch() as folder:
        scratch = folder.path
        raw = raw_trace(scratch)
        before, made = story(raw), calls(raw)
        expect(made >= CALLS, f"{made} calls")
        trace = os.path.join(scratch, "x.atrace")
        shutil.copy(raw, trace)
        os.chmod(trace, 0o640)
        result = json.loads(ok("pack", trace, "--json"))
        expect(result["bytes_after"] == os.path.getsize(trace), "bytes_after")
        expect(result["bytes_after"] * 2 < result["bytes_before"], f"not small: {result}")
        expect(os.stat(trace).st_mode & 0o777 == 0o640, "the mode has changed")
        expect(header(trace, INDEX) != 0, "no index")
        expect(story(trace) == before, "stat differs after pack")
        ok("check", trace)
        expect(os.listdir(scratch).count("x.atrace") == 1 and len(os.listdir(scratch)) == 2,
               f"left behind: {os.listdir(scratch)}")
        small = os.path.join(scratch, "small.atrace")
        ok("pack", trace, "--level", "12", "-o", small)
        expect(os.path.getsize(small) < os.path.getsize(trace), "level 12 is no smaller than 3")
        expect(story(small) == before, "stat differs after pack --level 12")
        ok("pack", "--unpack", small, "--keep")
        expect(os.path.exists(small + ".orig"), "--keep kept nothing")
        expect(story(small) == before, "stat differs after unpack")
        expect(ok("dump", raw, "--limit", "20000") == ok("dump", small, "--limit", "20000"),
               "dump differs")


def case_seek():
    """Blocks outside of what is asked for are not even looked at: they may be rubble."""
    with Scratch() as folder:
        scratch = folder.path
        raw = raw_trace(scratch, threads=1)
        whole = os.path.join(scratch, "whole.atrace")
        ok("pack", raw, "-o", whole)
        index = header(whole, INDEX)
        with open(whole, "rb") as file:
            data = bytearray(file.read())
        entries = []
        for at in range(index + 64, index + 64 + struct.unpack_from("<Q", data, index + 8)[0], 64):
            entries.append(struct.unpack_from("<QQQ", data, at))  # offset, first and last stamp
        entries.sort(key=lambda e: e[1])
        expect(len(entries) >= 8, f"{len(entries)} blocks")
        shift, rate, begin = struct.unpack_from("<I", data, 76)[0], *struct.unpack_from("<QQ", data, 80)
        # Two blocks that follow one another; the longest come first, but they may have been asleep.
        pairs = sorted(zip(entries, entries[1:]), key=lambda p: p[0][1] - p[1][2])
        for (one, first, _), (two, _, last) in pairs:
            seconds = [((stamp << shift) - begin) / rate for stamp in (first, last)]
            if seconds[1] - seconds[0] < 0.008:
                harness.skip("blocks too short to aim at")
            # dump leaves a margin of 2 ms.
            asked = ("--from", f"{seconds[0] + 0.003:.6f}s", "--to", f"{seconds[1] - 0.003:.6f}s")
            expected = ok("dump", whole, *asked)
            if len(expected.splitlines()) > 10:
                break
        else:
            expect(False, "nothing there")
        for other, begins, ends in entries:
            if other not in (one, two) and (ends < first or begins > last):
                payload = struct.unpack_from("<Q", data, other + 8)[0]
                data[other + 64 + 40:other + 64 + payload] = b"\xa5" * (payload - 40)
        rubble = os.path.join(scratch, "rubble.atrace")
        with open(rubble, "wb") as file:
            file.write(data)
        result = run("dump", rubble, *asked)
        expect(result.returncode == 0 and not result.stderr, f"dump: {result.stderr}")
        expect(result.stdout == expected, "the range differs")
        expect(run("check", rubble).returncode == 1, "check finds nothing wrong with rubble")


def case_live():
    with Scratch() as folder:
        scratch = folder.path
        trace = os.path.join(scratch, "live.atrace")
        process, made = start(trace, 9, "--pack", "always")
        wait_for("packed blocks", lambda: header(trace, REQUIRED) & 2)
        inode = os.stat(trace).st_ino
        end = time.monotonic() + 8
        while process.poll() is None and time.monotonic() < end:
            expect(run("info", trace).returncode == 0, "the trace cannot be read while it is packed")
            if header(trace, RELEASED):
                break
            time.sleep(0.2)
        if process.poll() is None:
            say(f"released while running: {header(trace, RELEASED)}")
            expect(os.stat(trace).st_ino == inode, "the file was replaced under a running program")
        expect(process.wait() == 0, "record failed")
        expect(os.stat(trace).st_ino != inode, "not rewritten at the end")
        expect(header(trace, INDEX) != 0 and header(trace, RELEASED) == 0, "not compact at the end")
        expect_all(trace, made, "at the end")
        ok("check", trace)


def case_record_killed():
    """Before, while and after blocks are replaced."""
    for delay in (0, 0.01, 0.05, 0.3, 6.5):
        with Scratch() as folder:
            scratch = folder.path
            trace = os.path.join(scratch, "orphan.atrace")
            process, made = start(trace, 8, "--pack", "always")
            time.sleep(delay)
            process.kill()
            process.wait()
            pid = struct.unpack("<I", open(trace, "rb").read(36)[32:36])[0]
            refused = run("pack", trace)
            expect(refused.returncode == 1 and "still writing" in refused.stderr,
                   f"packed a live trace: {refused.stderr}")
            copy = os.path.join(scratch, "copy.atrace")
            ok("pack", trace, "-o", copy)
            ok("check", copy)
            os.kill(pid, signal.SIGKILL)
            wait_for("the program's end", lambda: not os.path.exists(f"/proc/{pid}/statm") or
                     not open(f"/proc/{pid}/statm").read().startswith("1"), 5)
            time.sleep(0.2)
            say(f"killed after {delay}: released {header(trace, RELEASED)}")
            expect_all(trace, made, f"after {delay}")
            expect_all(copy, made, f"after {delay}, in the copy")
            before = story(trace)
            ok("pack", trace)
            expect(story(trace) == before, "stat differs after pack")
            ok("check", trace)


def case_program_killed():
    for options in (("--pack", "always"), ("--pack", "end"), ("--level", "0"), ()):
        with Scratch() as folder:
            scratch = folder.path
            trace = os.path.join(scratch, "killed.atrace")
            process, made = start(trace, 30, *options)
            time.sleep(0.3)
            pid = struct.unpack("<I", open(trace, "rb").read(36)[32:36])[0]
            os.kill(pid, signal.SIGKILL)
            expect(process.wait() == 128 + signal.SIGKILL, "record's exit status")
            expect_all(trace, made, options)
            expect((header(trace, INDEX) != 0) == (options != ("--level", "0")), f"{options}: index")
            ok("check", trace)


def case_bad_input():
    with Scratch() as folder:
        scratch = folder.path
        raw = raw_trace(scratch)
        with open(raw, "rb") as file:
            data = file.read()
        path = os.path.join(scratch, "bad.atrace")

        def refused(content, *options, text=""):
            with open(path, "wb") as file:
                file.write(content)
            result = run("pack", path, *options)
            expect(result.returncode == 1 and text in result.stderr, f"{result.returncode} {result.stderr}")
            with open(path, "rb") as file:
                expect(file.read() == content, "the file was changed")
            expect(sorted(os.listdir(scratch)) == ["bad.atrace", "raw.atrace"],
                   f"left behind: {os.listdir(scratch)}")

        refused(b"", text="bad.atrace")
        refused(b"no trace at all", text="not an alloctape trace")
        refused(data[:100], text="header")
        # What is there of a truncated trace can be packed, but not in its place.
        half = data[:len(data) // 2 + 100]
        refused(half, text="-o OUT")
        packed = os.path.join(scratch, "half.atrace")
        before = story(path)
        result = run("pack", path, "-o", packed)
        expect(result.returncode == 0 and "what can be read" in result.stderr, result.stderr)
        expect(calls(packed) == before["calls"].get("malloc", 0) + before["calls"].get("free", 0), "calls of the half")
        os.unlink(packed)
        # A packed block that is damaged cannot be unpacked, and nothing is lost by trying.
        ok("pack", raw)
        with open(raw, "rb") as file:
            data = bytearray(file.read())
        index = header(raw, INDEX)
        at = struct.unpack_from("<Q", data, index + 64)[0]
        data[at + 64 + 1000] ^= 0x10
        refused(bytes(data), "--unpack", text="packed block")
        expect(run("pack", raw, "--level", "99").returncode == 2, "--level 99")
        expect(run("pack").returncode == 2, "no trace given")
        expect(run("pack", os.path.join(scratch, "none")).returncode == 1, "no such file")


CASES = {name[5:]: case for name, case in list(globals().items()) if name.startswith("case_")}

if __name__ == "__main__":
    harness.need_parts(ALLOCTAPE, PROGRAM)
    try:
        CASES[sys.argv[1]]()
    except harness.Failure as failure:
        say(f"FAILED: {failure}")
        sys.exit(1)
