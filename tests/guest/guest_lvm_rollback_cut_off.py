"""A rollback of a thin LVM volume that is killed, or that fails, at any step: the directory is the one or the other, and the next command says which."""

import os

import lvm_case
import compare  # found by lvm_case
from harness import DONE, FAILED, FAULTS, WARNINGS
from lvm_rollback_case import CutOffCase


class CutOff(CutOffCase):
    def test_killed_at_each_step(self):
        node, first = self.node("xfs")
        for step in self.steps(node):
            with self.subTest(step=step):
                self.change(node)
                old = self.content(node)
                result = self.rollback(node, "first", program=FAULTS, environment={"NODESNAP_SIGNAL_AT": step}, expect=-9)
                self.assertEqual(result.status, -9)
                # Before Linux 6.5 there is an instant at which nothing is mounted: what the next command finds then is in its record.
                nothing = step == "mount.unmounted"
                self.assertEqual(os.path.ismount(node), not nothing)
                self.assert_ended(node, old, first, f"killed at {step}: ", not nothing, told=step != "rollback.tidied")

    def test_each_operation_of_lvm_failed(self):
        node, first = self.node("ext4")
        for nth in range(1, 100):
            with self.subTest(nth=nth):
                self.change(node)
                old = self.content(node)
                result = self.rollback(node, "first", program=FAULTS, environment={"NODESNAP_FAIL": f"{nth}:5:lvm"}, expect=(DONE, FAILED, WARNINGS))
                if result.status == DONE:
                    self.assertGreater(nth, 7)
                    break
                self.assertEqual(compare.differences(old if result.status == FAILED else first, self.content(node)), [], str(result))
                self.assertEqual(result.status == WARNINGS, nth > 4, str(result))
                self.assert_ended(node, old, first, f"operation {nth} failed: ")


if __name__ == "__main__":
    lvm_case.main()
