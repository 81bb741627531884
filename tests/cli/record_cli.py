"""Runs `alloctape record` as a user would. Usage: record_cli.py ALLOCTAPE STATIC_PROGRAM"""
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ALLOCTAPE, STATIC_PROGRAM = sys.argv[1], sys.argv[2]
SH = "/bin/sh"


class RecordTest(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory(prefix="alloctape-test-")
        self.folder = os.path.realpath(self.scratch.name)
        self.environment = dict(os.environ, TMPDIR=self.folder)
        self.environment.pop("LD_PRELOAD", None)

    def tearDown(self):
        self.scratch.cleanup()

    def start(self, *arguments, **options):
        return subprocess.Popen(
            [ALLOCTAPE, "record", *arguments], cwd=options.pop("cwd", self.folder),
            env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, **options)

    def record(self, *arguments, **options):
        process = self.start(*arguments, **options)
        process.out, process.err = process.communicate(timeout=60)
        return process

    def on_terminal(self, *arguments, wait_for=None, then_type=b""):
        """Runs record on a terminal of its own; returns its status and what the terminal showed."""
        try:
            pid, terminal = pty.fork()
        except OSError as error:
            self.skipTest(f"no terminal to be had here: {error}")
        if pid == 0:
            os.chdir(self.folder)
            os.environ["TERM"] = "xterm"
            os.execv(ALLOCTAPE, [ALLOCTAPE, "record", *arguments])
        seen = b""
        try:
            while chunk := os.read(terminal, 4096):
                seen += chunk
                if wait_for and wait_for in seen:
                    wait_for = None
                    time.sleep(0.05)  # for the shell to start its sleep
                    os.write(terminal, then_type)
        except OSError:
            pass  # how Linux tells that the other side has gone
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status), seen

    def traces(self):
        return sorted(name for name in os.listdir(self.folder) if ".atrace" in name)

    def images(self, *arguments):
        """Records with --json and returns what it says of each image."""
        self.record("--json", "summary.json", *arguments)
        with open(os.path.join(self.folder, "summary.json")) as file:
            summary = json.load(file)
        self.assertEqual(summary["schema"], {"name": "alloctape.record", "version": 1})
        return summary["images"]

    # The program's own ways are left alone.

    def test_output_and_status_are_the_programs(self):
        done = self.record("--", SH, "-c", "echo out; echo err >&2; exit 7")
        self.assertEqual((done.returncode, done.out), (7, "out\n"))
        self.assertIn("err\n", done.err)

    def test_a_signal_becomes_a_status_as_in_a_shell(self):
        self.assertEqual(self.record("--", SH, "-c", "kill -KILL $$").returncode, 128 + 9)

    def test_a_program_that_is_not_there(self):
        done = self.record("--", "no-such-program")
        self.assertEqual(done.returncode, 127)
        self.assertRegex(done.err, r"^alloctape: error: cannot run no-such-program: ")

    def test_a_file_that_cannot_be_run(self):
        with open(os.path.join(self.folder, "text"), "w") as file:
            file.write("no program\n")
        self.assertEqual(self.record("--", "./text").returncode, 126)

    def test_options_after_the_program_are_the_programs(self):
        done = self.record("--", SH, "-c", 'echo "$@"', "sh", "--quiet", "-o", "x", "--")
        self.assertEqual(done.out, "--quiet -o x --\n")
        self.assertEqual(self.record(SH, "-c", "exit 5").returncode, 5)

    def test_signals_are_passed_on(self):
        for number, name in ((signal.SIGTERM, "TERM"), (signal.SIGHUP, "HUP"),
                             (signal.SIGUSR1, "USR1"), (signal.SIGINT, "INT")):
            process = self.start("--quiet", "--", SH, "-c",
                                 f"trap 'echo got {name}; exit 9' {name}; echo ready; "
                                 "while :; do sleep 0.05; done")
            self.assertEqual(process.stdout.readline(), "ready\n")
            process.send_signal(number)
            out, _ = process.communicate(timeout=20)
            self.assertEqual((out, process.returncode), (f"got {name}\n", 9))

    def test_an_interrupt_from_the_terminal_is_the_programs_affair(self):
        status, seen = self.on_terminal(
            "--", SH, "-c", "trap 'echo once' INT; echo ready; sleep 0.3; sleep 0.3; exit 6",
            wait_for=b"ready", then_type=b"\x03")
        self.assertEqual(status, 6, seen)
        self.assertEqual(seen.count(b"once"), 1, "the terminal sends it to the program; record must not")

    def test_ignored_signals_stay_ignored_and_others_do_not(self):
        done = self.record("-q", "--", SH, "-c", "grep -E 'Sig(Ign|Blk)' /proc/self/status",
                           restore_signals=True)
        self.assertEqual(set(re.findall(r"([0-9a-f]{16})", done.out)), {"0" * 16})

    def test_the_users_preload_list_is_kept_behind_ours(self):
        self.environment["LD_PRELOAD"] = "libm.so.6"
        done = self.record("-q", "--", SH, "-c", 'echo "$LD_PRELOAD"; cat /proc/$$/maps')
        if "ASan runtime does not come first" in done.err:
            self.skipTest("a driver built with AddressSanitizer takes no LD_PRELOAD of the user's")
        self.assertRegex(done.out.splitlines()[0], r"^(/.*/liballoctape-preload\.so[: ])?libm\.so\.6$")
        self.assertIn("libm.so.6", done.out.split("\n", 1)[1])

    # Traces and their names.

    def test_one_trace_an_image_by_default_in_the_current_directory(self):
        self.record("--", SH, "-c", "ls >/dev/null; exit 0")
        names = self.traces()
        self.assertEqual(len(names), 2)
        for name in names:
            self.assertRegex(name, r"^alloctape\.[a-z]+\.[0-9]+\.atrace$")

    def test_a_plain_name_goes_to_the_first_image_and_is_counted_on(self):
        images = self.images("-o", "one.atrace", "--", SH, "-c", "ls >/dev/null; ls >/dev/null; :")
        self.assertEqual(self.traces(), ["one.atrace", "one.atrace.1", "one.atrace.2"])
        self.assertEqual(os.path.basename(images[0]["trace"]), "one.atrace")

    def test_an_older_recording_of_that_name_is_replaced(self):
        self.record("-o", "one.atrace", "--", SH, "-c", "ls >/dev/null; :")
        self.record("-o", "one.atrace", "--", "ls")
        self.assertEqual(self.traces(), ["one.atrace"])

    def test_a_file_that_is_no_trace_is_not_overwritten(self):
        path = os.path.join(self.folder, "precious")
        with open(path, "w") as file:
            file.write("keep me\n")
        done = self.record("-o", "precious", "--", SH, "-c", "echo ran")
        self.assertEqual((done.returncode, done.out), (1, ""))
        with open(path) as file:
            self.assertEqual(file.read(), "keep me\n")

    def test_percent_signs(self):
        self.record("-o", "100%%.%e.atrace", "--", "ls")
        self.assertEqual(self.traces(), ["100%.ls.atrace"])
        self.assertEqual(self.record("-o", "a%q", "--", "ls").returncode, 2)
        odd = os.path.join(self.folder, "50%e")
        os.mkdir(odd)
        self.record("-o", "t.atrace", "--", "ls", cwd=odd)
        self.assertEqual(os.listdir(odd), ["t.atrace"])

    def test_a_program_that_changes_its_directory(self):
        self.record("-o", "%e.atrace", "--", SH, "-c", "cd /; ls >/dev/null; :")
        self.assertIn("ls.atrace", self.traces())

    def test_an_image_that_execs_keeps_its_trace(self):
        images = self.images("--", SH, "-c", "exec ls")
        self.assertEqual([i["program"] == "ls" for i in images], [False, True])
        self.assertEqual(images[0]["pid"], images[1]["pid"])
        self.assertEqual(images[0]["state"], "exec")
        self.assertGreater(images[0]["events"], 0)

    def test_no_follow_traces_the_first_image_only(self):
        images = self.images("--no-follow", "--", SH, "-c", "ls >/dev/null; :")
        self.assertEqual(len(images), 1)

    def test_an_output_directory_that_is_not_there(self):
        done = self.record("-o", "missing/x.atrace", "--", SH, "-c", "echo ran")
        self.assertEqual((done.returncode, done.out), (1, ""))
        self.assertIn("missing", done.err)

    # What is said.

    def test_quiet_is_quiet(self):
        done = self.record("--quiet", "--", "ls")
        self.assertEqual(done.err, "")

    def test_the_summary_goes_to_stderr(self):
        done = self.record("--", SH, "-c", ":")
        self.assertEqual(done.out, "")
        self.assertRegex(done.err, r"alloctape: sh ended with status 0 after .*: 1 process image")
        self.assertNotIn("\r", done.err)

    def test_a_static_program_is_told_loudly_and_run(self):
        done = self.record("--", STATIC_PROGRAM)
        self.assertEqual(done.returncode, 3)
        self.assertEqual(done.err.count("statically linked"), 2, "before and after")
        self.assertEqual(self.traces(), [])

    def test_the_memory_of_a_program_is_sampled(self):
        program = ("import time\nblock = bytearray(64 << 20)\nfor i in range(0, len(block), 4096): "
                   "block[i] = 1\ntime.sleep(0.2)\n")
        images = self.images("--", sys.executable, "-c", program)
        peak = max(i["peak_anon_bytes"] or 0 for i in images)
        self.assertGreater(peak, 64 << 20)
        self.assertLess(peak, 128 << 20)

    def test_stragglers_are_named_and_left(self):
        begin = time.monotonic()
        done = self.record("--", SH, "-c", "sleep 3 >/dev/null 2>&1 & exit 4")
        self.assertEqual(done.returncode, 4)
        self.assertLess(time.monotonic() - begin, 2)
        self.assertIn("still running", done.err)

    def test_wait_all_waits(self):
        done = self.record("--wait-all", "--", SH, "-c", "(sleep 0.5; exit 1) >/dev/null & exit 4")
        self.assertEqual(done.returncode, 4)
        self.assertNotIn("still running", done.err)

    def test_nothing_is_left_behind(self):
        self.record("--", "ls")
        self.assertEqual([n for n in os.listdir(self.folder) if "session" in n], [])

    def test_the_live_line_on_a_terminal(self):
        _, seen = self.on_terminal("--", "sleep", "0.7")
        self.assertIn(b"recording: ", seen)
        self.assertIn(b"RSS", seen)
        self.assertIn(b"ended with status 0", seen)

    def test_usage_errors(self):
        self.assertEqual(self.record().returncode, 2)
        self.assertEqual(self.record("--").returncode, 2)
        self.assertEqual(self.record("--no-such-option", "--", "ls").returncode, 2)
        self.assertEqual(self.record("-o", "", "--", "ls").returncode, 2)

    def test_help(self):
        done = self.record("--help")
        self.assertEqual(done.returncode, 0)
        self.assertIn("--strict-order", done.out)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
