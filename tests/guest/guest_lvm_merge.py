"""Rolling back a classic LVM volume: a snapshot is merged into it and made anew, and what was there is kept; or nothing is touched."""

import os

import lvm_case
from harness import tool
from lvm_case import GROUP
from lvm_merge_case import MergeCase


class Merge(MergeCase):
    def test_the_daemon_is_stopped_and_started(self):
        node, first = self.node("ext4")
        repository = self.repository()
        self.backup(node, repository, "--snapshot", "lvm")
        second = self.content(node)
        mounted = self.mounted(node)
        before = self.entries(node)[0]["first"]
        hold, daemon = self.daemon(node / "file0")
        pid = daemon.pid
        self.assert_refused(node, f"process {pid}")
        self.assertIn("must be unmounted", self.assert_refused(node, f"process {pid}", "--allow-in-use"))
        done = self.rollback(node, "first", *hold).json
        self.assertEqual((done["volume"], done["stale_mounts"]), (f"{GROUP}/{self.name}", []))
        self.assertGreater(done["downtime_ms"], 0)
        self.assert_same(first, node)
        self.assertNotEqual(daemon.pid, pid)
        self.assertTrue(daemon.runs_on_it())
        self.assertEqual(self.mounted(node), mounted)
        entries, _ = self.entries(node)
        self.assertEqual(sorted(entries), sorted(["first", done["kept_as"]]))
        self.assertEqual(entries[done["kept_as"]]["role"], "before-rollback")
        self.assertEqual((entries["first"]["created_time"], entries["first"]["held_bytes"]), (before["created_time"], before["held_bytes"]))
        self.assert_tidy()
        # And back again, after what is there has been written to, and was backed up.
        daemon.end()
        self.change(node)
        self.backup(node, repository, "--snapshot", "lvm")
        self.assert_restores(repository, node)
        self.rollback(node, done["kept_as"])
        self.assert_same(second, node)
        self.assert_tidy()

    def test_a_folder_and_all_else_on_its_volume(self):
        node, first = self.node("xfs", below="node")
        (self.point / "else").write_bytes(b"else")
        self.assert_refused(node, "else")
        before = self.volumes_now()
        self.rollback(node, "first", "--whole-volume", "--dry-run")
        self.assertEqual(self.volumes_now(), before)
        self.rollback(node, "first", "--whole-volume")
        self.assert_same(first, node)
        self.assertFalse((self.point / "else").exists())


class Refused(MergeCase):
    def test_what_is_not_there_or_in_the_way(self):
        node, _ = self.node("ext4", room="16M")
        first = self.on_disk("first")
        other = self.scratch / "other"
        other.mkdir()
        tool("mount", "--bind", node / "below", other)
        self.stack.callback(self._unmount, other)
        self.assertIn("can't be had", self.assert_refused(node, str(other), "--allow-stale-mounts"))
        self._unmount(other)
        tool("mount", "-o", "ro", f"/dev/{GROUP}/{first}", other)
        self.assert_refused(node, "in use")
        self._unmount(other)
        self._unmount(node)
        tool("mount", "-t", "tmpfs", "tmpfs", node)
        tool("mount", f"/dev/{GROUP}/{self.name}", node)
        self.assert_refused(node, "is mounted over tmpfs")
        for _ in range(2):
            self._unmount(node)
        tool("mount", f"/dev/{GROUP}/{self.name}", node)
        # Another snapshot would overflow, of whomever it is; with more room it doesn't.
        (node / "much").write_bytes(os.urandom(10 << 20))
        os.sync()
        tool("lvcreate", "-qq", "-y", "-s", "-n", "theirs", "-L", "8M", f"{GROUP}/{self.name}")
        self.assertIn("lvextend -L +", self.assert_refused(node, f"{GROUP}/theirs"))
        tool("lvextend", "-qq", "-L", "24M", f"{GROUP}/theirs")
        self.rollback(node, "first", "--dry-run")
        # There is no room for what keeps the present: what is missing is told.
        self.extents_left(2)
        self.assertIn("vgextend", self.assert_refused(node, "has 8.0 MiB free"))
        tool("lvremove", "-qq", "-y", f"{GROUP}/filler")
        (node / "much").write_bytes(os.urandom(30 << 20))
        os.sync()
        self.assert_refused(node, "has overflowed")


if __name__ == "__main__":
    lvm_case.main()
