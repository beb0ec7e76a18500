"""A rollback of a thin LVM volume whose host goes down at a step, or that can't mount: the next command finds and ends it, whatever is mounted by then."""

import os

import lvm_case
from harness import FAILED, FAULTS, tool
from lvm_case import GROUP
from lvm_rollback_case import CutOffCase


class Host(CutOffCase):
    def reboot(self, node, by_path):
        """As a host that goes down, and mounts the node's volume again: by its path, or another one that is active and has the UUID. False if none is."""
        self._unmount(node)
        tool("vgchange", "-qq", "-an", GROUP)
        tool("vgchange", "-qq", "-ay", GROUP)
        active = [line.split()[0] for line in tool("lvs", "--noheadings", "-o", "lv_name,lv_active", GROUP).splitlines() if line.split()[-1] == "active"]
        name = self.name if by_path else next(name for name in active if name not in (self.name, "pool"))
        if name not in active:
            return False
        tool("mount", "-o", "noatime,nodev,nosuid", f"/dev/{GROUP}/{name}", node)
        return True

    def test_the_host_goes_down_at_a_step(self):
        node, first = self.node("ext4")
        for step, by_path in (("activated", True), ("activated", False), ("renamed-away", True), ("renamed", True), ("exchanged", True)):
            with self.subTest(step=step, by_path=by_path):
                self.change(node)
                os.sync()
                old = self.content(node)
                self.rollback(node, "first", program=FAULTS, environment={"NODESNAP_SIGNAL_AT": f"rollback.{step}"}, expect=-9)
                mounted = self.reboot(node, by_path)
                self.assertEqual(mounted, step != "renamed-away")
                took_place = self.assert_ended(node, old, first, f"down at {step}: ", mounted, told=True)
                self.assertEqual(took_place, step in ("renamed", "exchanged") or not by_path)
                if by_path:
                    self.assertIn(f"/{GROUP}-{self.name.replace('-', '--')} ", self.mounted(node))

    def test_killed_when_the_new_one_lies_beneath_the_old_one(self):
        node, first = self.node("ext4")
        old = self.content(node)
        self.rollback(node, "first", program=FAULTS, environment={"NODESNAP_SIGNAL_AT": "rollback.renamed"}, expect=-9)
        # As Linux 6.5 and later can do it.
        self._unmount(node)
        replaced = next(name for name in self.listed() if "before-rollback" in name)
        tool("mount", "-o", "noatime", f"/dev/{GROUP}/{self.name}", node)
        tool("mount", "-o", "noatime", f"/dev/{GROUP}/{replaced}", node)
        self.assert_same(old, node)
        self.assertTrue(self.assert_ended(node, old, first, "killed in between: ", may_be_shown=False, told=True))

    def test_mounting_fails(self):
        node, first = self.node("xfs")
        old = self.content(node)
        for failed in ("1:5:move_mount", "2:5:move_mount", "2+:5:move_mount"):  # beneath; after unmounting; and what was there, too
            with self.subTest(failed):
                result = self.rollback(node, "first", program=FAULTS, environment={"NODESNAP_FAIL": failed}, expect=FAILED)
                nothing = "+" in failed
                self.assertEqual(os.path.ismount(node), not nothing)
                self.assertEqual("nothing is mounted" in result.err, nothing)
                self.assertEqual(self.assert_ended(node, old, first, failed, not nothing), nothing)


if __name__ == "__main__":
    lvm_case.main()
