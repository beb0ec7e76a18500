"""What the tests of rolling back classic LVM volumes share."""

import os
from pathlib import Path

from lvm_case import GROUP, LvmCase  # finds the other tests' modules
import harness
from harness import tool
from lvm_rollback_case import VolumeNode

THROTTLE = Path("/sys/module/dm_snapshot/parameters/snapshot_copy_throttle")


class MergeCase(VolumeNode, LvmCase):
    kind = "lvm"

    def node(self, kind, below="", room="32M"):
        """A node directory with a snapshot of it, `first`, and what that holds; then it is changed."""
        self.name = f"data-{kind}"
        self.point = self.volume(kind, name=self.name)
        tool("mount", "-o", "remount,noatime,nodev,nosuid", self.point)
        node = self.point / below
        self.fill(node, 1)
        os.chmod(node, 0o750)
        first = self.content(node)
        self.ok("snapshot", "create", node, "first", "--snapshot", "lvm", "--snapshot-size", room)
        self.change(node)
        return node, first

    def on_disk(self, given):
        """The name of that snapshot's volume."""
        return next(name for name in self.listed() if name.startswith("nodesnap.") and name.endswith(f".{given}"))

    def slow_copies(self):
        """What is copied between a volume and its snapshots takes a second each time, until fast_copies()."""
        self.stack.callback(self.fast_copies)
        THROTTLE.write_text("0")

    @staticmethod
    def fast_copies():
        THROTTLE.write_text("100")

    def end_merge(self):
        self.fast_copies()
        harness.wait_for(lambda: not tool("lvs", "--noheadings", "-o", "lv_attr", f"{GROUP}/{self.name}").strip().startswith("O"), "the merge")

    @staticmethod
    def is_merging(name):
        return "snapshot-merge" in tool("dmsetup", "table", f"{GROUP}-{name.replace('-', '--')}")
