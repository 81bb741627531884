"""Ways of running a program: untraced, behind interposers that do nothing, traced by alloctape, and
traced by those peers that Debian packages. A peer that is not installed says so and is left out."""
import glob
import json
import os
import re
import shutil
import subprocess
import time

import benchlib


def total_size(folder):
    return sum(os.path.getsize(os.path.join(where, name))
               for where, _, names in os.walk(folder) for name in names)


def find_library(*names):
    for name in names:
        for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/lib/heaptrack",
                       "/usr/lib/x86_64-linux-gnu/heaptrack"):
            path = os.path.join(folder, name)
            if os.path.exists(path):
                return path
    return None


class Mode:
    """rounds: at most so many (None: all). share: the part of the calls that the slow are given."""

    def __init__(self, name, kind, preload=(), env=None, rounds=None, share=1.0, needs=None):
        self.name, self.kind, self.preload, self.env = name, kind, list(preload), env or {}
        self.rounds, self.share = rounds, share
        self.missing = needs  # why it cannot run here; None: it can
        self.prefix = []
        self.failed = False

    def environment(self, folder):
        env = {k: v for k, v in os.environ.items()
               if not k.startswith(("ALLOCTAPE_", "LD_PRELOAD"))}
        if self.preload:
            env["LD_PRELOAD"] = ":".join(self.preload)
        env.update({k: v.replace("FOLDER", folder) for k, v in self.env.items()})
        return env

    def before(self, folder):
        """What must stand before the run; not timed."""

    def after(self, folder, sample):
        """What is left of the run: sample.bytes, sample.lost."""
        del folder, sample

    def close(self):
        """After the last run."""

    def run(self, argv, folder, env=None):
        written = os.path.join(folder, "trace")
        os.mkdir(written)
        try:
            self.before(written)
            try:
                sample = benchlib.run_measured([*self.prefix, *argv],
                                               {**self.environment(written), **(env or {})}, folder)
            finally:
                self.after_run(written)
            self.after(written, sample)
        finally:
            shutil.rmtree(written)
        return sample

    def after_run(self, folder):
        """Right after the run, also a failed one; not timed."""


class FileMode(Mode):
    """What is written is all there is to count; nothing is ever lost."""

    def after(self, folder, sample):
        sample.bytes, sample.lost = total_size(folder), 0


class Alloctape(Mode):
    """Events and losses come from `alloctape stat`, once: they are the same in every round."""

    def __init__(self, name, build, options, rounds=None, recorder=False):
        self.tool = os.path.join(build, "alloctape")
        library = os.path.join(build, "lib/alloctape/liballoctape-preload.so")
        super().__init__(name, "alloctape", rounds=rounds)
        self.options, self.stat, self.packed = options, None, None
        self.keeps_nothing = options == "paused"
        if not os.path.exists(library):
            self.missing = f"{library} is not built"
        elif options and not self.knows(library, options):
            self.missing = f"this build has no option `{options}`"
        if recorder:
            self.prefix = [self.tool, "record", "-o", "trace/%e.%p.atrace", "--"]
            if not os.path.exists(self.tool):
                self.missing = f"{self.tool} is not built"
        else:
            self.preload = [library]
            self.env = {"ALLOCTAPE_OUTPUT": "FOLDER/%e.%p.atrace", "ALLOCTAPE_OPTIONS": options}

    @staticmethod
    def knows(library, option):
        with open(library, "rb") as f:
            return option.encode() + b"\0" in f.read()

    def start_workload(self):
        self.stat = self.packed = None

    def after(self, folder, sample):
        traces = glob.glob(os.path.join(folder, "*.atrace*"))
        sample.bytes = sum(os.path.getsize(t) for t in traces)
        if self.keeps_nothing:
            return
        if self.stat is None and os.path.exists(self.tool):
            self.stat = {"events": 0, "dropped_events": 0}
            packed = 0
            for trace in traces:
                done = subprocess.run([self.tool, "stat", "--json", trace], check=False,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                if done.returncode:
                    raise benchlib.Failed(f"stat: {done.stderr.strip()}")
                told = json.loads(done.stdout)
                for key in self.stat:
                    self.stat[key] += told[key]
                packed += self.pack(trace, folder) or 0
            self.packed = packed or None
        if self.stat:
            sample.lost = self.stat["dropped_events"]

    def pack(self, trace, folder):
        """The size of the trace once packed; None where this build cannot."""
        if self.prefix or self.options not in ("", "owners", "dense"):
            return None
        target = os.path.join(folder, "packed")
        done = subprocess.run([self.tool, "pack", trace, "-o", target], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, check=False)
        if done.returncode or not os.path.exists(target):
            return None
        size = os.path.getsize(target)
        os.unlink(target)
        return size


class Lttng(Mode):
    """LTTng-ust's libc wrapper into a session of its own. Its consumer daemon writes the files:
    that work is in nobody's CPU time here but shows in the wall time."""

    daemon = None  # started by us
    users = 0

    def __init__(self, name, lossless, rounds, share):
        wrapper = find_library("liblttng-ust-libc-wrapper.so.1", "liblttng-ust-libc-wrapper.so")
        super().__init__(name, "peer", preload=[wrapper or ""], rounds=rounds, share=share)
        # Waiting for the registration is waiting for the events to be on, from the first call.
        self.env = {"LTTNG_UST_REGISTER_TIMEOUT": "-1"}
        self.channel = []
        if lossless:
            self.env["LTTNG_UST_ALLOW_BLOCKING"] = "1"
            self.channel = ["--blocking-timeout=inf"]
        if not wrapper:
            self.missing = "liblttng-ust1 is not installed"
        elif not shutil.which("lttng") or not shutil.which("lttng-sessiond"):
            self.missing = "lttng-tools is not installed"
        self.session = f"alloctape-bench-{os.getpid()}"

    def control(self, *argv):
        done = subprocess.run(["lttng", *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
        if done.returncode:
            raise benchlib.Failed(f"lttng {' '.join(argv)}: {done.stdout.strip()}")
        return done.stdout

    def ensure_daemon(self):
        if Lttng.daemon or self.answers():
            return
        Lttng.daemon = subprocess.Popen(["lttng-sessiond", "--no-kernel"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(100):
            if self.answers():
                return
            time.sleep(0.1)
        raise benchlib.Failed("lttng-sessiond does not answer")

    @staticmethod
    def answers():
        # `lttng` starts no daemon with --no-sessiond, and fails when there is none.
        return subprocess.run(["lttng", "--no-sessiond", "list"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60,
                              check=False).returncode == 0

    def before(self, folder):
        self.ensure_daemon()
        self.control("-q", "create", self.session, "-o", folder)
        self.control("-q", "enable-channel", "-u", "-s", self.session, *self.channel, "calls")
        self.control("-q", "enable-event", "-u", "-s", self.session, "-c", "calls",
                     "lttng_ust_libc:*")
        self.control("-q", "start", self.session)

    def after_run(self, folder):
        self.told = None
        try:
            self.control("-q", "stop", self.session)
            self.told = self.control("--mi", "xml", "list", self.session)
        finally:
            self.control("-q", "destroy", self.session)

    def after(self, folder, sample):
        sample.bytes = total_size(folder)
        # 2.13 now and then tells the number with its highest bit set.
        sample.lost = sum(int(n) & (2**63 - 1)
                          for n in re.findall(r"<discarded_events>(\d+)", self.told or ""))

    def close(self):
        if Lttng.daemon:
            Lttng.daemon.terminate()
            Lttng.daemon.wait()
            Lttng.daemon = None


def all_modes(build, peers, peer_rounds, peer_share):
    """In the order of the tables; the first is what the others are compared with."""
    bench = os.path.join(build, "tests/bench")
    modes = [Mode("untraced", "base")]
    for name, library in (("forwarding", "forward.so"), ("forwarding + rdtsc", "forward_rdtsc.so")):
        path = os.path.join(bench, library)
        modes.append(Mode(name, "floor", preload=[path],
                          needs=None if os.path.exists(path) else f"{path} is not built"))
    # "alloctape" is the tracer as it works under `record`, without the work that `record` itself
    # does beside it: packing. That is in "alloctape record", on the clock and in a program's CPU
    # time.
    for name, options in (("paused", "paused"), ("alloctape", "owners"), ("preload alone", ""),
                          ("dense stamps", "dense"), ("strict order", "strict"),
                          ("usable sizes", "usable"), ("latency", "latency")):
        modes.append(Alloctape(name, build, options))
    modes.append(Alloctape("alloctape record", build, "", recorder=True))
    if not peers:
        return modes
    slow = {"rounds": peer_rounds, "share": peer_share}

    def peer(name, library, package, env, preload=()):
        path = find_library(library)
        return FileMode(name, "peer", preload=[path or "", *preload], env=env, **slow,
                        needs=None if path else f"{package} is not installed")

    modes.append(peer("memusage", "libmemusage.so", "libc-devtools",
                      {"MEMUSAGE_OUTPUT": "FOLDER/memusage"}))
    modes.append(Lttng("LTTng-ust, default", False, **slow))
    modes.append(Lttng("LTTng-ust, lossless", True, **slow))
    modes.append(peer("heaptrack", "libheaptrack_preload.so", "heaptrack",
                      {"DUMP_HEAPTRACK_OUTPUT": "FOLDER/heaptrack"}))
    modes.append(peer("mtrace", "libc_malloc_debug.so.0", "libc6",
                      {"MALLOC_TRACE": "FOLDER/mtrace"},
                      preload=[os.path.join(bench, "start_mtrace.so")]))
    return modes
