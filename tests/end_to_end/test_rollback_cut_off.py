"""A rollback that is killed, or meets a power cut, at any step leaves the directory as it was or as the snapshot has it; the next command says which."""

import os
import signal

import compare
import harness
import power
from rollback_case import RollbackCase


class CutOff(RollbackCase):
    def steps(self, node):
        steps = [step for step in self.steps_of("rollback", node, "first") if step.startswith(("rollback.", "mount."))]
        self.assertGreaterEqual(len(steps), 7)
        return steps

    def assert_one_or_the_other(self, node, top, old, new, kept, message):
        """Looks which it is, and that the next command says so and clears up."""
        present = self.content(node)
        is_new = compare.differences(new, present) == []
        if not is_new:
            self.assertEqual(compare.differences(old, present)[:20], [], message)
        told = self.run_program("snapshot", "list", node, "--json", expect=(harness.DONE, harness.WARNINGS)).json
        now_kept = {entry["name"] for entry in told["snapshots"] if entry["role"] == "before-rollback"} - kept
        after = self.content(node)
        if told["warnings"]:
            self.assertEqual(len(told["warnings"]), 1, message)
            took_place = "after it had taken place" in told["warnings"][0]
            self.assertIn("rollback", told["warnings"][0])
            self.assertTrue(took_place or not is_new, message)
            is_new = took_place
        self.assertEqual(compare.differences(new if is_new else old, after)[:20], [], message)
        self.assertEqual(len(now_kept), 1 if is_new else 0, message)
        for name in now_kept:
            done = self.rollback(node, name)
            self.assert_same(old, node, message)
            self.ok("snapshot", "remove", node, name)
            self.ok("snapshot", "remove", node, done["kept_as"])
        self.assert_tidy(top)
        self.assertEqual(self.run_program("snapshot", "list", node, "--json", expect=harness.DONE).json["warnings"], [])

    def test_killed_at_each_step(self):
        for layout in ("subvolume", "mounted"):
            node, top = self.node_of(layout)
            self.fill(node)
            new = self.content(node)
            self.ok("snapshot", "create", node, "first")
            for step in self.steps(node):
                with self.subTest(layout=layout, step=step):
                    self.change(node)
                    old = self.content(node)
                    kept = set(self.kept(node))
                    result = self.run_program("rollback", node, "first", program=harness.FAULTS, environment={"NODESNAP_SIGNAL_AT": step})
                    self.assertEqual(result.status, -9, str(result))
                    self.assert_one_or_the_other(node, top, old, new, kept, f"{layout}, killed at {step}: ")
            harness.tool("umount", node) if layout != "subvolume" else None

    def test_power_cut_at_each_step(self):
        for layout in ("subvolume", "mounted"):
            node, top = self.node_of(layout, "noatime,commit=300")
            self.fill(node)
            new = self.content(node)
            self.ok("snapshot", "create", node, "first")
            for step in self.steps(node):
                with self.subTest(layout=layout, step=step):
                    self.change(node)
                    harness.tool("sync", "--file-system", node)
                    old = self.content(node)
                    kept = set(self.kept(node))
                    child = self.start_program("rollback", node, "first", program=harness.FAULTS,
                                               environment={"NODESNAP_SIGNAL_AT": step, "NODESNAP_SIGNAL": str(int(signal.SIGSTOP))})
                    harness.wait_for(lambda: child.poll() is not None or harness.is_stopped(child.pid), f"{step}")
                    self.assertIsNone(child.poll(), "it wasn't stopped")
                    self.cut(layout, node, top, child)
                    self.assert_one_or_the_other(node, top, old, new, kept, f"{layout}, power cut at {step}: ")
            # What was told is durable.
            self.change(node)
            self.rollback(node, "first")
            self.cut(layout, node, top)
            self.assert_same(new, node, "a rollback that had ended was lost: ")
            harness.tool("umount", node) if layout != "subvolume" else None

    def cut(self, layout, node, top, *children):
        if layout == "subvolume":
            power.cut(self, top, *children)
            return
        # The device is read when nothing is written; then all of its mounts go.
        for child in children:
            child.kill()  # it is stopped: nothing of it runs any more
            child.communicate()
        while os.path.ismount(node):
            harness.tool("umount", node)
        power.cut(self, top)
        harness.tool("mount", "-o", "subvol=above/sub,noatime,nosuid,nodev", self.device_of(top), node)

    def test_a_kernel_that_mounts_nothing_beneath(self):
        node, top = self.node_of("mounted")
        self.fill(node)
        new = self.content(node)
        self.ok("snapshot", "create", node, "first")
        self.change(node)
        no_beneath = {"NODESNAP_FAIL": "1:22:move_mount"}
        self.ok("rollback", node, "first", program=harness.FAULTS, environment=no_beneath)
        self.assert_same(new, node)
        self.change(node)
        result = self.run_program("rollback", node, "first", program=harness.FAULTS, environment={**no_beneath, "NODESNAP_SIGNAL_AT": "mount.unmounted"})
        self.assertEqual(result.status, -9, str(result))
        self.assertFalse(os.path.ismount(node))
        harness.tool("mount", "-o", "subvol=above/sub", self.device_of(top), node)
        self.assert_same(new, node)
        told = self.run_program("snapshot", "list", node, "--json", expect=harness.WARNINGS).json
        self.assertIn("after it had taken place", told["warnings"][0])
        self.assertEqual(len(self.kept(node)), 2)

    def test_two_at_once(self):
        node, _ = self.node_of("subvolume")
        self.fill(node)
        wanted = self.content(node)
        self.ok("snapshot", "create", node, "first")
        self.change(node)
        child = self.start_program("rollback", node, "first", program=harness.FAULTS,
                                   environment={"NODESNAP_SIGNAL_AT": "rollback.cloned", "NODESNAP_SIGNAL": str(int(signal.SIGSTOP))})
        harness.wait_for(lambda: child.poll() is not None or harness.is_stopped(child.pid), "the first one")
        refused = self.run_program("rollback", node, "first", expect=harness.REFUSED)
        self.assertIn("another rollback", refused.err)
        self.assertEqual(self.ok("snapshot", "list", node, "--json").json["warnings"], [])  # and leaves it alone
        child.send_signal(signal.SIGCONT)
        self.assertEqual(self.finish(child).status, harness.DONE)
        self.assert_same(wanted, node)


if __name__ == "__main__":
    harness.main()
