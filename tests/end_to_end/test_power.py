"""The power is cut while restore --delta runs: what isn't durable by then is lost. The directory is the one or the other then, or unmistakably
unfinished, and the same command makes it the backup's."""

import random
import signal

import compare
import harness
import power
from delta_case import DeltaCase, random_seed

INSIDE = ".nodesnap-restore"


class Power(DeltaCase):
    def prepare(self, kind, layout, *options):
        """The restore that will be cut off is made once whole; the steps that it passed."""
        commits = "" if kind == "xfs" else ",commit=300"  # not before it is told to
        self.node, self.store, self.wanted, self.full = self.backed_up_twice(kind, layout, "noatime" + commits)
        self.options = options
        self.old = self.found()
        steps = self.steps_of("restore", self.store, self.wanted, self.node, "--delta", *self.options)
        self.assert_same(self.full, self.node)
        self.new = self.found()
        return steps

    def delta(self, backup):
        self.ok("restore", self.store, backup, self.node, "--delta", *self.options)

    def cut_at(self, environment):
        """Runs the restore to that moment and cuts the power; returns whether it had come to its end before."""
        self.delta("latest")
        child = self.start_program("restore", self.store, self.wanted, self.node, "--delta", *self.options, program=harness.FAULTS, environment={
            **environment, "NODESNAP_SIGNAL": str(int(signal.SIGSTOP))})
        harness.wait_for(lambda: child.poll() is not None or harness.is_stopped(child.pid), "the restore to stop or to end")
        ended = child.poll() is not None
        power.cut(self, self.node.parent, child)
        if ended:
            self.assertEqual(child.returncode, harness.DONE)
        return ended

    def found(self):
        return compare.named_below(self.node, excluded=lambda name: name == INSIDE)

    def unlike(self, wanted, found):
        """What was begun and didn't end may have changed the times of the directory itself: a name moved, an exchange."""
        unfinished = (self.node / INSIDE).exists() or (self.node.parent / f".{self.node.name}.nodesnap-restore").exists()
        return [line for line in compare.differences(wanted, found) if not (unfinished and line.startswith(".: modified: "))]

    def check(self, must_be_new):
        """Returns whether it is the backup's already."""
        found = self.found()
        unlike_new, unlike_old = self.unlike(self.new, found), self.unlike(self.old, found)
        if must_be_new:
            self.assertEqual(unlike_new, [])
        elif b"CURRENT" in found or "--in-place" not in self.options:
            self.assertIn([], (unlike_old, unlike_new))
        else:
            for again in (("backup", self.node, self.store, "--snapshot", "none"), ("restore", self.store, self.wanted, self.node)):
                result = self.run_program(*again, expect=harness.REFUSED)
                self.assertIn(f"{self.node} holds an unfinished restore", result.err)
                self.assertIn("finish it with the same command", result.err)
        self.delta(self.wanted)
        power.cut(self, self.node.parent)  # its end was told
        self.assert_same(self.full, self.node)
        self.assert_tidy(self.node)
        return not unlike_new

    PLACED = ("restore.placed", "restore.old-disposed")

    def cut_at_steps_and_operations(self, *where):
        steps = self.prepare(*where)
        self.assertGreater(len(steps), 4)
        placed = set()
        for step, nth in self.kills(steps):
            with self.subTest(step=step, nth=nth):
                ended = self.cut_at({"NODESNAP_SIGNAL_AT": f"{step}:{nth}"})
                self.assertTrue(nth > 1 or not ended)
                placed.add(self.check(must_be_new=ended or step in self.PLACED))
        self.assertEqual(placed, {False, True})

        chance = random.Random(random_seed())
        nth, ended, cuts = 1, False, 0
        while not ended:
            ended = self.cut_at({"NODESNAP_STOP_AT": f":{nth}"})
            self.check(must_be_new=ended)
            cuts += not ended
            nth += chance.randint(1, 20 + nth // 2)
        self.assertGreater(cuts, 10)
        print(f"{cuts} operations")

    def test_from_a_snapshot(self):
        self.cut_at_steps_and_operations("btrfs", "subvolume")

    def test_compared(self):
        self.cut_at_steps_and_operations("btrfs", "subvolume", "--no-snapshot")

    def test_on_xfs(self):
        self.cut_at_steps_and_operations("xfs", "folder")

    def test_in_place(self):
        self.cut_at_steps_and_operations("ext4", "folder", "--in-place")


class Snapshots(DeltaCase):
    """Those that a backup leaves on the node's disk are there after a power cut, as what they were promised to be."""

    def node_on(self, kind):
        mount = self.file_system(kind, 1024, options="noatime" + (",commit=300" if kind == "btrfs" else ""))
        return mount, self.node_with_files(self.subvolume(mount / "node") if kind == "btrfs" else mount / "node")

    def roles(self, node):
        return [entry["role"] for entry in self.ok("snapshot", "list", node, "--json").json["snapshots"]]

    def test_the_operators_stays(self):
        for kind in ("btrfs", "xfs"):
            with self.subTest(kind=kind):
                mount, node = self.node_on(kind)
                repository = self.repository(kind)
                self.ok("backup", node, repository, "--keep-snapshot")
                power.cut(self, mount)
                self.assertEqual(self.roles(node), ["operator's"])
                self.ok("backup", node, repository)
                self.assertEqual(self.roles(node), ["operator's", "parent"])

    def test_the_parent_stays(self):
        for kind in ("btrfs", "xfs"):
            with self.subTest(kind=kind):
                mount, node = self.node_on(kind)
                repository = self.repository(kind)
                self.ok("backup", node, repository)
                self.spoil(node)
                self.ok("backup", node, repository)
                power.cut(self, mount)
                self.assertEqual(self.roles(node), ["parent"])
                wanted = compare.snapshot_of(node, with_allocation=False)
                result = self.ok("backup", node, repository, "--json").json
                self.assertEqual(result["parent_missing"], "")
                self.ok("restore", repository, "latest", mount / "restored")
                self.assertEqual(compare.differences(wanted, compare.snapshot_of(mount / "restored", with_allocation=False)), [])


if __name__ == "__main__":
    harness.main()
