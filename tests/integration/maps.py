"""record --mmap: the program's own mappings, and nothing of the allocator's.

The program counts its calls itself; under every allocator of the machine the trace must hold just
those. Then the way on: stat, convert, check, replay.
"""
import os
import subprocess
import sys

from harness import (ALLOCTAPE, BUILD, PRELOAD, TEST_BUILD, Scratch, clean_env, expect,
                     need_parts, need_program, run, say, skip, tool, tool_json)

MAPS_PRELOAD = os.path.join(os.path.dirname(PRELOAD), "liballoctape-preload-maps.so")
PROGRAM = os.path.join(TEST_BUILD, "maps")
PAGE = 4096


def library_of(allocator):
    """What to preload for an allocator; None for the C library's own; skips the absent."""
    if allocator == "glibc":
        return None
    for entry in tool_json("allocators", "--json")["allocators"]:
        if entry["name"] == allocator and entry["installed"]:
            return entry["library"]
    skip(f"{allocator} is not installed")


def record(folder, program, allocator="glibc", options=("--mmap",)):
    """Runs under `record`; (outcome, path of the trace)."""
    trace = os.path.join(folder, "out.atrace")
    env = clean_env()
    library = library_of(allocator)
    if library:
        env["LD_PRELOAD"] = library
    outcome = run([ALLOCTAPE, "record", "-q", *options, "-o", trace, "--", *program], env=env)
    expect(outcome.status == 0, f"record exited with {outcome.status}:\n{outcome.stderr.decode()}")
    return outcome, trace


def counts_of(output):
    """{function: (calls, failed)} as the program printed them."""
    counts = {}
    for line in output.decode().splitlines():
        name, calls, failed = line.split()
        counts[name] = (int(calls), int(failed))
    return counts


def test_calls(allocator):
    with Scratch() as scratch:
        outcome, trace = record(scratch.path, [PROGRAM], allocator)
        made = counts_of(outcome.stdout)
        stat = tool_json("stat", "--json", trace)
        maps = stat["mappings"]
        found = {name: (maps["calls"].get(name, 0), maps["failed"].get(name, 0)) for name in made}
        expect(found == made, f"recorded {found}, the program made {made}")
        expect(stat["dropped_events"] == 0, f"{stat['dropped_events']} events dropped")
        # What is never unmapped: 100 pages; each thread's and handler's are gone.
        expect(maps["anonymous"]["end_bytes"] == 100 * PAGE,
               f"{maps['anonymous']['end_bytes']} bytes stay mapped, not 100 pages")
        expect(maps["file"]["end_bytes"] == 0 and maps["file"]["peak_bytes"] == 12 * PAGE,
               f"file mappings: {maps['file']}")
        expect(maps["missed_unmaps"] == 0, f"{maps['missed_unmaps']} unmaps missed")
        expect(maps["advice"]["MADV_DONTNEED"] == {"calls": 2, "bytes": 18 * PAGE},
               f"advice: {maps['advice']}")
        lines = tool("dump", "--format", "csv", trace).decode().splitlines()
        columns = len(lines[0].split(","))
        dumped = [line for line in lines[1:] if line.split(",")[2] in made]
        expect(len(dumped) == sum(n for n, _ in made.values()), f"dump shows {len(dumped)} calls")
        for line in dumped:
            expect(len(line.split(",")) == columns, f"not {columns} columns: {line}")
        say(f"{allocator}: {sum(n for n, _ in made.values())} calls recorded as made")


def test_not_asked_for():
    with Scratch() as scratch:
        _, trace = record(scratch.path, [PROGRAM], options=())
        stat = tool_json("stat", "--json", trace)
        expect(stat["mappings"] is None, f"mappings without --mmap: {stat['mappings']}")


def test_round_trip(allocator):
    library_of(allocator)
    with Scratch() as scratch:
        _, trace = record(scratch.path, [PROGRAM])
        for order in ("causal", "bounded", "serial"):
            workload = os.path.join(scratch.path, f"{order}.awl")
            summary = tool_json("convert", trace, "-o", workload, "--order", order, "--json")
            maps = summary["maps"]
            expect(maps["left_out"]["failed_calls"] == 7 and maps["missed_unmaps"] == 0,
                   f"{order}: {maps}")
            tool("check", workload)
            ops = tool_json("stat", "--json", workload)["mappings"]["calls"]
            expect(sum(ops.values()) == maps["ops"], f"{order}: stat counts {ops}, {maps['ops']} ops")
            result = tool_json("replay", workload, "--allocator", allocator, "--json", "-")
            expect(result["status"] == "ok", f"{order}: replay {result['status']}")
            done = {name: result["ops"].get(name, 0) for name in ops}
            expect(done == ops, f"{order}: replayed {done}, the workload has {ops}")
            expect("mmap" not in result["latency"], "mappings are among the latencies")
            replayed = result["mappings"]
            expect(replayed["failed_ops"] == 0 and replayed["skipped_ops"] == 0, f"{replayed}")
            expect(replayed["end_bytes"] == maps["end_bytes"], f"{replayed}, recorded {maps}")
            if order == "serial":
                expect(replayed["peak_bytes"] == maps["peak_bytes"], f"{replayed}, recorded {maps}")
            expect(result["peak_live_bytes"] is not None and result["fidelity"]["faithful"] is not None
                   and result["fidelity"]["order_violations"] == 0, f"{result['fidelity']}")
            expect(result["end_rss_bytes"] >= maps["end_bytes"], "what stays mapped is not resident")
            skipped = tool_json("replay", workload, "--allocator", allocator, "--maps", "skip",
                                "--json", "-")
            expect(skipped["mappings"]["skipped_ops"] == maps["ops"]
                   and "mmap" not in skipped["ops"], f"--maps skip: {skipped['mappings']}")
        plain = os.path.join(scratch.path, "plain.awl")
        summary = tool_json("convert", trace, "-o", plain, "--maps", "skip", "--json")
        expect(summary["maps"]["ops"] == 0 and summary["maps"]["left_out"]["all"],
               f"--maps skip: {summary['maps']}")
        tool("check", plain)


def test_python():
    """pymalloc gets its arenas by mmap: without them, a trace explains little of python's memory."""
    python = need_program("/usr/bin/python3", "python3")
    with Scratch() as scratch:
        script = "import time; x = [(i, str(i)) for i in range(200000)]; time.sleep(0.3)"
        _, trace = record(scratch.path, [python, "-I", "-S", "-c", script])
        stat = tool_json("stat", "--json", trace)
        live, mapped = stat["live"]["peak_bytes"], stat["mappings"]["anonymous"]["peak_bytes"]
        rss = stat["recorded_rss"]["peak_anon_bytes"]
        say(f"live peak {live}, own mappings {mapped}, peak anonymous RSS {rss}")
        expect(mapped > 16 << 20, f"only {mapped} bytes of arenas")
        if rss:
            expect(0.8 * rss < live + mapped < 1.3 * rss,
                   f"{live} live and {mapped} mapped do not explain {rss} resident")
        workload = os.path.join(scratch.path, "python.awl")
        tool("convert", trace, "-o", workload)
        result = tool_json("replay", workload, "--json", "-")
        expect(result["status"] == "ok" and result["mappings"]["failed_ops"] == 0,
               f"{result['status']}, {result['mappings']}")
        if rss:
            expect(0.7 * rss < result["peak_rss_bytes"] < 1.4 * rss,
                   f"replay's peak RSS {result['peak_rss_bytes']}, recorded {rss}")


def test_library():
    """Links libc alone, and shows what the plain library shows and the functions that map memory."""
    need_program("readelf", "binutils")

    def exports(path):
        text = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True,
                              check=True).stdout
        return {line.split()[-1] for line in text.splitlines()}

    dynamic = subprocess.run(["readelf", "-d", MAPS_PRELOAD], capture_output=True, text=True,
                             check=True).stdout
    needed = [line.split("[")[1].rstrip("]") for line in dynamic.splitlines() if "(NEEDED)" in line]
    expect(needed == ["libc.so.6"], f"needs {needed}")
    more = exports(MAPS_PRELOAD) - exports(PRELOAD)
    wanted = {"mmap", "mmap64", "munmap", "mremap", "madvise", "brk", "sbrk"}
    expect(more == wanted, f"shows {sorted(more)} beside the plain library's")
    expect(not exports(PRELOAD) - exports(MAPS_PRELOAD), "the plain library shows more")


def main():
    need_parts(ALLOCTAPE, MAPS_PRELOAD, PROGRAM, BUILD)
    what, *arguments = sys.argv[1:]
    globals()[f"test_{what}"](*arguments)


main()
