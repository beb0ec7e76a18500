"""A rehearsed restore: what it proves, what it says when the proof fails, and that it leaves nothing behind."""

import os
import signal
import sys
from pathlib import Path

import compare
import harness

# A daemon that answers once it has found its database, and ends on SIGTERM.
DAEMON = """
import os, signal, sys, time
node = os.environ["NODESNAP_DIRECTORY"]
if not os.path.exists(node + "/CURRENT"):
    sys.exit("no database in " + node)
open(sys.argv[1], "w").write(str(os.getpid()))
def stop(*_):
    open(sys.argv[1] + ".stopped", "w").write("by SIGTERM")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
open(sys.argv[1] + ".ready", "w").close()
while True:
    signal.pause()
"""


class Drill(harness.Case):
    def setUp(self):
        super().setUp()
        self.mount_point = self.file_system("btrfs", 1024)
        self.node = self.subvolume(self.mount_point / "node")
        (self.node / "CURRENT").write_bytes(b"MANIFEST-1\n")
        (self.node / "data").mkdir()
        for number in range(50):
            (self.node / "data" / f"{number}.sst").write_bytes(os.urandom(20_000))
        self.wanted = compare.snapshot_of(self.node)
        self.target = self.repository()
        self.ok("backup", self.node, self.target)
        self.place = self.mount_point / "scratch"
        self.place.mkdir()
        self.daemon = self.scratch / "daemon.py"
        self.daemon.write_text(DAEMON)
        self.pid_file = self.scratch / "pid"

    def drill(self, *options, expect=harness.DONE, **more):
        return self.run_program("drill", self.target, "--scratch-dir", self.place, *options, expect=expect, **more)

    def daemon_options(self):
        return ["--start-command", f"exec {sys.executable} {self.daemon} {self.pid_file}", "--ready-command", f"test -e {self.pid_file}.ready"]

    def assert_nothing_left(self):
        self.assertEqual(list(self.place.iterdir()), [])

    def test_what_it_proves(self):
        check = "test -e \"$NODESNAP_DIRECTORY/CURRENT\" && ls \"$NODESNAP_DIRECTORY/data\" | wc -l && echo \"$NODESNAP_BACKUP $NODESNAP_REASON\""
        backup = self.backups(self.target)[0]["id"]
        result = self.drill("--validate-command", check, *self.daemon_options(), "--json").json
        self.assertTrue(result["passed"])
        self.assertEqual(result["backup"], backup)
        self.assertEqual(result["files"], 51)
        self.assertEqual(result["validation"]["outcome"], "passed")
        self.assertEqual(result["validation"]["output"].split(), ["50", backup, "drill"])
        self.assertEqual(result["start"]["outcome"], "passed")
        self.assertEqual((self.scratch / "pid.stopped").read_text(), "by SIGTERM")
        steps = result["restore_seconds"] + result["validation"]["elapsed_seconds"] + result["start"]["elapsed_seconds"]
        self.assertAlmostEqual(result["recovery_seconds"], steps, places=6)
        self.assert_nothing_left()
        text = self.drill(backup[:12], "--validate-command", check)
        self.assertIn("every block was right", text.out)
        self.assertIn("validated in", text.out)
        self.assertIn("recovery time:", text.out)
        self.assertIn("not validated", self.drill().out)
        self.assertEqual(self.drill("--quiet").out, "")
        self.assert_nothing_left()

    def test_kept(self):
        result = self.drill("--keep", "--json").json
        kept = Path(result["kept_as"])
        self.assertEqual(kept.parent.parent, self.place)
        self.assertEqual(compare.differences(self.wanted, compare.snapshot_of(kept)), [])
        self.drill()  # removes only what is a drill's
        self.assertTrue((kept / "CURRENT").exists())
        self.assertEqual(len(list(self.place.iterdir())), 1)

    def test_what_is_not_good(self):
        failed = self.drill("--validate-command", "echo 3 tables are corrupt; exit 9", *self.daemon_options(), expect=harness.DAMAGED)
        self.assertIn("validation failed", failed.out)
        self.assertIn("exit status 9: 3 tables are corrupt", failed.err)
        self.assertIn("the daemon was not started", failed.out)
        self.assertFalse(self.pid_file.exists())
        missing = self.drill("--validate-command", "there-is-no-such-tool --check", expect=harness.WARNINGS)
        self.assertIn("could not be validated: exit status 127", missing.err)
        self.assertIn("validation not run", missing.out)
        late = self.drill("--validate-command", "exec sleep 1000", "--validate-timeout", "100ms", expect=harness.DAMAGED)
        self.assertIn("validation failed", late.out)
        document = self.drill("--validate-command", "exit 1", "--json", expect=harness.DAMAGED).json
        self.assertFalse(document["passed"])
        self.assertEqual(document["error"]["exit_status"], harness.DAMAGED)
        self.assert_nothing_left()

    def test_daemon_that_does_not_come_up(self):
        # A ready command that another daemon answers doesn't hide the end of this one. It answers once the shell is a zombie or gone.
        start = f"echo $$ > {self.pid_file}; echo cannot open the database; exit 3"
        ready = f"until test -s {self.pid_file} && ! grep -qs '^State:.*[RSDT] ' /proc/$(cat {self.pid_file})/status; do sleep 0.01; done"
        ended = self.drill("--start-command", start, "--ready-command", ready, expect=harness.FAILED)
        self.assertIn("ended before the daemon was ready", ended.err)
        self.assertIn("cannot open the database", ended.err)
        options = ["--start-command", f"exec {sys.executable} {self.daemon} {self.pid_file}", "--ready-command", "echo not yet; false", "--start-timeout", "300ms"]
        late = self.drill(*options, expect=harness.FAILED)
        self.assertIn("wasn't ready in time", late.err)
        self.assertIn("not yet", late.err)
        self.assert_nothing_left()

    def test_daemon_that_does_not_stop(self):
        start = "trap '' TERM; touch \"$NODESNAP_DIRECTORY/started\"; while :; do sleep 0.1; done"
        killed = self.drill("--start-command", start, "--ready-command", "test -e \"$NODESNAP_DIRECTORY/started\"", "--stop-timeout", "200ms",
                            expect=harness.WARNINGS)
        self.assertIn("did not stop in time", killed.err)
        by_command = self.drill(*self.daemon_options(), "--stop-command", f"kill -TERM $(cat {self.pid_file})")
        self.assertIn("was ready after", by_command.out)
        self.assertEqual((self.scratch / "pid.stopped").read_text(), "by SIGTERM")
        self.assert_nothing_left()

    def test_killed_it_leaves_what_the_next_one_removes(self):
        steps = self.steps_of("drill", self.target, "--scratch-dir", self.place, *self.daemon_options(), "--validate-command", "true")
        wanted = ("drill.begun", "drill.restored", "drill.validated", "drill.started")
        for step in wanted + ("restore.root-prepared", "restore.exchanged"):
            if step not in steps and step not in wanted:
                continue
            with self.subTest(step=step):
                self.assertIn(step, steps)
                result = self.run_program("drill", self.target, "--scratch-dir", self.place, *self.daemon_options(), "--validate-command", "true",
                                          program=harness.FAULTS, environment={"NODESNAP_SIGNAL_AT": f"{step}:1"})
                self.assertEqual(result.status, -signal.SIGKILL)
                self.assertEqual(len(list(self.place.iterdir())), 1)
                # A daemon that was started ends with the drill.
                harness.wait_for(lambda: not self.users(), "the daemon's end")
                self.drill()
                self.assert_nothing_left()

    def users(self):
        """Of the scratch place: processes with it in their environment, as the daemon has."""
        found = []
        for process in Path("/proc").iterdir():
            try:
                if process.name.isdigit() and os.fsencode(f"NODESNAP_DIRECTORY={self.place}") in (process / "environ").read_bytes():
                    found.append(process.name)
            except OSError:
                pass
        return found

    def test_two_at_once(self):
        gate = self.scratch / "gate"
        os.mkfifo(gate)
        first = self.start_program("drill", self.target, "--scratch-dir", self.place, "--validate-command", f"read line < {gate}")
        harness.wait_for(lambda: any((path / "node" / "CURRENT").exists() for path in self.place.iterdir()), "the first drill's restore")
        self.drill()
        self.assertEqual(len(list(self.place.iterdir())), 1)
        gate.write_text("go on\n")
        self.assertEqual(self.finish(first).status, harness.DONE)
        self.assert_nothing_left()

    def test_damage_is_found(self):
        pack = next(path for path in (self.target / "packs").rglob("*.pack"))
        with open(pack, "r+b") as file:
            file.seek(100_000)
            file.write(os.urandom(5000))
        self.assertIn(".sst", self.drill(expect=harness.DAMAGED).err)
        self.assert_nothing_left()

    def test_wrong_usage(self):
        for options, text in ((["--start-command", "true"], "needs --ready-command"), (["--ready-command", "true"], "--start-command"),
                              (["--profile", "quasardb2"], "quasardb"), (["no-such-backup"], "no-such-backup")):
            with self.subTest(options=options):
                result = self.drill(*options, expect=(harness.USAGE, harness.FAILED, harness.REFUSED))
                self.assertIn(text, result.err)
        absent = self.run_program("drill", self.target, "--scratch-dir", self.scratch / "absent")
        self.assertNotEqual(absent.status, harness.DONE)
        self.assertIn("absent", absent.err)
        self.assert_nothing_left()


class RocksDb(harness.Case):
    def test_profile(self):
        mount = self.file_system("btrfs", 1024)
        node = self.subvolume(mount / "node")
        for number in range(3):
            harness.tool("ldb", f"--db={node}", "--create_if_missing", "put", f"key{number}", "value" * 1000)
        target = self.repository()
        self.ok("backup", node, target)
        good = self.ok("drill", target, "--scratch-dir", mount, "--profile", "rocksdb", "--json").json
        self.assertEqual(good["validation"]["outcome"], "passed", good)
        table = next(node.glob("*.sst"))
        table.unlink()
        self.ok("backup", node, target)
        bad = self.run_program("drill", target, "--scratch-dir", mount, "--profile", "rocksdb", expect=harness.DAMAGED)
        self.assertIn("checkconsistency", bad.err)
        self.assertIn(table.stem, bad.err + bad.out)
        self.assertEqual([path.name for path in mount.iterdir() if "drill" in path.name], [])


if __name__ == "__main__":
    harness.main()
