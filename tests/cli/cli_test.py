"""The driver as a user meets it. Usage: cli_test.py --driver PATH --fixtures PATH --source DIR AREA

Each function named check_AREA_* is one test; it gets a Context and fails by an assertion.
"""
import argparse
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback

SUBCOMMANDS = ("doctor", "record", "convert", "replay", "compare", "allocators", "info", "dump", "stat", "check")


class Result:
    def __init__(self, process):
        self.code = process.returncode
        self.out = process.stdout.decode("utf-8", "replace")
        self.err = process.stderr.decode("utf-8", "replace")

    def __str__(self):
        return f"exit code {self.code}\nstdout:\n{self.out}\nstderr:\n{self.err}"


class Context:
    def __init__(self, driver, fixtures, source, directory):
        self.driver, self.source, self.directory = driver, source, directory
        subprocess.run([fixtures, directory], check=True)
        self.trace = os.path.join(directory, "sample.atrace")
        self.workload = os.path.join(directory, "sample.awl")

    def run(self, *args, code=0, env=None):
        process = subprocess.run([self.driver, *args], stdin=subprocess.DEVNULL, capture_output=True,
                                 timeout=30, env={**os.environ, **(env or {})})
        result = Result(process)
        assert result.code == code, f"alloctape {' '.join(args)}: expected exit code {code}\n{result}"
        return result

    def refused(self, *args, code=2):
        """Runs what must fail: nothing on stdout, one error with a remedy on stderr."""
        result = self.run(*args, code=code)
        assert result.out == "", result
        lines = result.err.splitlines()
        assert lines and lines[0].startswith("alloctape: error: "), result
        assert len(lines) == 2 and lines[1].startswith("  "), f"no remedy\n{result}"
        return lines[0][len("alloctape: error: "):], lines[1].strip()

    def file(self, name, content):
        path = os.path.join(self.directory, name)
        with open(path, "wb") as out:
            out.write(content)
        return path


def read(path):
    with open(path, "rb") as f:
        return f.read()


# The driver itself.

def check_driver_without_arguments_shows_help_and_fails(c):
    result = c.run(code=2)
    assert result.out == "" and result.err.startswith("Usage: alloctape"), result


def check_driver_help_lists_every_subcommand(c):
    for args in (["--help"], ["-h"], ["help"]):
        result = c.run(*args)
        assert result.err == "" and "Examples:" in result.out, result
        for name in SUBCOMMANDS:
            assert re.search(rf"^  {name} +\S", result.out, re.MULTILINE), f"{name}\n{result}"


def check_driver_version_is_one_line(c):
    result = c.run("--version")
    assert re.fullmatch(r"alloctape \d+\.\d+\.\d+\n", result.out), result


def check_driver_suggests_the_subcommand_that_was_meant(c):
    assert c.refused("recrod") == ("unknown subcommand 'recrod'", "Did you mean `alloctape record`?")
    assert c.refused("stats")[1] == "Did you mean `alloctape stat`?"
    what, remedy = c.refused("xyzzy")
    assert what == "unknown subcommand 'xyzzy'" and "--help" in remedy
    assert c.refused("help", "recrod")[1] == "Did you mean `alloctape record`?"


def check_driver_refuses_unknown_options(c):
    what, remedy = c.refused("--frobnicate")
    assert what == "unknown option '--frobnicate'" and "alloctape --help" in remedy


def check_driver_usage_errors_exit_with_2_and_point_to_help(c):
    for args, words in ((["info"], "missing argument FILE"),
                        (["info", "a", "b"], "too many arguments"),
                        (["dump", "x", "--limt", "1"], "did you mean '--limit'?"),
                        (["dump", c.trace, "--format", "xml"], "unknown format 'xml'"),
                        (["dump", c.trace, "--op", "maloc"], "did you mean 'malloc'?"),
                        (["dump", c.trace, "--from", "yesterday"], "--from wants a time"),
                        (["dump", c.trace, "--limit=-3"], "must not be negative"),
                        (["stat", "--jason", c.trace], "did you mean '--json'?")):
        what, remedy = c.refused(*args)
        assert words in what, f"{args}: {what}"
        assert remedy == f"See `alloctape {args[0]} --help`.", remedy


def check_driver_ends_quietly_when_its_reader_goes_away(c):
    for pipeline in (f"'{c.driver}' dump '{c.trace}' | head -n 1", f"'{c.driver}' --help | true",
                     f"'{c.driver}' stat --json '{c.trace}' | true"):
        # In bash, to see the driver's own exit code.
        process = subprocess.run(["bash", "-c", f"set -o pipefail; {pipeline}"], capture_output=True,
                                 timeout=30)
        assert process.returncode == 0 and process.stderr == b"", Result(process)


def check_driver_says_so_when_its_output_cannot_be_written(c):
    if not os.path.exists("/dev/full"):
        return
    for args in (["--help"], ["dump", c.trace], ["info", "--json", c.trace]):
        with open("/dev/full", "wb") as full:
            process = subprocess.run([c.driver, *args], stdout=full, stderr=subprocess.PIPE, timeout=30)
        assert process.returncode == 1, args
        assert b"cannot write to standard output: No space left" in process.stderr, process.stderr


# Help and manual pages.

def check_help_of_every_subcommand_has_examples(c):
    for name in SUBCOMMANDS:
        result = c.run(name, "--help")
        assert result.out.startswith(f"Usage: alloctape {name}"), result
        for section in ("\nOptions:\n", "\nExamples:\n", f"  alloctape {name}"):
            assert section in result.out, f"{name}: no {section!r}\n{result}"
        assert result.err == "", result
        assert c.run("help", name).out == result.out


def options_of(help_text):
    section = help_text.split("\nOptions:\n", 1)[1].split("\nExamples:\n", 1)[0]
    return set(re.findall(r"^ +(?:-\w, )?(--[a-z][a-z-]*)", section, re.MULTILINE))


def check_man_every_subcommand_has_a_page_with_every_option(c):
    directory = os.path.join(c.source, "docs", "man")
    assert os.path.exists(os.path.join(directory, "alloctape.1"))
    for name in SUBCOMMANDS:
        path = os.path.join(directory, f"alloctape-{name}.1")
        assert os.path.exists(path), path
        # Roff writes a minus that may be copied as \-.
        page = read(path).decode().replace("\\-", "-")
        for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"):
            assert re.search(rf'^\.SH "?{section}"?$', page, re.MULTILINE), f"{path}: no {section}"
        for option in options_of(c.run(name, "--help").out):
            assert re.search(rf"{option}\b(?!-)", page), f"{path} does not explain {option}"


def check_man_the_page_of_the_driver_names_every_subcommand(c):
    page = read(os.path.join(c.source, "docs", "man", "alloctape.1")).decode().replace("\\-", "-")
    for name in SUBCOMMANDS:
        assert f"alloctape-{name}(1)" in page.replace("\\fR", "").replace("\\fB", "") \
            or re.search(rf"^\.BR alloctape-{name} \(1\)", page, re.MULTILINE), name


def check_man_pages_format_without_complaint(c):
    groff = shutil.which("groff")
    if groff is None:
        return
    directory = os.path.join(c.source, "docs", "man")
    for name in sorted(os.listdir(directory)):
        process = subprocess.run([groff, "-man", "-ww", "-z", "-Tutf8", os.path.join(directory, name)],
                                 capture_output=True, timeout=30)
        assert process.returncode == 0 and process.stderr == b"", f"{name}\n{Result(process)}"


# doctor.

def check_doctor_tells_one_finding_a_line_and_a_verdict(c):
    result = c.run("doctor", "/bin/sh")
    lines = result.out.splitlines()
    assert lines[0] == "/bin/sh" and lines[-1] == "It can be traced.", result
    assert re.match(r"  ok +it is started by glibc's loader /", lines[1]), result
    assert re.match(r"  ok +/.*/libc\.so\.6: it serves malloc \(glibc\)$", lines[2]), result
    assert result.err == "", result


def check_doctor_json_has_the_same_findings(c):
    report = json.loads(c.run("doctor", "--json", "/bin/sh").out)
    assert report["schema"] == "alloctape.doctor/1" and report["kind"] == "program", report
    assert report["target"] == report["path"] == "/bin/sh" and report["traceable"] == "yes", report
    assert [f["code"] for f in report["findings"]] == ["dynamic", "allocator"], report
    for finding in report["findings"]:
        assert list(finding) == ["severity", "code", "subject", "text", "remedy"], finding


def check_doctor_exits_with_1_for_what_cannot_be_traced(c):
    result = c.run("doctor", "no-such-program-anywhere", code=1)
    assert "  cannot   there is no such program in PATH -> " in result.out, result
    assert result.out.endswith("It cannot be traced, or hardly.\n"), result
    assert json.loads(c.run("doctor", "999999999", "--json", code=1).out)["kind"] == "process"
    script = c.file("script", b"#!/no/such/interpreter\n")
    os.chmod(script, 0o755)
    assert "whose interpreter is not there" in c.run("doctor", script, code=1).out


def check_doctor_leaves_the_programs_arguments_alone(c):
    alone = c.run("doctor", "/bin/sh")
    for args in (["/bin/sh", "-c", "true"], ["/bin/sh", "--help"], ["--", "/bin/sh", "--frobnicate"]):
        assert c.run("doctor", *args).out == alone.out, args
    c.refused("doctor")
    c.refused("doctor", "--frobnicate", "/bin/sh")


def check_doctor_shows_no_control_characters(c):
    script = c.file("script", b"#!/bin/sh\nexec /bin/\x1b[31mred\n")
    os.chmod(script, 0o755)
    result = c.run("doctor", script)
    assert "\x1b" not in result.out and "/bin/\\x1b[31mred" in result.out, result


# Files that are not what they should be.

def check_files_that_are_missing(c):
    for command in ("info", "dump", "stat"):
        what, _ = c.refused(command, "/nonexistent/file", code=1)
        assert what.startswith("/nonexistent/file: cannot be opened: No such file"), what


def check_files_of_another_kind(c):
    text = c.file("text", b"hello, this is a text\n")
    empty = c.file("empty", b"")
    for command in ("info", "dump", "stat"):
        what, remedy = c.refused(command, text, code=1)
        assert "neither a trace nor a workload" in what and "alloctape record" in remedy
        assert "empty" in c.refused(command, empty, code=1)[0]
        assert "not a regular file" in c.refused(command, c.directory, code=1)[0]
        assert "not a regular file" in c.refused(command, "/dev/null", code=1)[0]


def check_files_are_told_apart_by_content_not_by_name(c):
    disguised = c.file("disguised.awl", read(c.trace))
    assert json.loads(c.run("info", "--json", disguised).out)["kind"] == "trace"


def check_files_of_a_later_version(c):
    content = bytearray(read(c.trace))
    content[8] = 99
    what, remedy = c.refused("stat", c.file("later", bytes(content)), code=1)
    assert "version 99" in what and "field version" in what and "newer alloctape" in remedy


def check_files_cut_anywhere_end_in_words(c):
    for original in (c.trace, c.workload):
        content = read(original)
        whole = c.run("dump", original, "--format", "jsonl").out.splitlines()
        cuts = sorted({*range(0, len(content), len(content) // 25), 4, 8, 100, len(content) - 1})
        for cut in cuts:
            path = c.file("cut", content[:cut])
            for command in ("info", "dump", "stat", "check"):
                process = subprocess.run([c.driver, command, path], capture_output=True, timeout=30)
                result = Result(process)
                assert process.returncode in (0, 1), f"{command}, cut at {cut}\n{result}"
                if process.returncode == 1:
                    text = result.out if command == "check" else result.err
                    assert "error: " in text, f"{command}, cut at {cut}\n{result}"
            process = subprocess.run([c.driver, "dump", path, "--format", "jsonl"], capture_output=True)
            # What is whole of a trace is delivered, in its order.
            at = 0
            for line in process.stdout.decode().splitlines():
                assert line in whole[at:], f"cut at {cut}: {line}"
                at = whole.index(line, at) + 1


# info

def check_info_of_a_trace(c):
    info = json.loads(c.run("info", "--json", c.trace).out)
    expected = {"schema": "alloctape.info/1", "kind": "trace", "state": "finished", "events": 15,
                "api_events": 12, "threads": 2, "streams": 2, "dropped_events": 0,
                "duration_ns": 8100, "executable": "/usr/bin/sample",
                "command_line": ["sample", "--with a space"], "truncated": False,
                "file_bytes": os.path.getsize(c.trace), "working_directory": None}
    for key, value in expected.items():
        assert info[key] == value, (key, info[key])
    assert info["allocator"] == {"path": "/lib/libc.so.6", "build_id": "0123abcd"}
    assert info["rss"]["peak_anon_bytes"] == 3 << 20 and info["rss"]["samples"] == 2
    assert info["clock"]["kind"] == "monotonic_ns"
    text = c.run("info", c.trace).out
    for words in ("State ", "finished", "sample '--with a space'", "15, of them 12 calls", "peak 3.00 MiB"):
        assert words in text, words


def check_info_quick_decodes_nothing(c):
    info = json.loads(c.run("info", "--json", "--quick", c.trace).out)
    assert "events" not in info and info["event_bytes"] == 28 * 8, info


def check_info_of_a_workload(c):
    info = json.loads(c.run("info", "--json", c.workload).out)
    assert info["kind"] == "workload" and info["ops"] == 7 and info["lanes"] == 2
    assert info["ops_by_kind"]["free"] == 2 and info["ops_by_kind"]["operator delete"] == 1
    assert info["sync_points"] == 1 and info["prologue_blocks"] == 1
    assert info["provenance"]["executable"] == "/usr/bin/sample"
    assert "causal" in c.run("info", c.workload).out


# dump

def check_dump_merges_threads_in_true_order(c):
    lines = c.run("dump", c.trace).out.splitlines()
    assert lines[0].split() == ["time_ns", "thread", "op", "pointer", "size", "more"]
    times = [int(line.split()[0]) for line in lines[1:]]
    assert len(times) == 15 and times == sorted(times), times
    assert all(line == line.rstrip() for line in lines)
    assert lines[4].split() == ["3100", "0", "realloc", "0x10100", "200", "from", "0x10000", "[moved]"]


def check_dump_formats_agree(c):
    rows = list(csv.DictReader(io.StringIO(c.run("dump", c.trace, "--format", "csv").out)))
    objects = [json.loads(line) for line in
               c.run("dump", c.trace, "--format", "jsonl").out.splitlines()]
    assert len(rows) == len(objects) == 15
    for row, event in zip(rows, objects):
        for key in ("time_ns", "thread", "size", "alignment", "release_time_ns", "offset"):
            assert row[key] == str(event.get(key, "")), (key, row, event)
        assert row["op"] == event["op"] and row["pointer"] == event.get("pointer", "")
        assert row["path"] == "|".join(event.get("path", [])), row
    assert objects[5] == {"time_ns": 3600, "thread": 0, "op": "malloc_usable_size",
                          "pointer": "0x10100", "value": 208, "offset": objects[5]["offset"]}


def ops_of(c, *filters):
    return [json.loads(line)["op"] for line in
            c.run("dump", c.trace, "--format", "jsonl", *filters).out.splitlines()]


def check_dump_filters(c):
    assert ops_of(c, "--thread", "1") == ["thread_start", "operator delete", "posix_memalign",
                                          "free", "thread_end"]
    assert ops_of(c, "--op", "free") == ["free", "free", "free"]
    assert ops_of(c, "--op", "free", "--thread", "1") == ["free"]
    assert ops_of(c, "--op", "free", "--op", "calloc", "--limit", "2") == ["calloc", "free"]
    assert ops_of(c, "--from", "6us", "--to", "7us") == ["posix_memalign", "malloc", "free"]
    assert ops_of(c, "--from", "1s") == []
    assert ops_of(c, "--limit", "0") == []
    assert len(ops_of(c, "--thread", "0", "--thread", "1")) == 15


def check_dump_of_a_workload(c):
    ops = [json.loads(line) for line in c.run("dump", c.workload, "--format", "jsonl").out.splitlines()]
    assert ops[0]["lane"] == "prologue" and ops[0]["slot"] == 3 and ops[0]["size"] == 40
    waits = [op for op in ops if op["op"] == "wait"]
    assert len(waits) == 1 and waits[0]["lane"] == 1 and waits[0]["other_lane"] == 0
    handed_over = [op for op in ops if op["lane"] == 0 and op["position"] == waits[0]["other_position"]]
    assert handed_over[0]["op"] == "operator new" and handed_over[0]["publish"] is True
    text = c.run("dump", c.workload, "--op", "wait").out
    assert "for lane 0 position 2" in text, text
    rows = list(csv.DictReader(io.StringIO(c.run("dump", c.workload, "--format", "csv").out)))
    assert [row["op"] for row in rows] == [op["op"] for op in ops]
    only = c.run("dump", c.workload, "--thread", "1", "--format", "jsonl").out.splitlines()
    assert all(json.loads(line)["lane"] == 1 for line in only) and len(only) == 4


# stat

def check_stat_of_a_trace(c):
    stat = json.loads(c.run("stat", "--json", c.trace).out)
    assert stat["schema"] == "alloctape.stat/1"
    assert stat["calls"] == {"malloc": 3, "calloc": 1, "realloc": 1, "free": 3, "posix_memalign": 1,
                             "malloc_usable_size": 1, "operator new": 1, "operator delete": 1}
    assert stat["null_calls"] == {"free": 1} and stat["failed_calls"] == {"malloc": 1}
    assert stat["events"] == 15 and stat["api_events"] == 12 and stat["dropped_events"] == 0
    assert stat["order"] == {"repaired": 0, "unrepairable": 0, "unseen_releases": 0, "unseen_queries": 0,
                             "lost_in_gap": 0}
    assert stat["prologue"] == {"blocks": 0, "bytes": 0, "unknown_blocks": 0, "share_of_peak": 0}
    assert stat["usable"] is None and stat["latency"] is None and stat["mark_list"] == []
    assert stat["live"] == {"peak_bytes": 5328, "peak_blocks": 3, "end_bytes": 5200, "end_blocks": 2,
                            "peak_at_ns": 5500}
    requested = stat["requested_bytes"]
    assert (requested["total"], requested["min"], requested["max"]) == (5440, 16, 5000)
    assert abs(requested["mean"] - 5440 / 6) < 1e-9
    assert sum(b["calls"] for b in stat["size_histogram"]) == stat["requests"] == 6
    assert stat["threads"] == 2 and stat["cross_thread_frees"] == 2
    assert stat["leaked"] == {"blocks": 2, "bytes": 5200}
    assert stat["lifetimes"]["freed_blocks"] == 3 and stat["lifetimes"]["temporary_blocks"] == 1
    assert sum(b["blocks"] for b in stat["lifetimes"]["by_time"]) == 3
    assert stat["recorded_rss"] == {"samples": 2, "peak_anon_bytes": 3 << 20}
    assert stat["path"]["mapped_bytes"] == 5000 and stat["duration_ns"] == 8100


def check_stat_of_a_workload(c):
    stat = json.loads(c.run("stat", "--json", c.workload).out)
    assert stat["kind"] == "workload" and stat["api_events"] == 7 and stat["dropped_events"] is None
    assert stat["live"]["peak_bytes"] == 5200 and stat["prologue"] == {"blocks": 1, "bytes": 40}
    assert stat["requested_bytes"]["total"] == 64 + 32 + 200 + 5000
    assert stat["null_calls"] == {"free": 1}


def check_stat_text_has_its_parts(c):
    text = c.run("stat", c.trace).out
    for words in ("Calls ", "all  ", "Live, peak", "Requested size", "Lifetime", "Freed by another thread"):
        assert words in text, f"{words}\n{text}"
    assert "Lifetime" not in c.run("stat", c.workload).out


# check

def check_check_of_good_files(c):
    result = c.run("check", c.trace, c.workload)
    assert [line.split(": ")[1][:2] for line in result.out.splitlines()] == ["ok", "ok"], result
    assert json.loads(c.run("check", "--json", c.trace).out)["ok"] is True


def check_check_says_where_a_trace_breaks(c):
    content = bytearray(read(c.trace))
    offset = next(json.loads(line)["offset"] for line in
                  c.run("dump", c.trace, "--format", "jsonl", "--op", "calloc").out.splitlines())
    content[offset:offset + 8] = b"\x0f" + b"\x00" * 7  # a wide record of zero words
    report = json.loads(c.run("check", "--json", c.file("broken", bytes(content)), code=1).out)
    errors = [f for f in report["files"][0]["findings"] if f["severity"] == "error"]
    assert not report["ok"] and [e["offset"] for e in errors] == [offset], report
    # The other stream is whole, and so is what came before.
    assert "posix_memalign" in c.run("dump", os.path.join(c.directory, "broken")).out


def check_check_says_which_block_was_acquired_while_it_was_live(c):
    content = bytearray(read(c.trace))
    offset = next(json.loads(line)["offset"] for line in
                  c.run("dump", c.trace, "--format", "jsonl", "--op", "calloc").out.splitlines())
    word = int.from_bytes(content[offset:offset + 8], "little")
    word = word % (1 << 38) | (0x10000 >> 3) << 38  # the address of malloc's block
    content[offset:offset + 8] = word.to_bytes(8, "little")
    report = json.loads(c.run("check", "--json", c.file("twice", bytes(content)), code=1).out)
    errors = [f for f in report["files"][0]["findings"] if f["severity"] == "error"]
    assert "1 unrepairable" in errors[0]["message"] and errors[1]["offset"] == offset, report
    assert "0x10000 with calloc" in errors[1]["message"], report
    stat = json.loads(c.run("stat", "--json", os.path.join(c.directory, "twice")).out)
    assert stat["order"]["unrepairable"] == 1 and stat["order"]["unseen_releases"] == 1, stat


def check_check_says_where_a_workload_breaks(c):
    content = bytearray(read(c.workload))
    offset = next(json.loads(line)["offset"] for line in
                  c.run("dump", c.workload, "--format", "jsonl", "--op", "operator delete").out.splitlines())
    content[offset:offset + 8] = (24 | 1 << 9).to_bytes(8, "little")  # deletes slot 1 instead
    text = c.run("check", c.file("broken", bytes(content)), code=1).out
    assert "error: " in text and "offset" in text, text


def check_check_goes_on_after_a_bad_file(c):
    result = c.run("check", "/nonexistent/file", c.trace, code=1)
    lines = result.out.splitlines()
    assert lines[0] == "/nonexistent/file: 1 finding" and lines[-1].startswith(f"{c.trace}: ok"), result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--driver", required=True)
    parser.add_argument("--fixtures", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("area")
    args = parser.parse_args()
    tests = [(name, function) for name, function in globals().items()
             if name.startswith(f"check_{args.area}_")]
    assert tests, f"no tests in area {args.area}"
    failures = 0
    for name, function in tests:
        with tempfile.TemporaryDirectory(prefix="alloctape-cli-") as directory:
            try:
                function(Context(args.driver, args.fixtures, args.source, directory))
                print(f"ok      {name}")
            except Exception:
                failures += 1
                print(f"FAILED  {name}\n{traceback.format_exc()}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
