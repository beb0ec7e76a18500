"""A rollback of a classic LVM volume that is cut off: the directory is the old one or the new one, what runs on it is, too, and the next command says which.

NODESNAP_SEED says at which steps, of those that there are, it is killed."""

import os
import shutil
import signal

import lvm_case
import harness  # found by lvm_case
from harness import DONE, FAULTS, REFUSED, WARNINGS, tool
from lvm_case import GROUP
from lvm_merge_case import MergeCase
from lvm_rollback_case import random_of_test

AS_IT_WAS = ("rollback.begun", "rollback.unmounted", "rollback.kept", "file.synced:2", "rollback.noted")  # the record is written twice
AS_THE_SNAPSHOT = tuple(f"rollback.{step}" for step in ("merge-asked", "merging", "merged", "anew", "renewed", "exchanged", "tidied"))
MOUNTED = ("rollback.begun", "rollback.exchanged", "rollback.tidied")


class CutOff(MergeCase):
    def setUp(self):
        super().setUp()
        self.random = random_of_test()

    def large_node(self):
        """With as much to be merged that it can be caught at it: slow_copies() makes it a second for each MiB or so."""
        node, _ = self.node("ext4")
        self.overwrite(node)
        self.ok("snapshot", "remove", node, "first", "--snapshot", "lvm")
        self.ok("snapshot", "create", node, "first", "--snapshot", "lvm", "--snapshot-size", "96M")
        first = self.content(node)
        self.overwrite(node)
        self.change(node)
        return node, first, self.content(node)

    @staticmethod
    def overwrite(node):
        (node / "large").write_bytes(os.urandom(64 << 20))
        os.sync()

    def kill_at(self, step, node, *options, number=signal.SIGKILL):
        return self.rollback(node, "first", *options, program=FAULTS, environment={"NODESNAP_SIGNAL_AT": step, "NODESNAP_SIGNAL": str(int(number))},
                             expect=-9)

    def await_another(self, daemon, pid):
        harness.wait_for(lambda: daemon.pid not in ("", pid), "the daemon")
        self.assertTrue(daemon.runs_on_it())

    def assert_ended(self, node, wanted, is_new, message, told=True, lost=False):
        """By the next command, which says which it is, and leaves nothing."""
        entries, warnings = self.entries(node, expect=(DONE, WARNINGS))
        self.assertEqual(len(warnings), int(told), message)
        if told:
            self.assertIn("after it had taken place" if is_new else "before it took place", warnings[0], message)
            self.assertEqual("couldn't be made anew" in warnings[0], lost, message)
        self.assert_same(wanted, node, message)
        self.assertIn("noatime", self.mounted(node))
        self.assertEqual("first" in entries, not lost, message)
        self.assertEqual(len(entries), int(is_new) + int(not lost), message)
        self.assert_tidy()
        return next((name for name in entries if "before" in name), None)

    def test_killed_at_a_step(self):
        node, first = self.node("xfs")
        steps = [self.random.choice(AS_IT_WAS), self.random.choice(AS_THE_SNAPSHOT)]
        for step in steps:
            with self.subTest(step=step):
                self.change(node)
                old = self.content(node)
                self.kill_at(step, node)
                self.assertEqual(os.path.ismount(node), step in MOUNTED)
                is_new = step in AS_THE_SNAPSHOT
                kept = self.assert_ended(node, first if is_new else old, is_new, f"killed at {step}: ", told=step != "rollback.tidied")
                if is_new:
                    self.ok("snapshot", "remove", node, kept, "--snapshot", "lvm")
        # The snapshot that was made anew is what it was.
        self.change(node)
        self.rollback(node, "first")
        self.assert_same(first, node)

    def test_killed_while_a_merge_is_asked_for(self):
        """LVM's program goes on, and what it is about to do must not be taken for something that wasn't begun."""
        node, first = self.node("ext4")
        programs, begun, go_on = self.scratch / "programs", self.scratch / "begun", self.scratch / "go-on"
        programs.mkdir()
        (programs / "lvconvert").write_text(f"#!/bin/sh\ntouch {begun}\nuntil [ -e {go_on} ]; do sleep 0.05; done\nexec {shutil.which('lvconvert')} \"$@\"\n")
        (programs / "lvconvert").chmod(0o755)
        child = self.start_program("rollback", node, "first", "--snapshot", "lvm", environment={"PATH": f"{programs}:{os.environ['PATH']}"})
        harness.wait_for(lambda: begun.exists() or child.poll() is not None, "the merge")
        child.kill()
        child.wait()
        self.run_program("snapshot", "list", node, "--snapshot", "lvm")  # of what isn't mounted now
        self.assertFalse(os.path.ismount(node))
        go_on.touch()
        harness.wait_for(lambda: "first" not in tool("lvs", "-a", "--noheadings", "-o", "lv_name", GROUP), "the end of the merge")
        self.assert_ended(node, first, True, "killed while it is asked for: ")

    def test_what_is_started_finds_the_old_or_the_new_directory(self):
        node, first, old = self.large_node()
        hold, daemon = self.daemon(node / "file0")
        # Stopped before anything is merged, until the time is over: then it must not go on.
        step, pid = self.random.choice(AS_IT_WAS[1:]), daemon.pid
        self.kill_at(step, node, *hold, "--max-downtime", "2s", number=signal.SIGSTOP)
        self.await_another(daemon, pid)
        self.assert_ended(node, old, False, f"stopped at {step}: ")
        # In the middle of the merge: it goes on while the daemon runs.
        self.slow_copies()
        pid = daemon.pid
        self.kill_at("rollback.merging", node, *hold)
        self.await_another(daemon, pid)
        self.assertTrue(self.is_merging(self.name))
        kept = self.assert_ended(node, first, True, "killed while it is merged: ", lost=True)
        self.assertIn("is being merged", self.rollback(node, kept, *hold, expect=REFUSED).err)
        self.end_merge()
        # It isn't waited for, since somebody wants an end of it.
        self.ok("snapshot", "create", node, "first", "--snapshot", "lvm", "--snapshot-size", "96M")
        self.overwrite(node)
        self.slow_copies()
        pid = daemon.pid
        done = self.rollback(node, "first", *hold, program=FAULTS, environment={"NODESNAP_INTERRUPT_AT": "rollback.merging"}, expect=WARNINGS).json
        self.fast_copies()
        self.assertIn("interrupted before all was copied", done["warnings"][0])
        self.assertNotEqual(daemon.pid, pid)
        self.assertTrue(daemon.runs_on_it())
        self.assert_same(first, node)
        self.assertEqual(sorted(self.entries(node)[0]), sorted([kept, done["kept_as"]]))

    def test_the_host_goes_down_while_it_is_merged(self):
        node, first, old = self.large_node()
        self.slow_copies()
        self.kill_at("rollback.merging", node)
        self.assertTrue(self.is_merging(self.name))
        tool("vgchange", "-qq", "-an", GROUP)
        tool("vgchange", "-qq", "-ay", GROUP)
        self.assertTrue(self.is_merging(self.name))
        self.fast_copies()
        tool("mount", "-o", "noatime,nodev,nosuid", f"/dev/{GROUP}/{self.name}", node)  # as fstab has it
        self.end_merge()
        # Nothing keeps it from being made anew but that something may have been written.
        kept = self.assert_ended(node, first, True, "down while it is merged: ", lost=True)
        self.rollback(node, kept)
        self.assert_same(old, node)


if __name__ == "__main__":
    lvm_case.main()
