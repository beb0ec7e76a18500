"""Snapshots made of clones, on XFS with reflink and in plain directories on btrfs: what only they are in danger of."""

import fcntl
import os
import signal
import struct
import unittest

import compare
import harness
import hold_case
from changes import FICLONERANGE
from torture import Torture

MIB = 1 << 20
FILE_SYSTEMS = ("xfs", "btrfs")


class Reflink(harness.Case):
    def place(self, kind, mib=1024):
        self.mount_point = self.file_system(kind, mib)
        self.node = self.mount_point / "node"
        self.node.mkdir()
        self.store = self.repository(f"repository of {kind}")

    def backup(self, *options):
        return self.ok("backup", self.node, self.store, "--snapshot", "reflink", *options, "--json").json

    def assert_restores(self, wanted):
        restored = self.mount_point / "restored"
        self.ok("restore", self.store, "latest", restored)
        lines = compare.differences(wanted, compare.named_below(restored))
        self.assertEqual(lines, [], "\n".join(lines[:40]))
        harness.tool("rm", "-r", restored)

    def test_everything_that_a_file_system_can_hold(self):
        for kind in FILE_SYSTEMS:
            with self.subTest(kind=kind):
                self.place(kind, 2048)
                Torture(self.node, kind).make()
                before = compare.snapshot_of(self.node)
                self.backup()
                self.assertEqual(compare.differences(before, compare.snapshot_of(self.node)), [], "the node directory was changed")
                self.ok("restore", self.store, "latest", self.mount_point / "restored")
                lines = compare.differences(before, compare.snapshot_of(self.mount_point / "restored"))
                self.assertEqual(lines, [], "\n".join(lines[:40]))
                again = self.backup("--audit")
                self.assertEqual(again["parent_missing"], "")
                self.assertLess(again["backup"]["stored_bytes"], 256 << 10)

    def test_goes_on_after_it_was_cut_off(self):
        self.place("xfs")
        (self.node / "small").write_bytes(os.urandom(1000))
        (self.node / "large").write_bytes(os.urandom(300 * MIB))
        died = self.run_program("backup", self.node, self.store, "--snapshot", "reflink", program=harness.FAULTS,
                                environment={"NODESNAP_SIGNAL_AT": "backup.before-publish"})
        self.assertEqual(died.status, -signal.SIGKILL, str(died))
        before = compare.named_below(self.node)
        (self.node / "small").write_bytes(b"written since")
        self.assertTrue(self.backup()["resumed"])
        self.assert_restores(before)
        later = self.backup()
        self.assertEqual(later["parent_missing"], "")
        self.assertLess(later["backup"]["read_bytes"], MIB)
        self.assert_restores(compare.named_below(self.node))

    def test_a_parent_that_somebody_wrote_to_is_not_believed(self):
        """A file of the parent's clone is changed, and then cloned into the node's own: both have the same blocks, the backup hasn't."""
        for kind in FILE_SYSTEMS:
            with self.subTest(kind=kind):
                self.place(kind)
                (self.node / "file").write_bytes(b"a" * MIB)
                (self.node / "other").write_bytes(b"b" * MIB)
                self.backup()
                (clone,) = (self.mount_point / ".nodesnap").glob("*/tree/file")
                with open(clone, "r+b") as file:
                    file.write(b"c" * MIB)
                with open(clone, "rb") as reader, open(self.node / "file", "r+b") as writer:
                    fcntl.ioctl(writer, FICLONERANGE, struct.pack("qQQQ", reader.fileno(), 0, 0, 0))
                result = self.backup()
                self.assertEqual(result["parent_missing"], "")
                self.assertEqual(result["backup"]["read_bytes"], MIB)
                self.assert_restores(compare.named_below(self.node))


@unittest.skipIf(hold_case.why_no_cgroups(), hold_case.why_no_cgroups())
class Held(hold_case.HoldCase):
    """Clones aren't made at one instant: with a daemon that writes all the while they are right only if it is held for so long."""

    def setUp(self):
        harness.Case.setUp(self)
        self.mount_point = self.file_system("xfs", 1024)
        self.node = self.mount_point / "node"
        self.node.mkdir()

    def test_the_clones_are_made_durable_when_it_runs_again(self):
        repository = self.repository()
        _, child = self.daemon()
        listing = self.scratch / "steps"
        self.held(repository, *self.freezing(child), program=harness.FAULTS, environment={"NODESNAP_LIST_STEPS": str(listing)})
        steps = listing.read_text().split()
        order = ["hold.held", "snapshot.cloned", "hold.releasing", "snapshot.tree-durable", "snapshot.record-durable", "snapshot.taken",
                 "backup.snapshot-recorded"]
        self.assertEqual([step for step in steps if step in order], order)


if __name__ == "__main__":
    harness.main()
