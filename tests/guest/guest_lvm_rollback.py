"""Rolling back a thin LVM volume: the file system goes back as a whole, what was there is kept, and what can't be done safely is refused."""

import os
import signal
import subprocess

import lvm_case
import harness  # found by lvm_case
from harness import DONE, FAILED, FAULTS, REFUSED, WARNINGS, tool
from lvm_case import GROUP
from lvm_rollback_case import RECORDS, RollbackCase, random_of_test


class Rollback(RollbackCase):
    def test_there_and_back_again(self):
        for kind in lvm_case.FILE_SYSTEMS:
            with self.subTest(kind):
                node, first = self.node(kind)
                tool("lvchange", "-qq", "--addtag", "operators", f"{GROUP}/{self.name}")
                second = self.content(node)
                mounted = self.mounted(node)
                before = self.volumes_now()
                self.assertEqual(self.rollback(node, "first", "--dry-run").json["volume"], f"{GROUP}/{self.name}")
                self.assertEqual(self.volumes_now(), before)
                done = self.rollback(node, "first").json
                self.assertEqual((done["layout"], done["volume"], done["stale_mounts"]), ("logical volume", f"{GROUP}/{self.name}", []))
                self.assert_same(first, node)
                self.assertEqual(self.mounted(node), mounted)
                attributes, tags = tool("lvs", "--noheadings", "-o", "lv_attr,lv_tags", f"{GROUP}/{self.name}").split()
                self.assertEqual((attributes[:2], attributes[9], tags), ("Vw", "-", "operators"))
                entries, _ = self.entries(node)
                self.assertEqual(entries[done["kept_as"]]["role"], "before-rollback")
                self.assertLess(entries[done["kept_as"]]["age_seconds"], 300)
                self.assertEqual(sorted(entries), sorted(["first", done["kept_as"]]))
                self.assert_tidy()
                # And again, after what is there has been written to: each snapshot is as it was.
                self.change(node)
                third = self.content(node)
                undone = self.rollback(node, done["kept_as"]).json
                self.assert_same(second, node)
                if kind == "xfs":  # what is left of it is the same for both
                    self.rollback(node, undone["kept_as"])
                    self.assert_same(third, node)
                    self.ok("snapshot", "remove", node, done["kept_as"], "--snapshot", "lvm-thin")
                    self.rollback(node, "first")
                    self.assert_same(first, node)
                self.assert_tidy()
                self.remove_node(node)

    def test_the_next_backups_go_on_from_their_parent(self):
        chance = random_of_test()
        node, _ = self.node(chance.choice(lvm_case.FILE_SYSTEMS))
        with open(node / "large", "wb") as file:
            file.write(os.urandom(24 << 20))
        os.sync()
        repository = self.repository()
        self.backup(node, repository, "--snapshot", "lvm-thin")
        for target in ("first", "parent"):  # older than the parent, and the parent itself
            parent = next(name for name, entry in self.entries(node)[0].items() if entry["temporary"])
            target = parent if target == "parent" else target
            self.change(node)
            self.rollback(node, target)
            self.change(node)
            done = self.backup(node, repository, "--snapshot", "lvm-thin")
            self.assertEqual(done["parent_missing"], "")
            self.assertLess(done["backup"]["stored_bytes"], 1 << 20)
            self.assertLess(done["backup"]["read_bytes"], 8 << 20)
            self.assert_restores(repository, node)
            self.assert_nothing_reserved()


class Refused(RollbackCase):
    pool_mib = 200

    def in_another_namespace(self, *command):
        child = subprocess.Popen(["unshare", "--mount", "--propagation=private", "sh", "-c", f"{' '.join(map(str, command))} && echo ready && exec sleep 1000"],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd="/")
        self.children.append(child)
        self.assertEqual(child.stdout.readline(), b"ready\n")
        return child

    def test_what_uses_or_shows_the_volume(self):
        node, first = self.node("xfs", below="node")
        (self.point / "lost+found").mkdir()
        with open(node / "file3", "rb"):
            self.assert_refused(node, f"process {os.getpid()}")
        other = self.scratch / "other mount"
        other.mkdir()
        tool("mount", "--bind", node / "below", other)
        self.stack.callback(self._unmount, other)
        self.assertIn(f"umount '{other}'", self.assert_refused(node, str(other)))
        # One of the file system of its own, which the kernel takes for the same.
        self._unmount(other)
        tool("mount", f"/dev/{GROUP}/{self.name}", other)
        self.assert_refused(node, str(other))
        self._unmount(other)
        child = self.in_another_namespace("true")
        self.assert_refused(node, f"in the mount namespace of process {child.pid}")
        child.kill()
        child.wait()
        tool("mount", "-t", "tmpfs", "tmpfs", self.point / "lost+found")
        self.assert_refused(node, "is mounted below")
        tool("umount", self.point / "lost+found")
        # Not in the node directory, but on the volume, which goes back as a whole.
        (self.point / "else").write_bytes(b"else")
        self.assert_refused(node, "else", "--dry-run")
        with open(self.point / "else", "rb"):
            self.assert_refused(node, f"process {os.getpid()}", "--whole-volume")
        done = self.rollback(node, "first", "--whole-volume").json
        self.assert_same(first, node)
        self.assertFalse((self.point / "else").exists())
        self.rollback(node, done["kept_as"])
        self.assertTrue((self.point / "else").exists())

    def test_volumes_and_snapshots_that_will_not_do(self):
        node, _ = self.node("ext4")
        bound = self.scratch / "bound"
        bound.mkdir()
        tool("mount", "--bind", node / "below", bound)
        self.stack.callback(self._unmount, bound)
        self.ok("snapshot", "create", bound, "of-a-part", "--snapshot", "lvm-thin")
        self.assert_refused(bound, "a part of its file system", snapshot="of-a-part")
        self._unmount(bound)
        self.assert_refused(node, "no snapshot named", snapshot="second")
        notes = RECORDS.parent
        notes.mkdir(exist_ok=True)
        tool("mount", "--bind", node / "below", notes)
        self.stack.callback(self._unmount, notes)
        self.assert_refused(node, f"also holds {notes}")
        self._unmount(notes)
        snapshot = next(name for name in self.snapshots() if name.endswith(".first"))
        tool("lvchange", "-qq", "-an", f"{GROUP}/{snapshot}")
        tool("lvchange", "-qq", "-prw", f"{GROUP}/{snapshot}")
        self.assert_refused(node, "was made writable")
        tool("lvchange", "-qq", "-pr", f"{GROUP}/{snapshot}")
        self.fill_pool(81)
        self.assert_refused(node, "of whose data")

    def stopped_at(self, step, node):
        child = self.start_program("rollback", node, "first", "--snapshot", "lvm-thin", program=FAULTS,
                                   environment={"NODESNAP_SIGNAL_AT": step, "NODESNAP_SIGNAL": str(int(signal.SIGSTOP))})
        harness.wait_for(lambda: child.poll() is not None or harness.is_stopped(child.pid), step)
        return child

    def test_what_others_do_meanwhile(self):
        node, first = self.node("ext4")
        child = self.stopped_at("rollback.cloned", node)
        self.assertIn("another rollback", self.rollback(node, "first", expect=REFUSED).err)
        self.assertEqual(self.entries(node)[1], [])  # and leaves it alone
        self.assertEqual(self.go_on(child).status, DONE)
        self.assert_same(first, node)
        self.assert_tidy()
        # Somebody who unmounts what is on a device that has gone, as systemd does, can't.
        for step in ("rollback.renamed-away", "rollback.exchanged"):
            child = self.stopped_at(step, node)
            done = subprocess.run(["umount", node], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            self.assertNotEqual(done.returncode, 0, step)
            self.assertEqual(self.go_on(child).status, DONE)
        self.assert_same(first, node)


class Held(RollbackCase):
    def test_the_daemon_is_stopped_and_started(self):
        node, first = self.node("ext4")
        (node / "pages").write_bytes(b"pages")
        self.ok("snapshot", "create", node, "second", "--snapshot", "lvm-thin")
        hold, daemon = self.daemon(node / "pages")
        self.change(node)
        self.rollback(node, "second", expect=REFUSED)
        before = daemon.pid
        done = self.rollback(node, "second", *hold, expect=(DONE, WARNINGS)).json
        self.assertGreater(done["downtime_ms"], 0)
        self.assertNotEqual(daemon.pid, before)
        self.assertTrue(daemon.runs_on_it())
        # When it fails the daemon runs again, too, on what was there.
        before = daemon.pid
        self.change(node)
        present = self.content(node)
        self.rollback(node, "second", *hold, program=FAULTS, environment={"NODESNAP_FAIL": "4:5:lvm"}, expect=FAILED)
        self.assert_same(present, node)
        self.assertNotEqual(daemon.pid, before)
        self.assertTrue(daemon.runs_on_it())


if __name__ == "__main__":
    lvm_case.main()
