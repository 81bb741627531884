#!/usr/bin/env python3
"""The counter itself, against programs whose calls are known by reading them."""
import os
import re
import shutil

import harness as h

# programs/every_function.c; one malloc more is stdout's buffer.
EVERY_FUNCTION = {
    "malloc": 11 + 13 + 20 + 21 + 1 + 1, "calloc": 12, "realloc": 13, "reallocarray": 14,
    "posix_memalign": 15, "aligned_alloc": 16 + 22, "memalign": 17, "valloc": 18, "pvalloc": 19,
    "malloc_usable_size": 11 + 19 + 1, "free_sized": 21 + 1, "free_aligned_sized": 22,
    "free": 11 + 12 + 13 + 14 + 15 + 16 + 17 + 18 + 19 + 1 + 20 + 1}

# programs/every_operator.cc; malloc: stdout's buffer and libstdc++'s emergency pool.
EVERY_OPERATOR = {
    "malloc": 2, "operator new": 3 + 7 + 2, "operator new[]": 4 + 8, "operator new(nothrow)": 5,
    "operator new[](nothrow)": 6, "operator new(align)": 9 + 13, "operator new[](align)": 10 + 14,
    "operator new(align,nothrow)": 11, "operator new[](align,nothrow)": 12,
    "operator delete": 3 + 2 + 1, "operator delete[]": 4 + 1, "operator delete(nothrow)": 5 + 1,
    "operator delete[](nothrow)": 6, "operator delete(size)": 7 + 1, "operator delete[](size)": 8 + 1,
    "operator delete(align)": 9 + 1, "operator delete[](align)": 10,
    "operator delete(align,nothrow)": 11, "operator delete[](align,nothrow)": 12,
    "operator delete(size,align)": 13, "operator delete[](size,align)": 14}


def counts_of(scratch, name, *args):
    command = [os.path.join(h.TEST_BUILD, name), *args]
    outcome, images = h.Runs(scratch, lambda folder: command).counted()
    h.expect(outcome.status == 0, f"{name}: exit status {outcome.status}\n{outcome.stderr.decode()}")
    return images


def known_programs():
    with h.Scratch() as scratch:
        for name, expected in (("every_function", EVERY_FUNCTION),
                               ("every_operator", EVERY_OPERATOR)):
            images = counts_of(scratch, name)
            h.expect(len(images) == 1, f"{name}: {len(images)} images")
            # free_sized is weak in the program: the counter brings it.
            h.expect(images[0].calls == expected, f"{name}: {{function: (by reading, counted)}} = "
                     f"{h.differences(expected, images[0].calls)}")
            h.say(f"{name}: {images[0].events} calls, as its source says")
        # Each failing call 100 times; operator new fails by throwing, and must not silence the thread.
        image = counts_of(scratch, "failed_calls")[0]
        h.expect(image.calls["operator new"] == 100 + 400 + 2,
                 f"failed_calls: operator new counted {image.calls['operator new']} times")
        h.expect(image.calls["operator delete(size)"] == 401, "failed_calls: delete after a throw")
        h.expect(image.failed == 100 * 22 + 2, f"failed_calls: {image.failed} failures counted")
        # Four threads, two calls a turn; the threads' own stacks and TLS are a few calls more.
        image = counts_of(scratch, "busy_threads", "4", "200000")[0]
        made = image.calls["malloc"] + image.calls["free"]
        h.expect(800000 <= made <= 800010, f"busy_threads: {made} calls counted, 800,000 made")


def against_valgrind():
    """Totals by valgrind, which wraps the same functions in another way."""
    valgrind = shutil.which("valgrind")
    if not valgrind:
        h.say("valgrind is not installed: its totals are not compared")
        return
    with h.Scratch() as scratch:
        command = [os.path.join(h.TEST_BUILD, "tls_destructors")]
        image = h.Runs(scratch, lambda folder: command).counted()[1][0]
        outcome = h.run([valgrind, "--run-libc-freeres=no", "--run-cxx-freeres=no", *command], env=h.clean_env())
        text = re.search(r"total heap usage: ([\d,]+) allocs, ([\d,]+) frees",
                         outcome.stderr.decode(errors="replace"))
        h.expect(text, "valgrind gave no totals")
        allocations, frees = (int(n.replace(",", "")) for n in text.groups())
        acquired = sum(n for f, n in image.calls.items()
                       if "free" not in f and "delete" not in f and f != "malloc_usable_size")
        # valgrind does not count free(NULL).
        released = image.events - acquired - image.nulls
        h.say(f"tls_destructors: valgrind {allocations} and {frees}, counter {acquired} and {released}")
        h.expect((acquired, released) == (allocations, frees), "the counts differ")


def test():
    h.need_parts(h.COUNTER)
    known_programs()
    against_valgrind()


h.main(test)
