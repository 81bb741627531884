"""Rounds in which the modes take turns, and what is told of them: medians, ranges, tables, JSON."""
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time


class Sample:
    """One run. Times in seconds; `said`: the name=value pairs that the program printed."""

    def __init__(self, wall, user, system, peak_rss_kib, said):
        self.wall, self.user, self.system = wall, user, system
        self.peak_rss_kib, self.said = peak_rss_kib, said
        self.bytes = self.lost = None

    @property
    def cpu(self):
        return self.user + self.system

    def as_json(self):
        return {"wall_s": self.wall, "user_s": self.user, "system_s": self.system,
                "peak_rss_kib": self.peak_rss_kib, "bytes": self.bytes, "lost": self.lost,
                **self.said}


class Failed(Exception):
    pass


def pairs(text):
    found = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if equals:
            try:
                found[name] = float(value)
            except ValueError:
                pass
    return found


def run_measured(argv, env, folder, timeout=300):
    """Runs argv to its end, in `folder`, its output in a file there: nobody reads beside it."""
    output = os.path.join(folder, "output")
    errors = os.path.join(folder, "errors")
    with open(output, "wb") as out, open(errors, "wb") as err:
        start = time.perf_counter()
        process = subprocess.Popen(argv, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=err)
        try:
            # waitpid of subprocess drops the usage, so the end is waited for here.
            deadline = start + timeout
            usage = None
            while usage is None:
                pid, status, used = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    usage, wall = used, time.perf_counter() - start
                elif time.perf_counter() > deadline:
                    raise Failed(f"{argv[0]} was still running after {timeout} s")
                else:
                    time.sleep(0.0005)
        except BaseException:
            process.kill()
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        with open(errors, errors="replace", encoding="utf-8") as err:
            raise Failed(f"{' '.join(argv)} exited with {process.returncode}: {err.read()[-500:]}")
    with open(output, errors="replace", encoding="utf-8") as out:
        said = pairs(out.read(4096))
    # ru_maxrss counts what ran before exec too, which is this interpreter: programs are larger, and
    # ours tell their own.
    peak = said.pop("peak_rss_kib", usage.ru_maxrss)
    return Sample(wall, usage.ru_utime, usage.ru_stime, peak, said)


def interleave(rounds, modes, run, seed=1):
    """run(mode) -> Sample, each mode once a round, in an order that chance decides; the first mode
    is what the others are compared with. A mode may have fewer rounds (mode.rounds). Returns
    {mode: {round: Sample}}; a mode that fails is dropped, with a line on stderr, and marked
    (mode.failed)."""
    chance = random.Random(seed)
    samples = {mode: {} for mode in modes}
    broken = set()
    for r in range(rounds):
        turn = [m for m in modes if m not in broken and r < (m.rounds or rounds)]
        chance.shuffle(turn)
        for mode in turn:
            try:
                samples[mode][r] = run(mode)
            except (Failed, OSError, subprocess.SubprocessError) as e:
                if mode is modes[0]:
                    raise
                print(f"{os.path.basename(sys.argv[0])}: {mode.name}: {e}", file=sys.stderr)
                broken.add(mode)
                mode.failed = True
    return {m: s for m, s in samples.items() if s and m not in broken}


class Range:
    """The median of some figures, and how far they lie apart."""

    def __init__(self, figures):
        self.figures = list(figures)
        self.median = statistics.median(self.figures)
        self.low, self.high = min(self.figures), max(self.figures)

    def as_json(self):
        return {"median": round(self.median, 4), "min": round(self.low, 4),
                "max": round(self.high, 4), "rounds": len(self.figures)}


def paired(samples, base, figure):
    """The differences to the base's run in the same round: what drifts, drifts for both."""
    return Range(figure(s) - figure(base[r]) for r, s in samples.items())


def paired_percent(samples, base, figure):
    return Range(100 * (figure(s) / figure(base[r]) - 1) for r, s in samples.items())


def environment():
    cpu = "unknown"
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            names = (line.split(":", 1)[1].strip() for line in f if line.startswith("model name"))
            cpu = next(names, cpu)
    except OSError:
        pass
    return {"cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release(),
            "libc": " ".join(platform.libc_ver()), "load_average": list(os.getloadavg())}


def write_json(path, document):
    text = json.dumps(document, indent=1) + "\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)


def table(head, rows):
    """Markdown that also reads well as plain text."""
    cells = [head, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = []
    for n, row in enumerate(cells):
        lines.append("| " + " | ".join(c.ljust(w) if i < 1 else c.rjust(w)
                                       for i, (c, w) in enumerate(zip(row, widths))) + " |")
        if n == 0:
            lines.append("| " + " | ".join("-" * w if i < 1 else "-" * (w - 1) + ":"
                                           for i, w in enumerate(widths)) + " |")
    return "\n".join(lines)


BEGIN, END = "<!-- figures of {} -->", "<!-- end of figures -->"


def update_document(path, name, text):
    """Puts text in place of what stands between the two comments that mark the figures of `name`."""
    with open(path, encoding="utf-8") as f:
        lines = f.read().split("\n")
    try:
        begin = lines.index(BEGIN.format(name))
        end = lines.index(END, begin)
    except ValueError:
        sys.exit(f"{path}: no lines {BEGIN.format(name)} and {END}")
    lines[begin + 1:end] = ["", *text.strip("\n").split("\n"), ""]
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(lines))
