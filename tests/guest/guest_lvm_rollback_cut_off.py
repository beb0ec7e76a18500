"""A rollback of a thin LVM volume that is killed, or that fails, at steps chosen at random: the directory is the one or the other, and the next command says which."""

import os

import lvm_case
import compare  # found by lvm_case
from harness import FAILED, FAULTS, WARNINGS
from lvm_rollback_case import CutOffCase, random_of_test


class CutOff(CutOffCase):
    def test_killed_at_steps(self):
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

    def test_operations_of_lvm_failed(self):
        node, first = self.node("ext4")
        chance = random_of_test()
        for nth in sorted([*chance.sample(range(1, 5), 2), chance.randrange(5, 8)]):  # before the exchange, and after it
            with self.subTest(nth=nth):
                self.change(node)
                old = self.content(node)
                result = self.rollback(node, "first", program=FAULTS, environment={"NODESNAP_FAIL": f"{nth}:5:lvm"}, expect=FAILED if nth < 5 else WARNINGS)
                self.assertEqual(compare.differences(old if nth < 5 else first, self.content(node)), [], str(result))
                self.assert_ended(node, old, first, f"operation {nth} failed: ")


if __name__ == "__main__":
    lvm_case.main()
