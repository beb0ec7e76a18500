"""Holding the daemon: with a hold no backup is ever out of order, without one it says so; and the daemon comes back whatever happens."""

import os
import re
import signal
import subprocess
import unittest

import harness
import hold_case

NO_CGROUPS = hold_case.why_no_cgroups()
BACKUPS = 6


@unittest.skipIf(NO_CGROUPS, NO_CGROUPS)
class Frozen(hold_case.HoldCase):
    def test_no_backup_is_out_of_order(self):
        repository = self.repository()
        cgroup, child = self.daemon()
        downtimes, last = [], 0
        for _ in range(BACKUPS):
            document = self.held(repository, *self.freezing(child))
            self.assertEqual(document["held"], "cgroup /" + cgroup.directory.name)
            self.assertGreater(document["backup"]["downtime_ms"], 0)
            downtimes.append(document["backup"]["downtime_ms"])
            self.expect_running()
            in_order, said = self.order_of(repository, document["backup"]["id"])
            self.assertTrue(in_order, said)
            self.assertGreater(int(said), last)
            last = int(said)
        self.nothing_is_left()
        self.ok("verify", repository, "--data")
        shown = self.ok("show", repository, "latest").out
        self.assertRegex(shown, r"consistency: +point-in-time\n")
        self.assertRegex(shown, r"daemon held: +for [0-9.]+ ms\n")
        self.assertIn("point-in-time", self.ok("list", repository).out)
        print(f"held for {', '.join(f'{downtime:.1f}' for downtime in downtimes)} ms; {last} records")

    def test_a_unit(self):
        repository = self.repository()
        cgroup, _ = self.daemon()
        environment = self.unit(properties=f"ControlGroup=/{cgroup.directory.name}\n")
        document = self.held(repository, "--hold", "freeze", "--unit", "qdbd", environment=environment)
        self.assertEqual(document["held"], "unit qdbd.service")
        self.assertGreater(document["backup"]["downtime_ms"], 0)
        self.expect_running()
        # By an INI file, too.
        configuration = self.scratch / "nodesnap.conf"
        configuration.write_text("[backup]\nhold = freeze\nunit = qdbd\nmax-downtime = 5s\n")
        self.assertEqual(self.held(repository, "--config", configuration, environment=environment)["held"], "unit qdbd.service")
        # A daemon that was started by hand while its unit is down.
        (self.scratch / "units" / "qdbd.service").write_text("inactive\n")
        result = self.run_program("backup", self.node, repository, "--hold", "freeze", "--unit", "qdbd", environment=environment, expect=harness.REFUSED)
        self.assertIn("unit qdbd.service doesn't run, but record_writer (pid", result.err)
        self.assertIn("--pid", result.err)

    def test_the_checker_sees_what_is_out_of_order(self):
        _, child = self.daemon()
        child.send_signal(signal.SIGTERM)
        self.assertEqual(child.wait(), 0)

        def check():
            return subprocess.run([harness.RECORDS, "check", str(self.node)], stdout=subprocess.PIPE, check=False).returncode

        self.assertEqual(check(), 0)
        os.truncate(self.node / "log1", (self.node / "log1").stat().st_size - 2 * 512)
        self.assertEqual(check(), 1)

    def test_the_snapshot_is_taken_while_it_is_frozen(self):
        repository = self.repository()
        _, child = self.daemon()
        listing = self.scratch / "steps"
        self.held(repository, *self.freezing(child), program=harness.FAULTS, environment={"NODESNAP_LIST_STEPS": str(listing)})
        steps = listing.read_text().split()
        order = ["hold.intent-written", "guard.ready", "hold.asking", "hold.frozen", "hold.held", "snapshot.taken", "hold.releasing", "guard.released",
                 "guard.intent-removed", "backup.snapshot-taken", "backup.snapshot-recorded", "backup.published"]
        self.assertEqual([step for step in steps if step in order], order)

    def test_without_a_hold_it_is_crash_consistent(self):
        repository = self.repository()
        self.daemon()
        document = self.ok("backup", self.node, repository, "--json").json
        self.assertEqual(document["backup"]["consistency"], "crash-consistent")
        self.assertEqual(document["backup"]["downtime_ms"], 0)
        self.assertEqual(document["held"], "")
        self.assertNotIn("daemon held", self.ok("show", repository, "latest").out)

    def test_a_dry_run_holds_nothing(self):
        repository = self.repository()
        _, child = self.daemon()
        steps = self.steps_of("backup", self.node, repository, *self.freezing(child), "--dry-run")
        self.assertEqual([step for step in steps if step.startswith(("hold.", "guard."))], [])

    def test_another_writer_is_refused_and_nothing_touched(self):
        repository = self.repository()
        cgroup, child = self.daemon()
        other = self.outsider()
        before = hold_case.contents(repository)
        listing = self.scratch / "steps"
        result = self.run_program("backup", self.node, repository, *self.freezing(child), program=harness.FAULTS, expect=harness.REFUSED,
                                  environment={"NODESNAP_LIST_STEPS": str(listing)})
        self.assertIn(f"sleep (pid {other.pid}) has {self.node}/other open for writing", result.err)
        self.assertIn("hint:", result.err)
        self.assertNotIn("hold.", listing.read_text() if listing.exists() else "")
        self.assertEqual(hold_case.contents(repository), before)
        self.assertFalse((self.state / "nodes.json").exists())
        self.assertEqual(self.intents(), [])
        self.assertEqual(self.ok("snapshot", "list", self.node, "--json").json["snapshots"], [])
        self.assertFalse(cgroup.asked_to_freeze())
        # What isn't backed up doesn't matter.
        self.held(repository, *self.freezing(child), "--exclude", "/other")

    def test_a_writer_that_comes_while_it_is_frozen_is_told(self):
        repository = self.repository()
        cgroup, child = self.daemon()
        backup = self.stopped_at_hold(repository, *self.freezing(child), "--json")
        self.expect_standing(cgroup)
        other = self.outsider()
        backup.send_signal(signal.SIGCONT)
        result = self.finish(backup)
        self.assertEqual(result.status, harness.WARNINGS, str(result))
        self.assertEqual(result.json["backup"]["consistency"], "crash-consistent")
        self.assertIn(f"(pid {other.pid})", result.json["hold_doubt"])
        self.assertTrue(any("only crash-consistent" in warning for warning in result.json["warnings"]), str(result))
        self.expect_running()

    def test_a_broken_hold_is_told(self):
        repository = self.repository()
        cgroup, child = self.daemon()
        backup = self.stopped_at_hold(repository, *self.freezing(child), "--json")
        (cgroup.directory / "cgroup.freeze").write_text("0")
        self.expect_running()
        backup.send_signal(signal.SIGCONT)
        result = self.finish(backup)
        self.assertEqual(result.status, harness.WARNINGS, str(result))
        self.assertEqual(result.json["backup"]["consistency"], "crash-consistent")
        self.assertIn("thawed by something else", result.json["hold_doubt"])

    def test_past_the_longest_downtime_it_runs_again(self):
        repository = self.repository()
        cgroup, child = self.daemon()
        backup = self.stopped_at_hold(repository, "--hold", "freeze", "--pid", child.pid, "--max-downtime", "1s", "--json")
        harness.wait_for(lambda: not cgroup.asked_to_freeze(), "the guard to let go")
        self.expect_running()
        backup.send_signal(signal.SIGCONT)
        result = self.finish(backup)
        self.assertEqual(result.json["backup"]["consistency"], "crash-consistent")
        self.assertIn("--max-downtime", result.json["hold_doubt"])

    def test_killed_at_every_step(self):
        """nodesnap, or its guard: the daemon runs, and the next backup works."""
        repository = self.repository()
        cgroup, child = self.daemon()
        all_steps = self.held_steps(repository, child)
        around = [step for step in all_steps if step.startswith(("hold.", "guard.", "backup.s", "snapshot.taken"))]
        for wanted in ("hold.intent-written", "hold.asked", "hold.freezing", "hold.frozen", "hold.held", "snapshot.taken", "hold.releasing", "hold.released",
                       "guard.held", "guard.releasing", "guard.released", "guard.intent-removed", "backup.snapshot-taken"):
            self.assertIn(wanted, around)
        for step in around:
            with self.subTest(step=step):
                result = self.killed_at(step, repository, *self.freezing(child))
                harness.wait_for(lambda: not cgroup.asked_to_freeze(), f"the daemon to be let go after {step}")
                self.expect_running()
                # Of the guard's steps nodesnap hears, and fails, unless all that matters is done.
                self.assertIn(result.status, (-signal.SIGKILL, harness.FAILED, harness.DONE, harness.WARNINGS), str(result))
                document = self.next_backup(repository, child)
        in_order, said = self.order_of(repository, document["backup"]["id"])
        self.assertTrue(in_order, said)
        self.nothing_is_left()
        self.ok("verify", repository)

    def held_steps(self, repository, child):
        listing = self.scratch / "steps"
        self.held(repository, *self.freezing(child), program=harness.FAULTS, environment={"NODESNAP_LIST_STEPS": str(listing)})
        return list(dict.fromkeys(listing.read_text().split()))

    def next_backup(self, repository, child):
        """It may have to undo first what was left behind, and says so."""
        result = self.run_program("backup", self.node, repository, *self.freezing(child), "--json", expect=(harness.DONE, harness.WARNINGS))
        self.assertEqual(result.json["backup"]["consistency"], "point-in-time", str(result))
        return result.json

    def test_release_after_both_were_killed(self):
        repository = self.repository()
        cgroup, child = self.daemon()
        backup = self.stopped_at_hold(repository, *self.freezing(child))
        state = ("--state-dir", self.state)
        living = self.run_program("release", *state, "--json", expect=harness.REFUSED).json["holds"]
        self.assertEqual([(hold["state"], hold["what"], hold["pid"]) for hold in living], [("held", f"cgroup /{cgroup.directory.name}", backup.pid)])
        self.expect_standing(cgroup)
        (guard,) = [int(line) for line in harness.tool("ps", "-o", "pid=", "--ppid", backup.pid).split()]
        os.kill(guard, signal.SIGKILL)
        backup.kill()
        backup.wait()
        self.expect_standing(cgroup)
        self.assertIn("let go: cgroup", self.ok("release", *state).out)
        self.expect_running()
        self.nothing_is_left()
        self.held(repository, *self.freezing(child))

    def test_a_backup_that_is_gone_on_with_keeps_its_label(self):
        repository = self.repository()
        cgroup, child = self.daemon()
        for held in (True, False):
            with self.subTest(held=held):
                # More than one pack, all by one worker: of less there is nothing to go on with.
                one = ("--workers", "1")
                (self.node / f"large-{held}").write_bytes(os.urandom(150 << 20))
                self.assertEqual(self.killed_at("backup.before-publish", repository, *one, *(self.freezing(child) if held else ())).status,
                                 -signal.SIGKILL)
                listing = self.scratch / f"steps-{held}"
                # The other way: what counts is how its snapshot was taken.
                result = self.run_program("backup", self.node, repository, *one, *(() if held else self.freezing(child)), "--json", program=harness.FAULTS,
                                          environment={"NODESNAP_LIST_STEPS": str(listing)}, expect=harness.DONE)
                self.assertTrue(result.json["resumed"], str(result))
                self.assertNotIn("hold.", listing.read_text())
                self.assertEqual(result.json["backup"]["consistency"], "point-in-time" if held else "crash-consistent")
                self.assertEqual(result.json["backup"]["downtime_ms"] > 0, held)
        self.assertFalse(cgroup.asked_to_freeze())


class Commands(hold_case.HoldCase):
    """Stopping by commands, and hooks."""

    def setUp(self):
        super().setUp()
        self.pid_file = self.scratch / "pid"
        self.start = f"setsid {harness.RECORDS} write {self.node} {self.pid_file} </dev/null >/dev/null 2>&1 & until test -e {self.pid_file}; do sleep 0.01; done"
        self.stop = f"kill $(cat {self.pid_file}); while test -e {self.pid_file}; do sleep 0.01; done"
        self.stack.callback(self.end_daemon)

    def end_daemon(self):
        if self.pid_file.exists():
            pid = self.pid()
            harness.tool("/bin/sh", "-c", self.stop)
            harness.wait_for(lambda: not os.path.exists(f"/proc/{pid}") or "Z" in harness.tool("ps", "-o", "state=", "-p", pid, check=False),
                             "the daemon's end")
        self.ok("release", "--state-dir", self.state)  # removes the cgroup that it was started in

    def pid(self):
        return int(self.pid_file.read_text())

    def stopping(self):
        return ("--hold", "stop", "--stop-command", self.stop, "--start-command", self.start, "--status-command", f"test -e {self.pid_file}")

    def test_it_is_stopped_and_started(self):
        repository = self.repository()
        harness.tool("/bin/sh", "-c", self.start)
        first = self.pid()
        self.expect_running()
        document = self.held(repository, *self.stopping())
        self.assertEqual(document["held"], "the daemon")
        self.assertGreater(document["backup"]["downtime_ms"], 0)
        self.expect_running()
        self.assertNotEqual(self.pid(), first)
        in_order, said = self.order_of(repository, document["backup"]["id"])
        self.assertTrue(in_order, said)
        self.nothing_is_left()

    def test_a_unit_is_stopped_and_started(self):
        repository = self.repository()
        harness.tool("/bin/sh", "-c", self.start)
        state = self.scratch / "units" / "qdbd.service"
        environment = self.unit(stop=f"{self.stop}; echo inactive >{state}", start=f"{self.start}; echo active >{state}")
        document = self.held(repository, "--hold", "stop", "--unit", "qdbd", environment=environment)
        self.assertEqual(document["held"], "unit qdbd.service")
        self.assertEqual((self.scratch / "units" / "calls").read_text(), "stop qdbd.service\nstart qdbd.service\n")
        in_order, said = self.order_of(repository, document["backup"]["id"])
        self.assertTrue(in_order, said)
        self.expect_running()

    def test_what_is_down_stays_down(self):
        repository = self.repository()
        document = self.held(repository, *self.stopping())
        self.assertEqual(document["backup"]["downtime_ms"], 0)
        self.assertFalse(self.pid_file.exists())
        # With somebody else at work there that is refused.
        other = self.outsider()
        result = self.run_program("backup", self.node, repository, *self.stopping(), expect=harness.REFUSED)
        self.assertIn(f"(pid {other.pid})", result.err)

    def test_who_is_not_stopped_makes_it_fail(self):
        repository = self.repository()
        harness.tool("/bin/sh", "-c", self.start)
        other = self.outsider()
        result = self.run_program("backup", self.node, repository, *self.stopping(), expect=harness.FAILED)
        self.assertIn(f"(pid {other.pid})", result.err)
        self.expect_running()
        self.assertEqual(self.backups(repository), [])
        self.assertEqual(self.ok("snapshot", "list", self.node, "--json").json["snapshots"], [])
        self.nothing_is_left()

    def test_killed_while_it_is_stopped(self):
        repository = self.repository()
        for step in ("hold.asked", "hold.held", "snapshot.taken", "hold.released"):
            with self.subTest(step=step):
                if not self.pid_file.exists():
                    harness.tool("/bin/sh", "-c", self.start)
                self.assertEqual(self.killed_at(step, repository, *self.stopping()).status, -signal.SIGKILL)
                harness.wait_for(lambda: self.intents() == [], "the guard's end")
                self.expect_running()
                self.held(repository, *self.stopping())
                self.expect_running()

    def test_nothing_is_restored_into_what_is_held(self):
        """The guard starts the daemon, whoever writes there then."""
        repository = self.repository()
        harness.tool("/bin/sh", "-c", self.start)
        self.held(repository, *self.stopping())
        backup = self.stopped_at_hold(repository, *self.stopping(), "--max-downtime", "60s")
        for place in (self.node, self.mount_point, self.node / "log0"):
            result = self.run_program("restore", repository, "latest", place, "--delta", "--state-dir", self.state, expect=harness.REFUSED)
            self.assertIn("is held for a backup", result.err)
            self.assertIn("nodesnap release", result.err)
        result = self.run_program("rollback", self.node, "latest", "--state-dir", self.state, expect=harness.REFUSED)
        self.assertIn("is held for a backup", result.err)
        backup.send_signal(signal.SIGCONT)
        self.assertIn(self.finish(backup).status, (harness.DONE, harness.WARNINGS))
        self.expect_running()

    def test_hooks_are_told_what_happens(self):
        repository = self.repository()
        harness.tool("/bin/sh", "-c", self.start)
        hooks = ("--hold", "hook", "--before-command", f"env >{self.scratch}/before", "--after-command", f"env >>{self.scratch}/after")
        document = self.held(repository, *hooks, point_in_time=False)
        # The daemon went on writing: nothing proves what the hook has done to it.
        self.assertIn("record_writer (pid", document["hold_doubt"])
        before, after = [set((self.scratch / name).read_text().split("\n")) for name in ("before", "after")]
        self.assertLessEqual({"NODESNAP_HOLD=hold", "NODESNAP_REASON=backup", f"NODESNAP_NODE_DIRECTORY={self.node}"}, before)
        self.assertLessEqual({"NODESNAP_HOLD=release", "NODESNAP_REASON=done", f"NODESNAP_NODE_DIRECTORY={self.node}"}, after)
        identity = [line for line in before if re.fullmatch("NODESNAP_HOLD_ID=[0-9a-f]{16}", line)]
        self.assertEqual(len(identity), 1)
        self.assertIn(identity[0], after)
        self.nothing_is_left()

    def test_a_hook_that_stops_the_daemon_gives_a_point_in_time(self):
        repository = self.repository()
        harness.tool("/bin/sh", "-c", self.start)
        document = self.held(repository, "--hold", "hook", "--before-command", self.stop, "--after-command", self.start)
        in_order, said = self.order_of(repository, document["backup"]["id"])
        self.assertTrue(in_order, said)
        self.expect_running()

    def test_a_hook_that_fails(self):
        repository = self.repository()
        result = self.run_program("backup", self.node, repository, "--hold", "hook", "--before-command", "echo no such table; exit 3",
                                  "--after-command", f"env >{self.scratch}/after", expect=harness.FAILED)
        self.assertIn("no such table", result.err)
        self.assertIn("NODESNAP_REASON=failed\n", (self.scratch / "after").read_text())
        self.assertEqual(self.backups(repository), [])


if __name__ == "__main__":
    harness.main()
