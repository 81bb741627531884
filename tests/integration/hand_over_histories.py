#!/usr/bin/env python3
"""Objects that pass through three threads each (hand_over_chain): the history of every object, as a walk
of the trace finds it, must be the one that the program knows; with plain stamps, with strict ones, and
with the few that are read under `record` ("owners"). So all agree on the order of every hand-over, under
every allocator.

usage: hand_over_histories.py [--full] [ALLOCATOR...]      --full: 10 million hand-overs each"""
import os
import sys

import harness as h


def library_of(allocator):
    """Path of a candidate's library; None for glibc's own."""
    listed = h.tool_json("allocators", "--json")
    entries = listed["allocators"] if isinstance(listed, dict) else listed
    return next(e["library"] for e in entries if e["name"] == allocator)


def test():
    tool = os.path.join(h.TEST_BUILD, "object_histories")
    h.need_parts(h.PRELOAD, h.ALLOCTAPE, tool)
    # Two hand-overs for each object, two producers.
    objects = 2_500_000 if "--full" in sys.argv else int(100_000 * float(
        os.environ.get("ALLOCTAPE_TEST_SCALE", "1")))
    command = [os.path.join(h.TEST_BUILD, "hand_over_chain"), str(objects)]
    plain = h.run(command, env=h.clean_env(), timeout=300)
    h.expect(plain.status == 0, f"untraced: {plain.status} {plain.stderr}")
    wanted = [a for a in sys.argv[1:] if a != "--full"]
    allocators = [a for a in h.installed_allocators() if not wanted or a in wanted]
    with h.Scratch() as scratch:
        for allocator in allocators:
            library = library_of(allocator)
            for options in ("", "strict", "owners"):
                trace = os.path.join(scratch.path, "chain.atrace")
                env = h.trace_env({"LD_PRELOAD": library} if library else {}, h.PRELOAD,
                                  ALLOCTAPE_OUTPUT=trace)
                env["ALLOCTAPE_OPTIONS"] = options
                outcome = h.run(command, env=env, timeout=300)
                h.expect_same_outcome(plain, outcome, f"recorded under {allocator}")
                found = h.run([tool, trace, str(objects)], env=h.clean_env(), timeout=300)
                who = f"{allocator}, {options or 'plain'} stamps"
                h.expect(found.status == 0, f"{who}: {found.stdout.decode()}{found.stderr.decode()}")
                stat = h.tool_json("stat", "--json", trace, timeout=300)
                h.expect(stat["dropped_events"] == 0 and stat["order"]["unrepairable"] == 0,
                         f"{who}: {stat['dropped_events']} dropped, {stat['order']}")
                h.say(f"{who}: {found.stdout.decode().strip()}")
                os.remove(trace)
        h.say(f"{4 * objects} hand-overs in each recording; each object's history is the program's own")


h.main(test)
