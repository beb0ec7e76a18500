"""Snapshots of thin LVM volumes: backups from them, and what becomes of them and of their pool."""

import os

import lvm_case
from harness import DONE, FAILED, FAULTS, REFUSED, WARNINGS, tool
from lvm_case import GROUP, ThinCase


class Thin(ThinCase):
    def test_a_backup_that_was_cut_off_is_gone_on_with_unless_its_snapshot_was_made_writable(self):
        node = self.thin("ext4", "data")
        repository = self.repository()
        kept = []
        for writable in (False, True):
            with self.subTest(writable=writable):
                (node / "large").write_bytes(os.urandom(140 << 20))  # more than one pack
                os.sync()
                result = self.run_program("backup", node, repository, "--snapshot", "lvm-thin", program=FAULTS,
                                          environment={"NODESNAP_SIGNAL_AT": "drain.pack-logged"})
                self.assertEqual(result.status, -9, str(result))
                snapshot = next(name for name in self.snapshots() if name not in kept)
                if writable:
                    tool("lvchange", "-prw", f"{GROUP}/{snapshot}")
                else:
                    tool("lvchange", "-an", f"{GROUP}/{snapshot}")  # as after a reboot
                self.fill(node, 50)
                result = self.backup(node, repository, "--snapshot", "lvm-thin")
                self.assertEqual(result["resumed"], not writable)
                kept = [self.only_parent()]

    def test_the_kinds_are_told_apart(self):
        thin = self.thin("ext4", "data")
        plain = self.volume("ext4", name="plain")
        repository = self.repository()
        for node, wrong, right in ((thin, "lvm", "lvm-thin"), (plain, "lvm-thin", "lvm")):
            self.fill(node, 1)
            result = self.run_program("backup", node, repository, "--snapshot", wrong, expect=REFUSED)
            self.assertIn(f"use --snapshot {right}", result.err)
        diagnosis = self.run_program("doctor", thin, "--no-measure", "--json").json
        self.assertEqual(diagnosis["snapshot_backend"], "lvm-thin")
        self.assertIn("of its pool", str(diagnosis["findings"]))

    def test_a_file_system_that_does_not_begin_where_the_volume_does_is_refused(self):
        tool("lvcreate", "-qq", "-y", "-V", "320M", "-T", f"{GROUP}/pool", "-n", "whole")
        uuid = tool("dmsetup", "info", "-c", "--noheadings", "-o", "uuid", f"{GROUP}-whole").strip()
        sectors = (300 << 20) // 512
        tool("dmsetup", "create", "part", "--uuid", f"part1-{uuid}", "--table", f"0 {sectors} linear /dev/{GROUP}/whole 2048")
        self.stack.callback(tool, "dmsetup", "remove", "part", check=False)
        node = self.make_and_mount("ext4", "/dev/mapper/part", "part")
        self.fill(node, 1)
        result = self.run_program("backup", node, self.repository(), "--snapshot", "lvm-thin", expect=REFUSED)
        self.assertIn("no LVM logical volume", result.err)

    def test_the_parent_of_a_node_that_has_moved_is_removed(self):
        point = self.thin("ext4", "data")
        self.fill(point / "node", 1)
        repository = self.repository()
        self.backup(point / "node", repository, "--snapshot", "lvm-thin")
        before = self.only_parent()
        (point / "node").rename(point / "moved")
        self.backup(point / "moved", repository, "--snapshot", "lvm-thin", "--adopt-node")
        self.assertNotEqual(self.only_parent(), before)


class Pool(ThinCase):
    pool_mib = 200

    def test_a_pool_that_is_nearly_full_is_spared(self):
        node = self.thin("ext4", "data")
        self.fill(node, 1)
        repository = self.repository()
        child = self.stop_at("backup.snapshot-recorded", node, repository)
        self.fill_pool(81)
        result = self.go_on(child)
        self.assertEqual(result.status, DONE, str(result))  # enough was left to begin with, and is for this one
        self.assertEqual(self.snapshots(), {})  # but it isn't kept
        result = self.run_program("backup", node, repository, "--snapshot", "lvm-thin", expect=REFUSED)
        self.assertIn("of whose data", result.err)
        self.assertIn("lvextend", result.err)

    def test_one_that_becomes_full_while_it_is_read_ends_the_backup(self):
        node = self.thin("ext4", "data")
        self.fill(node, 1)
        repository = self.repository()
        child = self.stop_at("backup.snapshot-recorded", node, repository)
        self.fill_pool(95.5)
        result = self.go_on(child)
        self.assertEqual(result.status, FAILED, str(result))
        self.assertIn("could not be written to any more", result.err)
        self.assertEqual(self.snapshots(), {})

    def test_trim_looks_at_the_pool_whatever_its_bounds(self):
        node = self.thin("ext4", "data")
        self.fill(node, 1)
        self.backup(node, self.repository(), "--snapshot", "lvm-thin")
        self.ok("snapshot", "trim", node, "--max-age", "7d")
        self.only_parent()
        self.fill_pool(81)
        self.ok("snapshot", "trim", node, "--max-age", "7d", "--dry-run")
        self.only_parent()
        result = self.run_program("snapshot", "trim", node, "--max-age", "7d", expect=WARNINGS)
        self.assertIn("was removed", result.err)
        self.assertEqual(self.snapshots(), {})

    def test_a_parent_goes_before_the_pool_is_full(self):
        node = self.thin("ext4", "data")
        (node / "large").write_bytes(os.urandom(90 << 20))
        repository = self.repository()
        self.backup(node, repository, "--snapshot", "lvm-thin")
        with open(node / "large", "r+b") as file:
            file.write(os.urandom(60 << 20))  # the parent has what was there before alone
        os.sync()
        self.fill_pool(81)
        result = self.run_program("backup", node, repository, "--snapshot", "lvm-thin", "--json", expect=WARNINGS).json
        self.assertIn("was removed", str(result["warnings"]))
        self.assertIn("of whose data", result["parent_missing"])
        self.assert_restores(repository, node)
        parent = self.only_parent()
        with open(node / "large", "r+b") as file:
            file.write(os.urandom(4 << 20))
        os.sync()
        held = self.ok("snapshot", "list", node, "--json").json["snapshots"][0]["held_bytes"]
        self.assertTrue(4 << 20 <= held < 6 << 20, held)
        self.assert_nothing_reserved()
        # And so it does when that shows while the next backup reads.
        child = self.stop_at("drain.begun", node, repository)
        self.assertIn(parent, self.snapshots())
        self.fill_pool(96, "more")
        result = self.go_on(child)
        self.assertEqual(result.status, FAILED, str(result))
        self.assertEqual(self.snapshots(), {})


if __name__ == "__main__":
    lvm_case.main()
