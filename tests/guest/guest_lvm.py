"""Classic LVM snapshots: backups from them, and what becomes of them."""

import os
import re

import lvm_case
from harness import FAILED, FAULTS, REFUSED, tool
from lvm_case import GROUP, LvmCase

LARGE = 140 << 20  # more than one pack


class Backups(LvmCase):
    def test_the_log_of_the_file_system_is_replayed(self):
        for kind in lvm_case.FILE_SYSTEMS:
            with self.subTest(kind):
                node = self.volume(kind)
                names = []
                for number in range(50):  # in the log, not yet where they belong
                    path = node / f"fsynced{number}"
                    with open(path, "wb") as file:
                        file.write(b"%d" % number)
                        os.fsync(file.fileno())
                    names.append(path.name)
                repository = self.repository(kind)
                self.backup(node, repository, "--snapshot", "lvm")
                self.assert_restores(repository, node)

    def test_a_held_daemon_makes_it_a_point_in_time(self):
        node = self.volume("ext4")
        self.fill(node, 1)
        repository = self.repository()
        mark = self.scratch / "held"
        result = self.backup(node, repository, "--snapshot", "lvm", "--hold", "hook", "--before-command", f"touch {mark}", "--after-command", f"rm {mark}")
        self.assertEqual(result["backup"]["consistency"], "point-in-time")
        self.assertFalse(mark.exists())
        self.assert_restores(repository, node)

    def test_files_that_could_be_cloned_are_not_while_somebody_writes(self):
        node = self.volume("xfs") / "node"
        self.fill(node, 1)
        repository = self.repository()
        with open(node / "file0", "ab"):
            running = self.backup(node, repository)
            self.assertEqual((running["snapshot_backend"], running["backup"]["consistency"]), ("lvm", "crash-consistent"))
            self.assertIn("while nobody writes", running["snapshot_backend_reason"])
            self.run_program("backup", node, repository, "--snapshot", "reflink", expect=REFUSED)
        self.assertEqual(self.backup(node, repository)["snapshot_backend"], "reflink")
        self.assert_restores(repository, node)

    def test_a_bind_mount_of_a_folder_is_found_on_the_volume(self):
        point = self.volume("xfs")
        self.fill(point / "deep" / "node", 1)
        bound = self.scratch / "bound"
        bound.mkdir()
        tool("mount", "--bind", point / "deep" / "node", bound)
        self.stack.callback(self._unmount, bound)
        repository = self.repository()
        self.backup(bound, repository, "--snapshot", "lvm")
        self.assert_restores(repository, bound)


class Overflows(LvmCase):
    def stopped_with_its_snapshot(self, node, repository, *options):
        child = self.start_program("backup", node, repository, "--snapshot", "lvm", *options, program=FAULTS,
                                   environment={"NODESNAP_SIGNAL_AT": "backup.snapshot-recorded", "NODESNAP_SIGNAL": "19"})
        lvm_case.harness.wait_for(lambda: lvm_case.harness.is_stopped(child.pid), "the snapshot")
        return child

    def overwrite(self, directory):
        for number in range(4):
            (directory / f"written{number}").write_bytes(os.urandom(12 << 20))
        os.sync()

    def test_an_overflow_is_noticed_and_the_backup_fails(self):
        node = self.volume("ext4")
        self.fill(node, 1, bytes_each=2_000_000)
        repository = self.repository()
        for options in ([], ["--skip-unreadable"]):
            with self.subTest(options):
                child = self.stopped_with_its_snapshot(node, repository, "--snapshot-size", "8M", *options)
                self.overwrite(node)
                self.assertIn("Invalid", tool("dmsetup", "status"))
                child.send_signal(18)
                result = self.finish(child)
                self.assertEqual(result.status, FAILED, str(result))
                self.assertIn("has overflowed", result.err)
                self.assertIn("--snapshot-size", result.err)
                self.assertEqual(self.backups(repository), [])
                self.assertEqual(self.listed(), [node.name])
        self.backup(node, repository, "--snapshot", "lvm")
        self.assert_restores(repository, node)

    def test_it_is_given_up_before_it_overflows(self):
        node = self.volume("xfs")
        self.fill(node, 1, bytes_each=2_000_000)
        repository = self.repository()
        child = self.stopped_with_its_snapshot(node, repository, "--snapshot-size", "40M")
        used, total = 0, 1
        with open(node / "written", "wb") as file:
            while used * 100 < total * 96:
                file.write(os.urandom(400 << 10))
                os.fsync(file.fileno())
                used, total = map(int, re.search(r" snapshot (\d+)/(\d+) ", tool("dmsetup", "status")).groups())
        child.send_signal(18)
        result = self.finish(child)
        self.assertEqual(result.status, FAILED, str(result))
        self.assertIn("is about to overflow", result.err)
        self.assertFalse([name for name in self.listed() if name.startswith("nodesnap")])


class Refusals(LvmCase):
    def refused(self, node, *options, text):
        repository = self.scratch / "refusing"
        if not repository.exists():
            self.repository("refusing")
        result = self.run_program("backup", node, repository, *options, expect=REFUSED)
        self.assertIn(text, result.err)
        self.assertEqual(self.backups(repository), [])

    def test_what_can_not_be_snapshotted_is_refused(self):
        other = self.scratch / "elsewhere"
        self.fill(other, 1)
        self.refused(other, "--snapshot", "lvm", text="no LVM logical volume")
        btrfs = self.volume("btrfs")
        self.fill(btrfs, 1)
        self.refused(btrfs, "--snapshot", "lvm", text="use --snapshot btrfs")
        node = self.volume("ext4")
        self.fill(node, 1)
        self.refused(node, "--snapshot", "lvm", "--snapshot-size", "100G", text="vgextend")
        self.refused(node, "--snapshot", "lvm", "--snapshot-dir", self.scratch / "there", text="kept in their volume group")
        self.extents_left(0)
        self.refused(node, "--snapshot", "lvm", text="has no free extents")

    def test_without_free_extents_auto_reads_the_directory_and_says_why(self):
        node = self.volume("ext4")
        self.fill(node, 1)
        self.extents_left(0)
        repository = self.repository()
        result = self.backup(node, repository)
        self.assertEqual(result["snapshot_backend"], "none")
        self.assertIn("no free extents", result["snapshot_backend_reason"])


class Killed(LvmCase):
    def killed(self, step, node, repository, *options):
        result = self.run_program("backup", node, repository, "--snapshot", "lvm", *options, program=FAULTS, environment={"NODESNAP_SIGNAL_AT": step})
        self.assertEqual(result.status, -9, str(result))

    def test_a_backup_that_was_cut_off_is_gone_on_with_from_its_snapshot(self):
        node = self.volume("xfs")
        self.fill(node, 1)
        (node / "large").write_bytes(os.urandom(LARGE))
        expected = self.scratch / "expected"
        tool("rsync", "-aHAX", f"{node}/", f"{expected}/")
        repository = self.repository()
        self.killed("drain.pack-logged", node, repository)
        names = [name for name in self.listed() if name.startswith("nodesnap")]
        self.assertEqual(len(names), 1)
        self.fill(node, 30)
        result = self.backup(node, repository, "--snapshot", "lvm")
        self.assertTrue(result["resumed"])
        self.assert_restores(repository, expected)
        self.assertEqual(self.listed(), [node.name])

    def test_one_that_has_overflowed_meanwhile_is_begun_anew(self):
        node = self.volume("ext4")
        (node / "large").write_bytes(os.urandom(LARGE))
        repository = self.repository()
        self.killed("drain.pack-logged", node, repository, "--snapshot-size", "8M")
        (node / "written").write_bytes(os.urandom(20 << 20))
        os.sync()
        result = self.backup(node, repository, "--snapshot", "lvm")
        self.assertFalse(result["resumed"])
        self.assertIn("gone, or is not what it was", result["resume_refused"])
        self.assert_restores(repository, node)
        self.assertEqual(self.listed(), [node.name])

    def test_room_that_an_unfinished_backup_holds_is_no_reason_to_refuse(self):
        node = self.volume("ext4")
        self.fill(node, 1)
        self.extents_left(20)
        repository = self.repository()
        self.killed("snapshot.taken", node, repository, "--snapshot-size", "80M")
        self.assertEqual(int(tool("vgs", "--noheadings", "-o", "vg_free_count", GROUP)), 0)
        self.backup(node, repository, "--snapshot", "lvm")


class Snapshots(LvmCase):
    def test_operators_make_list_and_remove_them_and_others_are_not_touched(self):
        node = self.volume("ext4")
        self.fill(node, 1)
        tool("lvcreate", "-qq", "-y", "-s", "-n", "somebodys", "-L", "16M", f"{GROUP}/{node.name}")
        self.ok("snapshot", "create", node, "before-upgrade", "--snapshot-size", "16M")
        self.run_program("snapshot", "create", node, "before-upgrade", "--snapshot", "lvm", expect=REFUSED)
        listed = self.ok("snapshot", "list", node, "--json").json
        self.assertIn(GROUP, listed["location"])
        self.assertEqual([(entry["name"], entry["temporary"], entry["held_bytes"]) for entry in listed["snapshots"]], [("before-upgrade", False, 16 << 20)])
        self.assertTrue(listed["snapshots"][0]["path"].startswith(f"lvm:{GROUP}/nodesnap."))
        repository = self.repository()
        self.backup(node, repository, "--keep-snapshot")  # for the operator
        names = [entry["name"] for entry in self.ok("snapshot", "list", node, "--json").json["snapshots"]]
        self.assertEqual(len(names), 2)
        self.backup(node, repository)
        volume = next(name for name in self.listed() if name.endswith("before-upgrade"))
        point = self.scratch / "mounted"
        point.mkdir()
        tool("mount", "-o", "ro", f"/dev/{GROUP}/{volume}", point)
        self.run_program("snapshot", "remove", node, "before-upgrade", expect=REFUSED)
        tool("umount", point)
        for name in names:
            self.ok("snapshot", "remove", node, name)
        self.run_program("snapshot", "remove", node, "somebodys", expect=REFUSED)
        self.assertEqual(self.listed(), [node.name, "somebodys"])
        self.run_program("rollback", node, "before-upgrade", expect=REFUSED)

    def test_doctor_tells_of_it(self):
        node = self.volume("ext4")
        self.fill(node, 1)
        diagnosis = self.run_program("doctor", node, "--no-measure", "--json").json
        self.assertEqual(diagnosis["snapshot_backend"], "lvm")
        self.assertTrue(next(kind for kind in diagnosis["snapshot_kinds"] if kind["kind"] == "lvm")["available"])
        self.assertIn("free extents", str(diagnosis["findings"]))
        self.extents_left(0)
        diagnosis = self.run_program("doctor", node, "--no-measure", "--json").json
        self.assertEqual(diagnosis["snapshot_backend"], "none")
        self.assertIn("no free extents", str(diagnosis["snapshot_kinds"]))


if __name__ == "__main__":
    lvm_case.main()
