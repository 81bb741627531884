#!/usr/bin/env python3
"""One nasty program (programs/NAME.c or .cc): its outcome must be the same untraced, counted, recorded
by the preload alone and by `record`; its trace must hold exactly the calls that the counter saw."""
import os
import resource
import signal
import sys

import harness as h

PROGRAMS = os.path.join(h.TEST_BUILD)


def program(name):
    path = os.path.join(PROGRAMS, name)
    h.need_parts(path)
    return path


class Case:
    """argv: arguments after the program's name, or a function of the folder it runs in.
    exact: the calls repeat exactly. status: expected; minus a signal's number. root: must be root, and
    may not stay it. preexec: in the child before exec."""

    def __init__(self, name, argv=(), status=0, exact=True, env=None, after=None, images=None,
                 root=False, preexec=None):
        self.name, self.argv, self.status, self.exact = name, argv, status, exact
        self.env, self.after, self.images = env or {}, after, images
        self.root, self.preexec = root, preexec


def timer_blocks(folder, images):
    """The program counted what its loop and its handler did; what else it calls is little."""
    with open(os.path.join(folder, "blocks"), encoding="ascii") as file:
        blocks = int(file.read())
    for function in ("malloc", "free"):
        made = images[0].calls[function]
        h.expect(blocks <= made - 6000 + 20 and made - 6000 <= blocks + 20000,
                 f"the loop made {blocks} calls of {function}, {made} were seen in all")


def storm_blocks(folder, images):
    """Each block that its threads and handlers made; what else it calls is little."""
    with open(os.path.join(folder, "blocks"), encoding="ascii") as file:
        blocks = int(file.read())
    for function in ("malloc", "free"):
        made = images[0].calls[function]
        h.expect(blocks <= made <= blocks + 20, f"{blocks} blocks were made, {made} calls of {function} seen")


def few_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))


CASES = {
    "abort": Case("aborts", ["abort"], -signal.SIGABRT),
    "segv": Case("aborts", ["segv"], -signal.SIGSEGV),
    "kill": Case("aborts", ["kill"], -signal.SIGKILL),
    "at_exit": Case("at_exit", status=2),
    "before_main": Case("before_main"),
    "changes_directory": Case("changes_directory", lambda f: [program("changes_directory")],
                              images=4),
    "changes_root": Case("changes_root", lambda f: [f], root=True),
    "closed_descriptors": Case("closed_descriptors", lambda f: [f], images=2),
    "coroutines": Case("coroutines"),
    "daemonizes": Case("daemonizes", lambda f: [os.path.join(f, "result")], images=3),
    "dlopen_close": Case("dlopen_close", lambda f: [program("libplugin.so")]),
    "drops_privileges": Case("drops_privileges", images=2, root=True),
    "errno_kept": Case("errno_kept", images=2),
    "every_function": Case("every_function"),
    "every_operator": Case("every_operator"),
    "exec": Case("exec", status=4, images=4),
    "exec_from_thread": Case("exec_from_thread", images=2),
    "failed_calls": Case("failed_calls"),
    "few_descriptors": Case("few_descriptors", preexec=few_descriptors),
    "fork": Case("fork", images=7),
    "fork_from_thread": Case("fork_from_thread", images=11),
    "leaves_new": Case("leaves_new"),
    "not_dumpable": Case("not_dumpable", images=2),
    "prints_preload": Case("prints_preload", images=3,
                           env={"LD_PRELOAD": os.path.join(PROGRAMS, "libuser_preload.so")}),
    "raw_fork": Case("raw_fork", images=4),
    "realloc_edges": Case("realloc_edges"),
    "realloc_race": Case("realloc_race"),
    "signal_handlers": Case("signal_handlers"),
    "signal_timer": Case("signal_handlers", lambda f: [os.path.join(f, "blocks")], exact=False,
                         after=timer_blocks),
    "signal_storm": Case("signal_storm", lambda f: [os.path.join(f, "blocks")], exact=False,
                         after=storm_blocks),
    "small_stacks": Case("small_stacks"),
    "stack_overflow": Case("stack_overflow"),
    "ten_thousand_threads": Case("ten_thousand_threads"),
    "thousand_threads": Case("many_threads", ["3000", "1000", "20", "together"]),
    "tls_destructors": Case("tls_destructors"),
    "underscore_exit": Case("underscore_exit", status=3),
    "unshares": Case("unshares", images=3, root=True),
    "vfork_exec": Case("vfork_exec", images=11),
}


def expect_images(case, images, how):
    # The child of prints_preload is one image more when it allocates between fork and exec.
    if case.images is not None and case.name != "prints_preload":
        h.expect(len(images) == case.images, f"{how}: {len(images)} images with calls, "
                 f"{case.images} expected: {[h.describe(i) for i in images]}")


def test(case):
    with h.Scratch() as scratch:
        def command(folder):
            return [program(case.name),
                    *(case.argv(folder) if callable(case.argv) else case.argv)]

        if case.root and os.geteuid() != 0:
            h.skip(f"{case.name} begins as root")
        runs = h.Runs(scratch, command, env=case.env, preexec=case.preexec, everyone=case.root)
        work = os.path.join(scratch.path, "work")
        plain = runs.untraced()
        h.expect(plain.status == case.status,
                 f"untraced: exit status {plain.status}, {case.status} expected\n"
                 f"{plain.stderr.decode(errors='replace')}")
        outcome, counted = runs.counted()
        h.expect_same_outcome(plain, outcome, "counted")
        expect_images(case, counted, "counted")
        if case.exact:
            again = runs.counted()[1]
            h.expect_equal_counts(counted, again, "two runs under the counter")
        h.say(f"counted {sum(i.events for i in counted)} calls in {len(counted)} images")

        h.need_parts(h.PRELOAD, h.ALLOCTAPE)
        for how, go in (("preload", runs.recorded), ("record", runs.by_record)):
            outcome, traces = go()
            # `record` exits as a shell does when its program died by a signal, or dies like it.
            if how == "record" and case.status < 0 and outcome.status == 128 - case.status:
                outcome = outcome._replace(status=case.status)
            h.expect_same_outcome(plain, outcome, how, stderr=how == "preload")
            if case.exact:
                h.expect_equal_counts(counted, traces, f"counter and trace ({how})")
            if case.after:
                case.after(work, traces)
            for image in traces:
                h.expect_sound(image)
            h.say(f"{how}: {sum(i.events for i in traces)} events in {len(traces)} images, "
                  f"repaired {sum(i.stat['order']['repaired'] for i in traces)}, dropped 0")
        allocators = [a for a in h.installed_allocators() if a in ("glibc", "jemalloc")]
        for image in traces[:4]:
            h.expect_replays(image, scratch, allocators, slack_bytes=64 << 10, options=("--touch", "none"))


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in CASES:
        sys.exit(f"usage: nasty.py {'|'.join(CASES)}")
    h.need_parts(h.COUNTER)
    h.main(lambda: test(CASES[sys.argv[1]]))
