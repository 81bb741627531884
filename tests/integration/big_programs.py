#!/usr/bin/env python3
"""Big programs under `record`, to their end: the same results as untraced, no event dropped, no inversion
beyond repair, and what cannot be traced is said.

usage: big_programs.py NAME [--full]        NAME: a name of PROGRAMS below"""
import collections
import glob
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time

import harness as h
import servers

FULL = "--full" in sys.argv


def write(folder, name, text):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest().encode()


class Command:
    """One process to start. fingerprints: files whose contents are part of the outcome."""

    def __init__(self, packages, argv, prepare=None, env=None, fingerprints=(), images=()):
        self.packages, self.argv, self.prepare, self.env = packages, argv, prepare, env or {}
        self.fingerprints, self.images = fingerprints, images

    def need(self):
        for name, package in self.packages:
            h.need_program(name, package)

    def drive(self, env, folder, wrap):
        argv = self.argv(folder) if callable(self.argv) else self.argv
        outcome = h.run([*wrap, *argv], env=env, cwd=folder, timeout=100)
        prints = b"".join(b"\n" + digest(os.path.join(folder, name)) for name in self.fingerprints)
        return outcome._replace(stdout=outcome.stdout + prints)


# ---- PostgreSQL ----------------------------------------------------------------------------------

SQL = """
create table t (id int primary key, body text, n numeric);
insert into t select i, repeat(md5(i::text), 1 + i % 20), i / 7.0 from generate_series(1, 5000) i;
create index on t (md5(body));
select count(*), sum(length(body)), round(sum(n), 3) from t;
select string_agg(left(md5(body), 4), '-' order by id) from t where id % 500 = 0;
select jsonb_object_agg(id, left(body, 3)) from t where id < 5;
select sum(abalance), count(*) from pgbench_accounts;
"""


class Postgres:
    """initdb, a server with a process for each connection, pgbench against it, and a fast shutdown.
    It refuses to run as root."""
    images = ("postgres", "initdb")
    fingerprints = ()
    env = {}

    def need(self):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
        if not found:
            h.skip("initdb is not installed (Debian package postgresql)")
        self.bin = os.path.dirname(found[-1])
        h.need_program("setpriv", "util-linux")

    def prepare(self, folder):
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
        os.chmod(folder, 0o755)

    def command(self, wrap, name, *arguments):
        other = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody")
            other = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        return [*other, *wrap, os.path.join(self.bin, name), *arguments]

    def drive(self, env, folder, wrap):
        data, begin = os.path.join(folder, "data"), time.monotonic()
        env = {**env, "PGHOST": folder, "PGUSER": "tester", "PGDATABASE": "postgres", "HOME": folder}
        plain = {k: v for k, v in env.items() if k not in h.TRACE_VARIABLES}
        out = []

        def expect_run(command, environment):
            outcome = h.run(command, env=environment, cwd=folder, timeout=100)
            h.expect(outcome.status == 0, f"{command[-4:]} exited with {outcome.status}\n"
                     f"{(outcome.stdout + outcome.stderr).decode(errors='replace')[-2000:]}")
            return outcome.stdout
        out.append(expect_run(self.command(wrap, "initdb", "-D", data, "-U", "tester", "-A", "trust",
                                           "-E", "UTF8", "--locale=C", "-N"), env))
        with open(os.path.join(folder, "server.err"), "wb") as log:
            server = subprocess.Popen(
                self.command(wrap, "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=",
                             "-c", "fsync=off", "-c", "autovacuum_naptime=1s"),
                env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True)
        try:
            ready = self.command([], "pg_isready", "-q")
            servers.wait_until(lambda: h.run(ready, env=plain, cwd=folder).status == 0, "postgres", 50)
            expect_run(self.command([], "pgbench", "-i", "-q", "-s", "1"), plain)
            shown = expect_run(self.command([], "pgbench", "-n", "-c", "4", "-j", "2", "-t",
                                            "500" if FULL else "100", "--random-seed=7", "-C"), plain)
            out += [line for line in shown.splitlines() if b"processed" in line or b"failed" in line]
            out.append(expect_run(self.command([], "psql", "-qAtX", "-c", SQL), plain))
            with open(os.path.join(data, "postmaster.pid"), encoding="ascii") as file:
                os.kill(int(file.readline()), signal.SIGINT)
            status = server.wait(timeout=50)
        except BaseException:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
            with open(os.path.join(folder, "server.err"), "rb") as file:
                h.say(file.read()[-2000:].decode(errors="replace"))
            raise
        return h.Outcome(status, b"\n".join(out), b"", time.monotonic() - begin)


# ---- nginx -----------------------------------------------------------------------------------------

class NginxReload(servers.Nginx):
    """Two reloads (SIGHUP) with other answers after each; requests all the while."""
    images = ("nginx",)
    fingerprints = ()
    env = {}
    prepare = staticmethod(servers.prepare_nginx)

    def need(self):
        h.need_program("nginx", "nginx-light")

    def clients(self, folder, process):
        path, pid_file = os.path.join(folder, "socket"), os.path.join(folder, "nginx.pid")
        servers.wait_until(lambda: os.path.exists(path) and os.path.exists(pid_file)
                           and os.path.getsize(pid_file) > 0, "nginx's socket")
        with open(pid_file, encoding="ascii") as file:
            master = int(file.read())

        def get(page):
            return servers.fetch(path, f"GET {page} HTTP/1.1\r\nHost: localhost\r\n"
                                       "Accept-Encoding: gzip\r\nConnection: close\r\n\r\n")
        out = []
        for turn in range(3):
            marker = f"/turn{turn}.txt".encode()
            if turn:
                config = os.path.join(folder, "nginx.conf")
                with open(config, encoding="utf-8") as file:
                    text = file.read()
                write(folder, "nginx.conf",
                      text.replace(f"return 302 {'/page1.txt' if turn == 1 else f'/turn{turn - 1}.txt'}",
                                   f"return 302 {marker.decode()}"))
                os.kill(master, signal.SIGHUP)
                # The new workers answer, and the old ones have left.
                servers.wait_until(lambda m=marker: all(m in get("/moved") for _ in range(6)), "the reload")
            out += [get(f"/page{i % 5}.txt") for i in range(100)]
            out.append(get("/moved"))
        os.kill(master, signal.SIGQUIT)
        return b"\n".join(out)

    def judge(self, images, _):
        h.expect(len(images) >= 7, f"a master and three times two workers expected: "
                 f"{[h.describe(i) for i in images]}")


# ---- runtimes --------------------------------------------------------------------------------------

NODE = r"""
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const zlib = require('zlib'), crypto = require('crypto'), fs = require('fs');
function work(seed) {
  const rows = [];
  for (let i = 0; i < 20000; i++) rows.push({ id: i, name: 'row ' + (i * seed % 977), tags: [i % 3, String(i)] });
  const packed = zlib.deflateSync(Buffer.from(JSON.stringify(rows)));
  const again = JSON.parse(zlib.inflateSync(packed).toString());
  return crypto.createHash('sha256').update(JSON.stringify(again)).digest('hex');
}
if (!isMainThread) {
  parentPort.postMessage([workerData, work(workerData)]);
} else {
  const jobs = [1, 2, 3].map(seed => new Promise((ok, bad) =>
    new Worker(__filename, { workerData: seed }).on('message', ok).on('error', bad)));
  jobs.push(new Promise(ok => zlib.gzip(Buffer.alloc(1 << 20, 'abc'), (e, b) => ok([9, b.length]))));
  jobs.push(fs.promises.readFile(__filename).then(b => [10, b.length]));
  Promise.all(jobs).then(all => {
    all.sort((a, b) => a[0] - b[0]).forEach(line => console.log(line.join(' ')));
    console.log('main', work(5));
  });
}
"""

PYTHON = r"""
import hashlib, json, threading, zlib
results = {}
def work(seed):
    rows = [{"id": i, "name": "row %d" % (i * seed % 977), "tags": [i % 3, str(i)]} for i in range(6000)]
    text = json.dumps(rows).encode()
    for _ in range(3):
        assert zlib.decompress(zlib.compress(text, 3)) == text
    results[seed] = hashlib.sha256(json.dumps(json.loads(text)).encode()).hexdigest()
for _ in range(3):
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 9)]
    for t in threads: t.start()
    for t in threads: t.join()
for seed in sorted(results): print(seed, results[seed])
"""

# The runtime's own tools are Java programs: this one makes a key and looks at it, in one virtual machine
# each, with all the threads of a collector and a compiler.
KEYTOOL = """
keytool -genkeypair -alias a -keyalg RSA -keysize 2048 -dname CN=test -validity 10 -storetype PKCS12 \
  -keystore store -storepass secret123 -keypass secret123 2>&1 && test -s store &&
keytool -list -keystore store -storepass secret123 2>/dev/null | grep -c PrivateKeyEntry &&
java -XX:+UseSerialGC -Xmx64m -XshowSettings:vm -version >/dev/null 2>&1 && echo settings &&
java -XX:NativeMemoryTracking=summary -version >/dev/null 2>&1 && echo tracking
"""

PAGE = """<!doctype html><title>page</title><body><h1>Heading</h1><div id=out></div><canvas id=c></canvas>
<script>
const rows = [];
for (let i = 0; i < 3000; i++) rows.push({id: i, name: 'row ' + (i * 7919 % 997)});
rows.sort((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : a.id - b.id);
const table = document.createElement('table');
for (const r of rows.slice(0, 300)) {
  const tr = table.insertRow();
  tr.insertCell().textContent = r.id;
  tr.insertCell().innerHTML = '<b>' + r.name + '</b>';
}
document.getElementById('out').appendChild(table);
const g = document.getElementById('c').getContext('2d');
for (let i = 0; i < 100; i++) g.fillRect(i, i, 5, 5);
document.title = 'done ' + JSON.stringify(rows).length;
</script>
"""

CPP = """#include <algorithm>
#include <map>
#include <string>
#include <vector>
int run{n}(const std::string& text) {{
  std::map<std::string, std::vector<int>> seen;
  for (std::size_t at = 0; at < text.size(); at += {n} + 1)
    seen[text.substr(at, {n} + 1)].push_back(static_cast<int>(at));
  std::vector<std::string> names;
  for (const auto& entry : seen) names.push_back(entry.first);
  std::sort(names.begin(), names.end(), [](const auto& x, const auto& y) {{ return y < x; }});
  return static_cast<int>(names.size());
}}
"""
SOURCES = 4


def prepare_sources(folder):
    for n in range(SOURCES):
        write(folder, f"s{n}.cc", CPP.format(n=n))


COMPILE = ("for n in {}; do clang++ -O1 -c s$n.cc -o s$n.o & pids=\"$pids $!\"; done; "
           "for p in $pids; do wait $p || exit 1; done").format(" ".join(map(str, range(SOURCES))))


def chromium(folder):
    return ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-dev-shm-usage", "--disable-extensions",
            f"--user-data-dir={folder}/profile", "--virtual-time-budget=5000", "--dump-dom",
            f"file://{folder}/page.html"]


PROGRAMS = {
    "postgres": Postgres(),
    "nginx": NginxReload(),
    "node": Command([("node", "nodejs")], lambda f: ["node", os.path.join(f, "work.js")],
                    prepare=lambda f: write(f, "work.js", NODE), images=("node",)),
    "java": Command([("keytool", "default-jre-headless"), ("java", "default-jre-headless")],
                    ["sh", "-c", KEYTOOL], images=("java", "keytool")),
    "chromium": Command([("chromium", "chromium")], chromium,
                        prepare=lambda f: write(f, "page.html", PAGE), images=("chromium",)),
    "python3": Command([("/usr/bin/python3", "python3")], ["/usr/bin/python3", "-c", PYTHON],
                       env={"PYTHONHASHSEED": "0"}, images=("python3.",)),
    "clang++": Command([("clang++", "clang")], ["sh", "-c", COMPILE], prepare=prepare_sources,
                       fingerprints=tuple(f"s{n}.o" for n in range(SOURCES)), images=("clang",)),
}


def public_parts(scratch):
    """The tracer where any user may run it."""
    public = scratch.folder("public")
    shutil.copy(h.ALLOCTAPE, public)
    for part in ("lib", "libexec"):
        if os.path.isdir(os.path.join(h.BUILD, part)):
            shutil.copytree(os.path.join(h.BUILD, part), os.path.join(public, part))
    return os.path.join(public, "alloctape")


def table(images):
    """One line for each executable."""
    rows = collections.defaultdict(list)
    for image in images:
        rows[image.name].append(image)
    for name, group in sorted(rows.items(), key=lambda row: -sum(i.events for i in row[1])):
        events, size = sum(i.events for i in group), sum(i.bytes for i in group)
        h.say(f"  {name}: {len(group)} images, {events} events, {size / events:.1f} bytes each, up to "
              f"{max(i.stat['threads'] for i in group)} threads, dropped 0, repaired "
              f"{sum(i.stat['order']['repaired'] for i in group)}, unrepairable 0")


def test(program):
    program.need()
    h.need_parts(h.PRELOAD, h.ALLOCTAPE)
    with h.Scratch() as scratch:
        os.chmod(scratch.path, 0o755)
        record = public_parts(scratch)

        def go(wrap):
            folder = os.path.join(scratch.path, "work")  # the same both times: it is in the output
            shutil.rmtree(folder, ignore_errors=True)
            os.mkdir(folder)
            if program.prepare:
                program.prepare(folder)
            return program.drive(h.clean_env(TMPDIR="/tmp", **program.env), folder, wrap)
        plain = go([])
        h.expect(plain.status == 0, f"untraced: exit status {plain.status}\n"
                 f"{plain.stderr.decode(errors='replace')[-2000:]}")
        traces = scratch.folder("traces")
        os.chmod(traces, 0o777)
        outcome = go([record, "record", "-o", os.path.join(traces, "%e.%p.atrace"), "--"])
        h.expect_same_outcome(plain, outcome, "recorded", stderr=False)
        h.say(f"untraced {plain.seconds:.1f} s, recorded {outcome.seconds:.1f} s")
        images = h.read_traces(traces)
        for image in images:
            h.expect_sound(image)
        table(images)
        said = outcome.stderr.decode(errors="replace")
        for name in program.images:
            # What cannot be traced is said: an allocator of its own, say.
            told = any("no call of" in line and name in line for line in said.splitlines())
            h.expect(told or any(i.name.startswith(name) for i in images),
                     f"no trace of {name}, and no word about it:\n{said[-2000:]}")
        for line in outcome.stderr.decode(errors="replace").splitlines():
            if line.startswith("alloctape: warning"):
                h.say(f"  record said: {line}")
        if hasattr(program, "judge"):
            program.judge(images, outcome)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in PROGRAMS:
        sys.exit(__doc__ + "\n" + " ".join(PROGRAMS))
    h.main(lambda: test(PROGRAMS[sys.argv[1]]))
