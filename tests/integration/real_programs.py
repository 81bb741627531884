#!/usr/bin/env python3
"""Real programs of the machine: the same outcome with and without the tracer, the calls that an
independent counter saw, no loss, no inversion, at most 9 bytes an event, and a replay that does the
same under every allocator.

usage: real_programs.py NAME [--matrix FILE]     NAME: a program below, or `list`
--matrix appends a row for each image to a Markdown table."""
import collections
import hashlib
import os
import sys

import harness as h
import servers

BIG = 100_000       # events from which on the size of a trace is judged
MAX_BYTES = 9.0     # for each event of a raw trace
PYTHON = "/usr/bin/python3"


class Program:
    """argv is run in a folder that prepare() filled. fingerprint: a file of that folder whose content
    is part of the outcome. repeats: two runs of it make the same calls, wherever its memory lies."""

    def __init__(self, packages, argv, prepare=None, stdin=b"", env=None, fingerprint=None,
                 repeats=False, fixed_addresses=False, server=None):
        self.packages, self.argv, self.prepare, self.stdin = packages, argv, prepare, stdin
        self.env, self.fingerprint, self.server = env or {}, fingerprint, server
        self.repeats = repeats
        # Compilers hash addresses, and what they call depends on the order that comes of it.
        self.preexec = h.fix_addresses if fixed_addresses else None

    def drive(self, env, folder, wrap):
        if self.server:
            outcome = self.server.drive(env, folder, wrap)
        else:
            outcome = h.run([*wrap, *self.argv], env=env, cwd=folder, stdin=self.stdin,
                            preexec=self.preexec)
        if self.fingerprint:
            with open(os.path.join(folder, self.fingerprint), "rb") as file:
                digest = hashlib.sha256(file.read()).hexdigest().encode()
            outcome = outcome._replace(stdout=outcome.stdout + b"\n" + digest)
        return outcome


def write(folder, name, text):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)


SQL = """
create table item (id integer primary key, name text, price real, tag text);
create index by_name on item (name);
begin;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
insert into item select i, 'item number ' || (i * 7919 % 20011), i * 0.25, printf('tag %03d', i % 997)
from n;
commit;
select count(*), sum(price), min(name), max(name) from item;
select tag, count(*), group_concat(id, '/') from item group by tag order by tag limit 20;
select a.name from item a join item b on a.name = b.name order by a.id limit 5;
delete from item where id % 3 = 0;
update item set name = name || ' (used)' where id % 5 = 0;
select count(*), length(group_concat(name)) from item;
"""
SQL_ROWS = "".join(f"insert into item values ({20000 + i}, 'single {i}', {i}, 'one by one');\n"
                   for i in range(1, 2001))

GAWK = r"""
BEGIN {
  for (i = 0; i < 50000; i++) text[i] = sprintf("string number %d of many %s", i, substr("abcdefghij", i % 10));
  for (i = 0; i < 50000; i++) { n += length(text[i]); seen[substr(text[i], 8)]++ }
  for (i = 0; i < 50000; i += 2) delete text[i];
  print n, length(text), length(seen);
}"""

PYTHON_JSON = """
import json
data = [{"id": i, "name": "name %d" % i, "tags": ["t%d" % (i % k) for k in range(1, 8)],
         "nested": {"a": i / 7, "b": [None, True, i]}} for i in range(8000)]
text = json.dumps(data)
again = json.loads(text)
assert again == data
print(len(text), len(json.dumps(again, indent=1)))
"""

CPP = """
#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>
template <int N> struct Chain { Chain<N - 1> rest; int value() const { return N + rest.value(); } };
template <> struct Chain<0> { int value() const { return 0; } };
int main() {
  std::map<std::string, std::vector<std::unique_ptr<int>>> groups;
  for (int i = 0; i < 100; ++i) groups[std::to_string(i % 7)].push_back(std::make_unique<int>(i));
  int sum = Chain<60>{}.value();
  for (const auto& [name, members] : groups)
    for (const auto& member : members) sum += *member;
  std::cout << sum << '\\n';
}
"""


def prepare_cpp(folder):
    write(folder, "one.cc", CPP)


def prepare_repository(folder):
    for i in range(120):
        os.makedirs(os.path.join(folder, f"d{i % 7}"), exist_ok=True)
        write(folder, f"d{i % 7}/f{i}.txt", "".join(f"line {j} of file {i}, {j * i % 91}\n"
                                                    for j in range(200)))


def git_script(threads):
    return f"""
git init -q -b main . && git config pack.threads {threads} && git config gc.auto 0 &&
git add . && git commit -q -m first && echo more >> d0/f0.txt && echo more >> d1/f1.txt &&
git add -u && git commit -q -m second && git repack -q -a -d -f && git log --stat --format=%H &&
git fsck --no-progress
"""


GIT_ENV = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_NAME": "A",
           "GIT_COMMITTER_EMAIL": "a@example.org", "GIT_AUTHOR_DATE": "1700000000 +0000",
           "GIT_COMMITTER_DATE": "1700000000 +0000", "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"}


def prepare_big_file(folder):
    line, parts = hashlib.sha256(b"seed").digest(), []
    for i in range(12 << 12):
        if i % 3 == 0:
            line = hashlib.sha256(line).digest()
        parts.append(line * 8)
    with open(os.path.join(folder, "big"), "wb") as file:
        file.write(b"".join(parts))


def prepare_list(folder):
    write(folder, "list", "".join(f"{i * 7919 % 30011} word{i % 501} text\n" for i in range(30000)))


# Every stage reads to the end: a writer whose reader left early would die of SIGPIPE now here, now there.
PIPELINE = """
sort -k1n list | awk '{print $2}' | sed s/word/w/ | sort | uniq -c | sort -rn | sed -n 1,5p
grep -c 'w.*1' list; cut -d' ' -f2 list | tr a-z A-Z | wc -c; printf '%s\\n' "$(ls | tail -1)"
(cat list; echo end) | tail -2
"""

PROGRAMS = {
    "sqlite3": Program([("sqlite3", "sqlite3")], ["sqlite3", ":memory:"],
                       stdin=(SQL + SQL_ROWS + "select count(*) from item;\n").encode(), repeats=True),
    "gawk": Program([("gawk", "gawk")], ["gawk", GAWK], repeats=True),
    "python3": Program([(PYTHON, "python3")], [PYTHON, "-c", PYTHON_JSON],
                       env={"PYTHONHASHSEED": "0", "PYTHONMALLOC": "malloc"}, repeats=True),
    "g++": Program([("g++", "g++")], ["g++", "-O1", "one.cc", "-o", "one"], prepare=prepare_cpp,
                   fingerprint="one", fixed_addresses=True),
    "clang++": Program([("clang++", "clang")], ["clang++", "-O1", "one.cc", "-o", "one"],
                       prepare=prepare_cpp, fingerprint="one", fixed_addresses=True),
    "git": Program([("git", "git")], ["sh", "-c", git_script(1)], prepare=prepare_repository,
                   env=GIT_ENV),
    "git-threads": Program([("git", "git")], ["sh", "-c", git_script(2)], prepare=prepare_repository,
                           env=GIT_ENV),
    "xz": Program([("xz", "xz-utils")], ["xz", "-T2", "-3", "--block-size=1MiB", "-k", "big"],
                  prepare=prepare_big_file, fingerprint="big.xz"),
    "redis": Program([("redis-check-rdb", "redis-tools"), ("redis-cli", "redis-tools"),
                      ("redis-benchmark", "redis-tools"), ("bash", "bash")], None,
                     server=servers.Redis()),
    "nginx": Program([("nginx", "nginx-light")], None, prepare=servers.prepare_nginx,
                     server=servers.Nginx()),
    "pipeline": Program([("awk", "mawk")], ["sh", "-c", PIPELINE], prepare=prepare_list, repeats=True),
}


class Matrix:
    """The table of results."""
    COLUMNS = ("program", "image", "threads", "events", "bytes/event", "dropped", "repaired",
               "unrepairable", "exact", "live peak bytes", "replayed peak")

    def __init__(self, path):
        self.path, self.rows = path, []

    def add(self, *cells):
        self.rows.append([str(c) for c in cells])

    def finish(self):
        rows = [list(self.COLUMNS), *self.rows]
        widths = [max(len(r[i]) for r in rows) for i in range(len(self.COLUMNS))]
        for row in rows:
            h.say("  " + "  ".join(c.ljust(w) for c, w in zip(row, widths)))
        if self.path:
            new = not os.path.exists(self.path)
            with open(self.path, "a", encoding="utf-8") as file:
                if new:
                    file.write("| " + " | ".join(self.COLUMNS) + " |\n|"
                               + "---|" * len(self.COLUMNS) + "\n")
                for row in self.rows:
                    file.write("| " + " | ".join(row) + " |\n")


def compare_loosely(counted, traces):
    """For programs that do not repeat: the same executables, each with about as many calls."""
    left, right = collections.Counter(), collections.Counter()
    for image in counted:
        left[image.name] += image.events
    for image in traces:
        right[image.name] += image.events
    h.expect(set(left) == set(right), f"executables: counted {dict(left)}, recorded {dict(right)}")
    for name, n in left.items():
        h.expect(0.5 * n <= right[name] <= 2 * n,
                 f"{name}: {n} calls counted in one run, {right[name]} recorded in another")


def compare_counts(program, counted, repeats, traces):
    """Returns what is to be said of exactness. Either way the counts of one and the same run, counted
    and recorded at once, have been found equal."""
    if repeats and program.repeats:
        h.expect_equal_counts(counted, traces)
        return "yes"
    if h.same_counts(counted, traces):
        return "yes"
    compare_loosely(counted, traces)
    return "in the same run"


def test(name, matrix_path):
    program = PROGRAMS[name]
    for executable, package in program.packages:
        h.need_program(executable, package)
    h.need_parts(h.COUNTER)
    with h.Scratch() as scratch:
        runs = h.Runs(scratch, program, prepare=program.prepare, env=program.env)
        plain = runs.untraced()
        h.expect(plain.status == 0, f"untraced: exit status {plain.status}\n"
                 f"{plain.stderr.decode(errors='replace')[-2000:]}")
        outcome, counted = runs.counted()
        h.expect_same_outcome(plain, outcome, "counted")
        again = runs.counted()[1]
        repeats = h.same_counts(counted, again)
        h.say(f"{name}: {sum(i.events for i in counted)} calls in {len(counted)} images; a second "
              f"run makes {'the same' if repeats else 'other'} calls")
        if not (repeats and program.repeats):
            h.say("its calls need not repeat: compared exactly within one run that is counted and "
                  "recorded at once, and by totals between runs")
        for image in counted:
            h.say(f"  counted {h.describe(image)}")
        h.need_parts(h.PRELOAD, h.ALLOCTAPE)

        outcome, counted_below, stacked = runs.stacked()
        h.expect_same_outcome(plain, outcome, "counted and recorded at once")
        h.expect_equal_counts(counted_below, stacked, "counter and trace of the same run")

        outcome, traces = runs.recorded()
        h.expect_same_outcome(plain, outcome, "recorded by the preload")
        compare_counts(program, counted, repeats, traces)
        outcome, traces = runs.by_record()
        h.expect_same_outcome(plain, outcome, "recorded by `record`", stderr=False)
        exact = compare_counts(program, counted, repeats, traces)
        judge(name, traces, exact, scratch, Matrix(matrix_path))


def judge(name, traces, exact, scratch, matrix):
    allocators = h.installed_allocators()
    for image in traces:
        h.expect_sound(image)
        size = h.bytes_per_event(image)
        if image.events > BIG:
            h.expect(size <= MAX_BYTES, f"{h.describe(image)}: {size:.2f} bytes an event")
        peak = h.expect_replays(image, scratch, allocators)
        stat = image.stat
        matrix.add(name, image.name, stat["threads"], image.events, f"{size:.2f}",
                   stat["dropped_events"], stat["order"]["repaired"], stat["order"]["unrepairable"],
                   exact, stat["live"]["peak_bytes"], peak)
    matrix.finish()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    matrix_file = None
    if "--matrix" in arguments:
        at = arguments.index("--matrix")
        matrix_file = arguments[at + 1]
        del arguments[at:at + 2]
    if arguments == ["list"]:
        print("\n".join(PROGRAMS))
    elif len(arguments) == 1 and arguments[0] in PROGRAMS:
        h.main(lambda: test(arguments[0], matrix_file))
    else:
        sys.exit(__doc__)
