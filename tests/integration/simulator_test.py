"""Replays of small generated workloads, under real allocators and under bad ones.

Usage: simulator_test.py TEST ALLOCTAPE MAKE_WORKLOAD ALLOCATOR_DIR [--no-preload]
With --no-preload (a replayer built with a sanitizer) only the C library's allocator is used.
"""
import json
import os
import subprocess
import sys
import tempfile

TEST, ALLOCTAPE, MAKE_WORKLOAD, ALLOCATORS = sys.argv[1:5]
PRELOAD = "--no-preload" not in sys.argv


# The C library takes these from its heap then, and must zero what it has used before.
CALLOC_ON_HEAP = "GLIBC_TUNABLES=glibc.malloc.mmap_threshold=33554432"

if not PRELOAD:
    os.environ["TSAN_OPTIONS"] = "allocator_may_return_null=1"  # as an allocator should


def run(*arguments, expect=0, env=None):
    done = subprocess.run([ALLOCTAPE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=120, env={**os.environ, **(env or {})})
    if expect is not None and done.returncode != expect:
        sys.exit(f"{' '.join(arguments)}: exit {done.returncode}, expected {expect}\n"
                 f"{done.stdout}\n{done.stderr}")
    return done


def workload(kind, *arguments):
    path = os.path.join(SCRATCH, kind + "-" + "-".join(map(str, arguments)) + ".awl")
    subprocess.run([MAKE_WORKLOAD, kind, path, *map(str, arguments)], check=True)
    return path


def replay(path, allocator="glibc", expect=0, extra=(), env=None):
    done = run("replay", path, "--allocator", allocator, "--json", "-", *extra, expect=expect, env=env)
    if not done.stdout:
        sys.exit(f"no JSON: {done.stderr}")
    result = json.loads(done.stdout)
    assert result["schema"] == "alloctape.replay/1", result["schema"]
    return result


def bad(name):
    return os.path.join(ALLOCATORS, f"liballoc_{name}.so")


def installed():
    listed = json.loads(run("allocators", "--json").stdout)
    assert listed["schema"] == "alloctape.allocators/1"
    names = [a["name"] for a in listed["allocators"] if a["installed"]]
    assert names[0] == "glibc"
    return names if PRELOAD else ["glibc"]


def check_good(result, calls=None):
    assert result["status"] == "ok", result["failure"]
    fidelity = result["fidelity"]
    for key in ("order_violations", "failed_ops", "skipped_ops", "unexpected_successes"):
        assert fidelity[key] == 0, (key, fidelity[key])
    assert sum(result["ops"].values()) == result["total_ops"]
    if calls is not None:
        assert result["total_ops"] == calls, result["total_ops"]
    if result["timing"] == "all":
        for op, latency in result["latency"].items():
            assert latency["count"] == result["ops"][op], op
            assert latency["p50_ns"] <= latency["p99_ns"] <= latency["max_ns"], latency
            assert latency["count"] == sum(c["count"] for c in result["latency_by_size"][op]), op


def test_every_allocator():
    """Each installed allocator replays one lane exactly and serves every function."""
    churn, functions, prologue = workload("churn", 20000), workload("functions"), workload("prologue")
    idle = workload("idle")
    for name in installed():
        result = replay(churn, name)
        check_good(result, 20000)
        assert result["fidelity"]["faithful"] and result["fidelity"]["live_peak_ratio"] == 1
        assert result["peak_rss_bytes"] >= result["baseline_rss_bytes"] > 0
        assert result["peak_rss_bytes"] >= result["peak_live_bytes"]
        ops = result["memory_by_progress"]["ops"]
        assert ops == sorted(ops) and ops[-1] == 20000 and len(ops) > 100, len(ops)
        result = replay(functions, name)
        check_good(result)
        assert len(result["ops"]) == 33, sorted(result["ops"])
        assert result["end_live_bytes"] == 0
        result = replay(prologue, name)
        check_good(result, 90)
        assert result["fidelity"]["live_peak_ratio"] == 1
        check_good(replay(idle, name), 0)


def test_lanes():
    """Several lanes: each op after those it waits for, threads started and ended as recorded."""
    for name in installed():
        for path, calls, threads in ((workload("handover", 500, 3), 64000, 3),
                                     (workload("threads", 40, 4), 2370, 121)):
            result = replay(path, name)
            check_good(result, calls)
            assert result["threads"] == threads, result["threads"]
            assert result["sync"]["waits"] > 0


def test_many_lanes():
    """More threads than cores neither stall nor lose a wake-up."""
    path = workload("handover", 3200, 64)
    for timing in ("all", "none"):
        check_good(replay(path, extra=("--timing", timing, "--touch", "none")), 3200 * 128)


def test_touch_and_timing():
    """What is touched shows in the memory; what is not timed has no latencies."""
    path = workload("churn", 5000)
    for touch in ("none", "page", "full", "50%"):
        result = replay(path, extra=("--touch", touch, "--timing", "none"))
        check_good(result, 5000)
        assert result["touch"] == touch and result["latency"] == {}
        assert result["timer_overhead_ns"] is None
    big = workload("callocs", 20, 32 << 20)  # each live alone; from mmap under the C library
    shown = {}
    for what, extra in (("none", ()), ("calloc", ("--touch-calloc",)),
                        ("half", ("--touch-calloc", "--touch", "50%")),
                        ("reads", ("--touch-reads",))):
        result = replay(big, extra=extra)
        check_good(result, 40)
        shown[what] = result["peak_rss_bytes"] - result["baseline_rss_bytes"]
        assert result["touch_calloc"] == ("--touch-calloc" in extra)
    if PRELOAD:
        assert shown["none"] < 2 << 20 and shown["reads"] < 2 << 20, shown
        assert 31 << 20 <= shown["calloc"] < 36 << 20 and 15 << 20 <= shown["half"] < 18 << 20, shown


def test_latencies():
    """Latencies by size add up to those by function; the slowest calls say what fell into them."""
    path = workload("churn", 50000)
    result = replay(path, extra=("--timing", "all"))
    check_good(result, 50000)
    assert result["latency_error"] <= 0.03 and result["timing_every"] == 1
    for op, classes in result["latency_by_size"].items():
        edges = [c["from_bytes"] for c in classes]
        assert edges == sorted(edges) and len(edges) > 3, edges
        for c in classes:
            assert sum(c["histogram"]["calls"]) == c["count"]
            assert c["histogram"]["ns"] == sorted(c["histogram"]["ns"])
        assert max(c["max_ns"] for c in classes) == result["latency"][op]["max_ns"]
    slowest = result["slowest_calls"]
    assert len(slowest) == 32 and [c["ns"] for c in slowest] == sorted((c["ns"] for c in slowest),
                                                                      reverse=True)
    assert slowest[0]["ns"] == max(l["max_ns"] for l in result["latency"].values())
    assert all(c["lane"] == 0 and c["thread"] == 0 and c["op_index"] < 50000 for c in slowest)
    assert result["faulted_calls"] <= result["call_faults"]
    # Blocks of 1 MiB, zeroed by the C library on fresh pages: the faults are in calloc, 256 and more.
    result = replay(workload("callocs", 20, 1 << 20), extra=("--env", CALLOC_ON_HEAP))
    check_good(result, 40)
    if PRELOAD:
        first = min((c for c in result["slowest_calls"] if c["op"] == "calloc"),
                    key=lambda c: c["op_index"])
        assert first["page_faults"] >= 1 and first["size_bytes"] == 1 << 20, first
    result = replay(path, extra=("--timing", "sample=16"))
    assert (result["timing"], result["timing_every"]) == ("sample", 16)
    timed = sum(l["count"] for l in result["latency"].values())
    assert 50000 / 16 * 0.8 < timed < 50000 / 16 * 1.2, timed
    assert result["faulted_calls"] is None
    assert "block of" in run("replay", path, "--by-size").stdout
    assert "one call in 64" in run("replay", path, "--timing", "sample").stdout


def test_bad_allocators():
    """Crash, abort, hang and early exit are results that name the op."""
    path = workload("trigger", 3000)
    for name, signal, call in (("crash", "SIGSEGV", "malloc"), ("abort", "SIGABRT", "malloc")):
        result = replay(path, bad(name), expect=1)
        assert result["status"] == "crashed", result
        failure = result["failure"]
        assert (failure["signal_name"], failure["op"], failure["op_index"], failure["lane"],
                failure["thread"]) == (signal, call, 3000, 0, 0), failure
    assert replay(path, bad("crash"), expect=1)["failure"]["address"] == 8
    result = replay(path, bad("hang"), expect=1, extra=("--timeout", "1s"))
    assert result["status"] == "hung"
    assert (result["failure"]["op"], result["failure"]["op_index"]) == ("free", 3001)
    result = replay(path, bad("exit"), expect=1)
    assert (result["status"], result["failure"]["exit_code"]) == ("crashed", 0)
    assert result["failure"]["op_index"] == 3000
    result = replay(path, bad("null"))
    assert result["status"] == "ok" and not result["fidelity"]["faithful"]
    assert (result["fidelity"]["failed_ops"], result["fidelity"]["skipped_ops"]) == (1, 1)
    result = replay(path, bad("count") + " ALLOCTAPE_TEST_CRASH_AT=1000", expect=1)
    assert result["status"] == "crashed" and result["failure"]["op"] == "malloc"
    # In a thread of another lane, too.
    result = replay(workload("threads", 40, 4), bad("count"), expect=1,
                    env={"ALLOCTAPE_TEST_CRASH_AT": "500"})
    assert result["status"] == "crashed" and result["failure"]["lane"] > 0, result["failure"]


def test_verify():
    """Real allocators keep every promise of the C standard."""
    paths = [workload("churn", 20000), workload("functions"), workload("prologue"),
             workload("handover", 500, 3), workload("threads", 40, 4)]
    for name in installed():
        for path in paths:
            result = replay(path, name, extra=("--verify",), expect=None)
            found = result["verification"]
            if name == "mimalloc" and path == paths[1]:
                # mimalloc 2.0.9 aligns aligned_alloc(256, 256) to 128 at times.
                assert {f["kind"] for f in found["first"]} <= {"alignment"}, found
                continue
            assert result["status"] == "ok", (name, path, result["failure"])
            assert found["faults"] == 0 and found["first"] == [] and found["blocks"] > 50, found
    assert replay(paths[0])["verification"] is None
    assert "no fault" in run("replay", paths[0], "--verify").stdout


def test_caught():
    """Each broken promise is named by its op; crash and hang have a backtrace."""
    trigger, functions = workload("trigger", 3000), workload("functions")

    def verdict(name, path):
        result = replay(path, bad(name), expect=1, extra=("--verify",))
        assert result["status"] == "corrupted", result
        found = result["verification"]
        assert 0 < len(found["first"]) <= found["faults"]
        assert found["first"][0]["message"].split(" (and")[0] in result["failure"]["message"]
        return found["first"][0]

    def where(fault):
        return fault["op"], fault["op_index"], fault["lane"], fault["thread"]

    fault = verdict("overlap", trigger)
    assert fault["kind"] == "overlap" and where(fault) == ("malloc", 3000, 0, 0), fault
    assert (fault["slot"], fault["size_bytes"]) == (1001, 7777), fault
    fault = verdict("corrupt", trigger)  # seen where the block before it ends
    assert fault["kind"] == "contents" and fault["op_index"] is None or fault["op_index"] > 3000, fault
    fault = verdict("dirty", functions)
    assert (fault["kind"], fault["op"]) == ("not_zero", "calloc"), fault
    fault = verdict("misalign", functions)
    assert fault["kind"] == "alignment" and fault["address"] % 64 != 0, fault
    fault = verdict("small", functions)
    assert fault["kind"] == "usable_size" and fault["size_bytes"] > 1000, fault
    fault = verdict("forget", functions)
    assert fault["kind"] == "moved_contents" and fault["op"].startswith("realloc"), fault
    # A crash at the millionth malloc; some calls were made before the run.
    path = workload("churn", 2100000)
    result = replay(path, bad("count") + " ALLOCTAPE_TEST_CRASH_AT=1000000", expect=1,
                    extra=("--timing", "none"))
    failure = result["failure"]
    assert (result["status"], failure["op"]) == ("crashed", "malloc"), failure
    assert 1900000 < failure["op_index"] < 2100000 and failure["slot"] and failure["size_bytes"]
    assert "liballoc_count" in failure["backtrace"][0], failure["backtrace"]
    assert any("alloctape-replay" in frame for frame in failure["backtrace"]), failure["backtrace"]
    result = replay(trigger, bad("hang"), expect=1, extra=("--timeout", "1s", "--verify"))
    assert result["status"] == "hung"
    assert any("liballoc_hang" in frame for frame in result["failure"]["backtrace"]), result["failure"]
    # And compare goes on with the others.
    done = run("compare", trigger, "-a", bad("overlap"), "-a", bad("hang"), "-a", bad("crash"),
               "-a", "glibc", "--rounds", "1", "--verify", "--timeout", "1s")
    assert "corrupted: malloc, op 3000 of lane 0" in done.stdout, done.stdout
    for word in ("hung", "SIGSEGV", "glibc"):
        assert word in done.stdout, done.stdout


def test_harness_memory():
    """An allocator whose memory nobody touches shows what the harness itself costs: little."""
    result = replay(workload("churn", 200000), bad("nothing"), extra=("--touch", "none"))
    assert result["end_rss_bytes"] <= 256 << 10, result["end_rss_bytes"]
    result = replay(workload("handover", 500, 9), bad("nothing"), extra=("--touch", "none"))
    assert result["end_rss_bytes"] <= (256 << 10) + 9 * (64 << 10), result["end_rss_bytes"]


def test_memory():
    """The parts of the RSS add up; what is freed and settled shows; the allocator is asked itself."""
    path = workload("churn", 200000)
    for name in installed():
        for extra in ((), ("--usable", "--settle", "50ms")):
            result = replay(path, name, extra=(*extra, "--timing", "none"))
            check_good(result, 200000)
            peak, end = result["decomposition"]["peak"], result["decomposition"]["end"]
            for parts in (peak, end):
                assert parts["anon_bytes"] == (parts["requested_bytes"] + (parts["slop_bytes"] or 0) +
                                               parts["lazy_free_bytes"] + parts["harness_bytes"] +
                                               parts["rest_bytes"]), parts
            assert peak["requested_bytes"] == result["peak_live_bytes"], (peak, result["peak_live_bytes"])
            assert end["requested_bytes"] == result["end_live_bytes"]
            assert end["slop_bytes"] >= 0 and result["freed_rss_bytes"] > 0
            moments = [p["moment"] for p in result["memory_points"]]
            assert moments[:3] == ["growing"] * 3 and "end" in moments and "freed" in moments, moments
            if extra:
                assert peak["slop_bytes"] >= 0 and result["settled_rss_bytes"] > 0
                assert result["settle_ns"] == 50000000
                curve = result["memory_by_progress"]
                assert len(curve["usable_bytes"]) == len(curve["live_bytes"])
                assert all(u >= l for u, l in zip(curve["usable_bytes"], curve["live_bytes"]))
            else:
                assert peak["slop_bytes"] is None and result["settled_rss_bytes"] is None
            view = result["allocator_view"]
            source = {"glibc": "mallinfo2", "jemalloc": "mallctl", "tcmalloc": "MallocExtension",
                      "tcmalloc_minimal": "MallocExtension", "mimalloc": "mi_process_info"}.get(name)
            if source and PRELOAD:
                assert view["end"]["source"] == source and view["end"]["figures"], view
                assert (view["peak"] is not None) == bool(extra)
    # Several lanes: books are kept by lane.
    result = replay(workload("handover", 500, 3), extra=("--usable",))
    assert result["decomposition"]["end"]["requested_bytes"] == 0
    assert result["memory_points"][-1]["usable_bytes"] == 0
    if PRELOAD:
        result = replay(path, extra=("--calibrate",))
        assert 0 < result["harness_rss_bytes"] <= 512 << 10, result["harness_rss_bytes"]
        assert result["decomposition"]["end"]["harness_bytes"] == result["harness_rss_bytes"]
    assert "lazily freed" in run("replay", path).stdout


def path_of_trigger():
    return workload("trigger", 1000)


def test_experiments():
    """Settings reach the allocator, and those that cannot are said to have had no effect."""
    big = workload("callocs", 20, 1 << 20)
    if not PRELOAD:
        return
    assert replay(big, extra=("--timing", "none"))["peak_vm_bytes"] > 0

    def resident(*extra):
        return replay(big, extra=("--touch", "none", *extra))["end_rss_bytes"]

    # The C library's threshold grows with what is freed, and the blocks stay on its heap; a threshold
    # that is set stays, and so do the blocks go back.
    usual = resident()
    assert resident("--mallopt", "M_MMAP_THRESHOLD=64K") < usual - (512 << 10)
    tunable = "glibc.malloc.mmap_threshold=65536"
    assert resident("--tunables", tunable, "--tunables", "glibc.malloc.arena_max=1") < \
        usual - (512 << 10)
    assert replay(big, "glibc " + tunable)["candidate_info"]["environment"] == \
        {"GLIBC_TUNABLES": tunable}
    result = replay(big, "glibc M_MMAP_THRESHOLD=64K M_MMAP_MAX=0")
    assert result["candidate"] == "glibc M_MMAP_THRESHOLD=64K M_MMAP_MAX=0" and result["notes"] == []
    churn = workload("churn", 20000)
    for every in ("1000", "1M", "1ms"):
        result = replay(churn, extra=("--trim-every", every))
        assert result["purges"]["by"] == "malloc_trim" and result["purges"]["count"] > 0, result["purges"]
    assert replay(churn, extra=("--trim-every", "1000"))["purges"]["count"] == 20
    assert replay(churn)["purges"] is None
    for name in installed():
        result = replay(churn, name, extra=("--trim-every", "5000"))
        assert result["status"] == "ok" and (result["notes"] or result["purges"]["count"] > 0), result
    assert "no effect" in replay(churn, bad("count"), extra=("--trim-every", "10"))["notes"][0]
    assert "no effect" in replay(churn, bad("count"), extra=("--mallopt", "M_ARENA_MAX=1"))["notes"][0]
    result = replay(big, extra=("--syscalls", "--touch", "none"))
    counted = result["syscalls"]
    if counted["available"]:
        calls = counted["by_function"]
        # One mapping and one unmapping for each block, of 1 MiB and a page.
        assert calls["mmap"]["count"] >= calls["munmap"]["count"] >= 1, calls
        assert set(counted["by_lane"]) == {"0"}, counted["by_lane"]
        assert counted["by_lane"]["0"]["mmap"]["count"] == calls["mmap"]["count"]
        lanes = replay(workload("threads", 40, 4), extra=("--syscalls",))["syscalls"]["by_lane"]
        assert len(lanes) >= 2, lanes
        done = run("replay", path_of_trigger(), "-a", bad("hang"), "--syscalls", "--timeout", "1s", expect=1)
        assert "hung" in done.stdout
    for mode in ("off", "on"):
        assert replay(churn, extra=("--hugepages", mode))["status"] == "ok"
    result = replay(workload("handover", 500, 3), extra=("--cpus", "0"))
    check_good(result, 64000)
    for wrong in (("--trim-every", "often"), ("--mallopt", "M_NOTHING=1"), ("--mallopt", "M_MXFAST=x"),
                  ("--tunables", "malloc"), ("--hugepages", "some"), ("--cpus", "0-"), ("--cpus", ""),
                  ("--settle", "soon")):
        run("replay", churn, *wrong, expect=2)


def test_compare():
    """A table with every candidate, and raw runs in the JSON; failures keep their row."""
    churn, trigger = workload("churn", 3000), workload("trigger", 1000)
    candidates = ["glibc", "glibc MALLOC_ARENA_MAX=1"]
    if PRELOAD:
        candidates += [bad("crash"), bad("hang")]
    chosen = [part for name in candidates for part in ("--allocator", name)]
    out = os.path.join(SCRATCH, "compare.json")
    done = run("compare", churn, trigger, *chosen, "--rounds", "2", "--seed", "7", "--timeout", "1s",
               "--json", out)
    for name in candidates:
        assert done.stdout.count(name) >= 2, done.stdout
    result = json.load(open(out))
    assert result["schema"] == "alloctape.compare/1" and result["seed"] == 7
    assert result["candidates"] == candidates and len(result["workloads"]) == 2
    assert len(result["runs"]) == 2 * 2 * len(candidates)
    assert result["environment"]["kernel"] and result["environment"]["cores"] > 0
    seen = {(r["candidate"], r["workload"], r["round"]) for r in result["runs"]}
    assert len(seen) == len(result["runs"])
    for r in result["runs"]:
        fails = r["workload"] == trigger and r["candidate"] in candidates[2:]
        assert (r["status"] != "ok") == fails, r["failure"]
    if PRELOAD:
        assert "SIGSEGV in malloc, op 1000" in done.stdout and "hung" in done.stdout, done.stdout
        run("compare", trigger, "--allocator", bad("crash"), "--rounds", "1", expect=1)


def test_usage():
    """What cannot be done is said, with a way out."""
    path = workload("churn", 3000)
    assert "jemalloc" in run("replay", path, "-a", "no_such_thing", expect=1).stderr
    assert "ELF" in run("replay", path, "-a", "/etc/passwd", expect=1).stderr
    run("replay", expect=2)
    for wrong in ("everything", "0%", "101%", "%", "page%"):
        run("replay", path, "--touch", wrong, expect=2)
    for wrong in ("some", "sample=0", "sample=x", "sample="):
        run("replay", path, "--timing", wrong, expect=2)
    run("replay", path, "--env", "LD_PRELOAD=x", expect=2)
    run("compare", path, "--rounds", "0", expect=2)
    with open(os.path.join(SCRATCH, "cut.awl"), "wb") as cut:
        cut.write(open(path, "rb").read()[:-100])
    assert "cut.awl" in run("replay", cut.name, expect=1).stderr
    if PRELOAD:
        # A library that is no allocator must not pass as one.
        result = replay(path, os.path.join(ALLOCATORS, "liballoc_none.so"), expect=1)
        assert result["status"] == "failed" and "malloc" in result["failure"]["message"]


def test_failed_new():
    """A recorded operator new that threw: thrown again, or the allocator's own way out."""
    path = workload("failed_new")
    result = replay(path)
    assert result["status"] == "ok" and result["total_ops"] == 3
    for name in installed():
        result = replay(path, name, expect=None)
        if result["status"] != "ok":
            assert result["failure"]["op"] == "operator new" and result["failure"]["op_index"] == 1


with tempfile.TemporaryDirectory() as SCRATCH:
    globals()["test_" + TEST]()
