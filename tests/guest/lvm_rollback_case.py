"""What the tests of rolling back LVM volumes share: a node on one, and what becomes of it."""

import os
import random
from pathlib import Path

import lvm_case
import compare  # found by lvm_case
from harness import DONE, REFUSED, WARNINGS, tool
from lvm_case import GROUP, ThinCase

RECORDS = Path("/var/lib/nodesnap/rollback")


def random_of_test():
    """What a test chooses at random; NODESNAP_SEED has it choose the same again."""
    seed = int(os.environ.get("NODESNAP_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed {seed}", flush=True)
    return random.Random(seed)


class VolumeNode:
    """Of a node directory on a volume, with snapshots of the kind."""
    kind = "lvm-thin"

    def setUp(self):
        super().setUp()
        self.rounds = 0

    def change(self, node):
        self.rounds += 1
        (node / "file3").write_bytes(os.urandom(300_000))
        (node / f"new{self.rounds}").write_bytes(os.urandom(20_000))
        (node / "below" / "small").write_bytes(b"changed %d" % self.rounds)

    @staticmethod
    def content(node):
        return compare.snapshot_of(node, with_allocation=False)

    def assert_same(self, wanted, node, message=""):
        lines = compare.differences(wanted, self.content(node))
        self.assertEqual(lines, [], message + "\n".join(lines[:20]))

    def rollback(self, node, snapshot, *options, expect=DONE, **more):
        return self.run_program("rollback", node, snapshot, "--snapshot", self.kind, *options, "--json", expect=expect, **more)

    def entries(self, node, expect=DONE):
        document = self.run_program("snapshot", "list", node, "--snapshot", self.kind, "--json", expect=expect).json
        return {entry["name"]: entry for entry in document["snapshots"]}, document["warnings"]

    @staticmethod
    def mounted(point):
        return tool("findmnt", "--noheadings", "--raw", "--output", "SOURCE,FSTYPE,VFS-OPTIONS", "--mountpoint", point).strip()

    @staticmethod
    def volumes_now():
        """All that LVM has on its disks, but for what names the moment."""
        return tool("lvs", "--noheadings", "-o", "lv_name,lv_uuid,lv_attr,lv_tags,origin,thin_id", GROUP)

    def assert_refused(self, node, says, *options, snapshot="first"):
        before = self.volumes_now()
        result = self.rollback(node, snapshot, *options, expect=REFUSED)
        self.assertIn(says, result.err)
        self.assertIn("hint:", result.err)
        self.assertEqual(self.volumes_now(), before, "something was touched")
        self.assert_tidy()
        return result.err

    def assert_tidy(self):
        self.assertEqual(list(RECORDS.iterdir()) if RECORDS.exists() else [], [])
        self.assertNotIn("nodesnap.rollback", tool("lvs", "-a", "--noheadings", "-o", "lv_name,lv_tags", GROUP))

    def daemon(self, file):
        """What holds a daemon by commands that has the file open; and how to tell that it runs, and on the file that has the name now."""
        pid, start, stop = self.scratch / "pid", self.scratch / "start", self.scratch / "stop"
        start.write_text(f"#!/bin/sh\nexec 3< {file} || exit 1\nsleep 1000 > /dev/null 2>&1 &\necho $! > {pid}\n")
        stop.write_text(f"#!/bin/sh\nkill $(cat {pid})\nwhile kill -0 $(cat {pid}) 2> /dev/null; do sleep 0.01; done\n")
        for script in (start, stop):
            script.chmod(0o755)
        tool(start)
        self.stack.callback(tool, stop, check=False)
        hold = ("--hold", "stop", "--stop-command", stop, "--start-command", start, "--status-command", f"kill -0 $(cat {pid})")
        return hold, Daemon(pid, file, stop)


class Daemon:
    def __init__(self, pid, file, stop):
        self.pid_file, self.file, self.stop = pid, file, stop

    def end(self):
        tool(self.stop)

    @property
    def pid(self):
        return self.pid_file.read_text().strip()

    def runs_on_it(self):
        return os.path.samefile(f"/proc/{self.pid}/fd/3", self.file)


class RollbackCase(VolumeNode, ThinCase):
    def node(self, kind, below="", options=""):
        """A node directory with a snapshot of it, `first`, and what that holds; then it is changed."""
        self.name = f"data-{kind}"
        self.point = self.thin(kind, self.name)
        tool("mount", "-o", f"remount,noatime,nodev,nosuid{options}", self.point)
        node = self.point / below
        self.fill(node, 1)
        os.chmod(node, 0o750)
        first = self.content(node)
        self.ok("snapshot", "create", node, "first", "--snapshot", "lvm-thin")
        self.change(node)
        return node, first

    def remove_node(self, node):
        self._unmount(node)
        for name in self.snapshots():
            tool("lvremove", "-qq", "-y", f"{GROUP}/{name}")
        tool("lvremove", "-qq", "-y", f"{GROUP}/{self.name}")

    def assert_tidy(self):
        super().assert_tidy()
        for name, attributes in self.snapshots().items():
            if "before-rollback" in name:
                self.assertEqual(attributes[:2] + attributes[4] + attributes[9], "Vr-k", "read-only, inactive, and not activated at boot")


# What the volumes are is the same there as at the step before.
KILLS = 5
LIKE_THE_ONE_BEFORE = ("rollback.begun", "rollback.cloned", "rollback.opened", "rollback.adopted")


class CutOffCase(RollbackCase):
    """Killed, or the host goes down, at a step: the node's path shows the one or the other, and the next command says which."""

    def steps(self, node):
        """Some of the steps, in order, with nothing left of the rollback that told them."""
        steps = [step for step in self.steps_of("rollback", node, "first", "--snapshot", "lvm-thin") if step.startswith(("rollback.", "mount."))]
        self.assertGreaterEqual(len(steps), 12)
        self.forget_kept()
        steps = [step for step in steps if step not in LIKE_THE_ONE_BEFORE]
        chosen = random_of_test().sample(range(len(steps)), KILLS)
        return [steps[at] for at in sorted(chosen)]

    def forget_kept(self):
        for name in self.snapshots():
            if "before-rollback" in name:
                tool("lvremove", "-qq", "-y", f"{GROUP}/{name}")

    def assert_ended(self, node, old, new, message, may_be_shown=True, told=None):
        """Looks which it is, and that the next command says so, if there is something to be told, and leaves nothing."""
        if may_be_shown:
            present = self.content(node)
            is_new = compare.differences(new, present) == []
            if not is_new:
                self.assert_same(old, node, message)
        entries, warnings = self.entries(node, expect=(DONE, WARNINGS))
        self.assertIn(len(warnings), (0, 1) if told is None else (int(told),), message)
        took_place = any("before-rollback" in name for name in entries)
        if warnings:
            self.assertIn("after it had taken place" if took_place else "before it took place", warnings[0], message)
        if may_be_shown:
            self.assertEqual(took_place, is_new, message)
        self.assert_same(new if took_place else old, node, message)
        self.assertIn("noatime", self.mounted(node))
        self.assertEqual(len(entries), 2 if took_place else 1, message)
        self.assert_tidy()
        self.forget_kept()
        return took_place
