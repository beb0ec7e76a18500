"""A rollback of a plain folder that is killed, meets a power cut, or in which anything fails, leaves the directory as it was or as the snapshot has it."""

import os
import signal

import compare
import harness
import power
from folder_case import STORAGES, FolderCase, on


class CutOff(FolderCase):
    def steps(self, node):
        """Each with the numbers of the times that it is passed."""
        steps = self.steps_of("rollback", node, "first", *self.options)
        steps = {step: times for step, times in steps.items() if step.startswith("rollback.") or step == "snapshot.inode-cloned"}
        self.assertGreaterEqual(len(steps), 7)
        return list(self.kills(steps))

    def assert_one_or_the_other(self, node, top, old, new, kept, message):
        for described in (old, new):
            described[b"."].pop("modified", None)  # on XFS that of the exchange, where it was cut off just then

        def is_the_same(wanted):
            present = self.content(node)
            present[b"."].pop("modified")
            return compare.differences(wanted, present)[:20]

        is_new = is_the_same(new) == []
        if not is_new:
            self.assertEqual(is_the_same(old), [], message)
        told = self.run_program("snapshot", "list", node, *self.options, "--json", expect=(harness.DONE, harness.WARNINGS)).json
        now_kept = {entry["name"] for entry in told["snapshots"] if entry["role"] == "before-rollback"} - kept
        if told["warnings"]:
            self.assertEqual(len(told["warnings"]), 1, message)
            self.assertEqual("after it had taken place" in told["warnings"][0], is_new, message)
        self.assertEqual(is_the_same(new if is_new else old), [], message)
        self.assertEqual(len(now_kept), 1 if is_new else 0, message)
        for name in now_kept:
            done = self.rollback(node, name)
            self.assertEqual(is_the_same(old), [], message)
            self.remove(node, name)
            self.remove(node, done["kept_as"])
        self.assert_tidy(top)
        self.assertEqual(self.run_program("snapshot", "list", node, *self.options, "--json", expect=harness.DONE).json["warnings"], [])

    @on()
    def test_killed_at_each_step(self, node, top):
        self.fill(node)
        os.link(node / "CURRENT", node / "another name")
        new = self.content(node)
        self.create(node, "first")
        for step, nth in self.steps(node):
            self.change(node)
            old, kept = self.content(node), set(self.kept(node))
            result = self.run_program("rollback", node, "first", *self.options, program=harness.FAULTS,
                                      environment={"NODESNAP_SIGNAL_AT": f"{step}:{nth}"})
            self.assertEqual(result.status, -9, str(result))
            self.assert_one_or_the_other(node, top, old, new, kept, f"killed at {step} {nth}: ")
        self.assert_same(new, self.rolled_back(node), "the snapshot was changed: ")

    def rolled_back(self, node):
        self.rollback(node, "first")
        return node

    def test_power_cut_at_each_step(self):
        for storage in STORAGES:
            with self.subTest(storage=storage):
                long = "noatime" if storage[0] == "xfs" else "noatime,commit=300"
                node, top = self.place(*storage, mount_options=long)
                self.fill(node)
                new = self.content(node)
                self.create(node, "first")
                harness.tool("sync", "--file-system", node)
                for step, nth in self.steps(node):
                    if step in ("snapshot.inode-cloned", "rollback.inode-linked") and nth > 1:
                        continue
                    self.change(node)
                    harness.tool("sync", "--file-system", node)
                    old, kept = self.content(node), set(self.kept(node))
                    child = self.start_program("rollback", node, "first", *self.options, program=harness.FAULTS,
                                               environment={"NODESNAP_SIGNAL_AT": f"{step}:{nth}", "NODESNAP_SIGNAL": str(int(signal.SIGSTOP))})
                    harness.wait_for(lambda child=child: child.poll() is not None or harness.is_stopped(child.pid), f"{step}")
                    self.assertIsNone(child.poll(), "it wasn't stopped")
                    power.cut(self, top, child)
                    self.assert_one_or_the_other(node, top, old, new, kept, f"power cut at {step} {nth}: ")
                # What was told is durable.
                self.change(node)
                done = self.rollback(node, "first")
                power.cut(self, top)
                self.assertTrue(os.path.exists(done["kept_path"]), "what is kept has lost its name")
                self.assertEqual(compare.differences({**new, b".": {}}, self.content(node))[:20], [], "a rollback that had ended was lost: ")

    def stopped_at(self, step, node):
        child = self.start_program("rollback", node, "first", *self.options, program=harness.FAULTS,
                                   environment={"NODESNAP_SIGNAL_AT": step, "NODESNAP_SIGNAL": str(int(signal.SIGSTOP))})
        harness.wait_for(lambda: child.poll() is not None or harness.is_stopped(child.pid), step)
        self.assertIsNone(child.poll(), "it wasn't stopped")
        return child

    def gone_on(self, child, expect):
        child.send_signal(signal.SIGCONT)
        result = self.finish(child)
        self.assertEqual(result.status, expect, str(result))
        return result.err

    @on()
    def test_two_at_once(self, node, _):
        self.fill(node)
        wanted = self.content(node)
        self.create(node, "first")
        self.change(node)
        child = self.stopped_at("rollback.tree-made", node)
        refused = self.run_program("rollback", node, "first", *self.options, expect=harness.REFUSED)
        self.assertIn("another rollback", refused.err)
        self.assertEqual(self.ok("snapshot", "list", node, *self.options, "--json").json["warnings"], [])
        # Nor does anybody remove what it is made of.
        self.assertIn("in use", self.run_program("snapshot", "remove", node, "first", *self.options, expect=harness.REFUSED).err)
        self.gone_on(child, harness.DONE)
        self.assert_same(wanted, node)

    @on()
    def test_what_comes_at_the_last_moment_is_noticed(self, node, top):
        self.fill(node)
        self.create(node, "first")
        self.change(node)
        present = self.content(node)
        child = self.stopped_at("rollback.cloned", node)
        with open(node / "pages", "rb"):
            self.assertIn("in use", self.gone_on(child, harness.FAILED))
        self.assert_same(present, node)
        self.assert_tidy(top)
        # Another directory of that name.
        child = self.stopped_at("rollback.cloned", node)
        node.rename(top / "moved away")
        node.mkdir()
        (node / "another").write_bytes(b"x")
        self.assertIn("was replaced by another", self.gone_on(child, harness.FAILED))
        self.assertEqual(os.listdir(node), ["another"])
        self.assert_same(present, top / "moved away")
        self.assert_tidy(top)

    @on("xfs", "hardlink")
    def test_any_failing_operation(self, node, top):
        """Whatever fails, once: the directory is the one or the other, whole, and what is left is cleared up by the next."""
        (node / "files").mkdir()
        (node / "file").write_bytes(b"before")
        (node / "files" / "1.sst").write_bytes(b"before")
        os.link(node / "file", node / "link")
        new = self.content(node)
        self.create(node, "first")
        failed = nth = 0
        while True:
            nth += 1
            (node / "file").write_bytes(f"after {nth}".encode())
            (node / "files" / "2.sst").write_bytes(b"after")
            old, kept = self.content(node), set(self.kept(node))
            listing = self.scratch / "failed"
            listing.unlink(missing_ok=True)
            result = self.run_program("rollback", node, "first", *self.options, program=harness.FAULTS,
                                      environment={"NODESNAP_FAIL": f"{nth}:5"})
            self.assertIn(result.status, (harness.DONE, harness.FAILED, harness.REFUSED, harness.WARNINGS), str(result))
            failed += result.status != harness.DONE
            if result.status in (harness.FAILED, harness.REFUSED) and "rolled back to" not in result.err and "was rolled back" not in result.err:
                self.assert_same(old, node, f"{nth}: {result} ")
            self.assert_one_or_the_other(node, top, old, new, kept, f"failed operation {nth}: {result}")
            if nth > 400 or (result.status == harness.DONE and nth > failed + 40):
                break
        self.assertGreater(failed, 30)


if __name__ == "__main__":
    harness.main()
