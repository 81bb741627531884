#!/usr/bin/env python3
"""A producer allocates, a consumer frees: the hardest case for the order of events. No inversion may
be beyond repair, and the workload must replay under every allocator, time after time, without a wrong
free: an allocator that is given one aborts, or its live peak is off.

usage: hand_over.py BATCH [--full]     --full: 10 million blocks, 20 replays under each allocator"""
import os
import sys

import harness as h


def test():
    h.need_parts(h.PRELOAD, h.ALLOCTAPE)
    full = "--full" in sys.argv
    scale = float(os.environ.get("ALLOCTAPE_TEST_SCALE", "1"))
    blocks = 10_000_000 if full else int(1_000_000 * scale)
    replays = 20 if full else 3
    patience = 600 if full else 60
    with h.Scratch() as scratch:
        command = [os.path.join(h.TEST_BUILD, "producer_consumer"), str(blocks), sys.argv[1]]
        runs = h.Runs(scratch, lambda folder: command, timeout=patience)
        plain = runs.untraced()
        outcome, traces = runs.recorded()
        h.expect_same_outcome(plain, outcome, "recorded")
        image, stat = traces[0], traces[0].stat
        order = stat["order"]
        h.say(f"{image.events} events, {h.bytes_per_event(image):.2f} bytes each, repaired "
              f"{order['repaired']}, unrepairable {order['unrepairable']}, cross-thread frees "
              f"{stat['cross_thread_frees']}")
        h.expect_sound(image)
        h.expect(stat["cross_thread_frees"] >= blocks, "not every block was freed by the other thread")
        allocators = h.installed_allocators()
        if allocators:
            off = h.replay_under_all(image, scratch, allocators, ("--order", "causal"), patience, turns=replays)
            # Without the ring between them the two run apart: the peak is shown, not judged.
            h.say(f"{replays} replays ok under each of {', '.join(allocators)}; live peak off by up to "
                  f"{100 * off / stat['live']['peak_bytes']:.2f}%")


h.main(test)
