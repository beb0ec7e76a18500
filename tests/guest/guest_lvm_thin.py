"""Snapshots of thin LVM volumes: backups from them, and what becomes of them and of their pool."""

import os

import lvm_case
from harness import DONE, FAILED, FAULTS, REFUSED, tool
from lvm_case import GROUP, LvmCase


class ThinCase(LvmCase):
    pool_mib = 640

    def setUp(self):
        super().setUp()
        tool("lvcreate", "-qq", "-y", "-L", f"{self.pool_mib}M", "-T", f"{GROUP}/pool", "-c", "64k", "--poolmetadatasize", "8M")

    def thin(self, kind, name, mib=320):
        tool("lvcreate", "-qq", "-y", "-V", f"{mib}M", "-T", f"{GROUP}/pool", "-n", name)
        return self.make_and_mount(kind, f"/dev/{GROUP}/{name}", name)

    def fill_pool(self, percent):
        tool("lvcreate", "-qq", "-y", "-V", "400M", "-T", f"{GROUP}/pool", "-n", "other")
        block = os.urandom(1 << 20)
        with open(f"/dev/{GROUP}/other", "wb", buffering=0) as device:
            while float(tool("lvs", "--noheadings", "-o", "data_percent", f"{GROUP}/pool")) < percent:
                for _ in range(4):
                    device.write(block)
                os.fsync(device.fileno())

    def stop_at(self, step, node, repository, *options):
        child = self.start_program("backup", node, repository, "--snapshot", "lvm-thin", *options, program=FAULTS,
                                   environment={"NODESNAP_SIGNAL_AT": step, "NODESNAP_SIGNAL": "19"})
        lvm_case.harness.wait_for(lambda: lvm_case.harness.is_stopped(child.pid), "the snapshot")
        return child

    def go_on(self, child):
        child.send_signal(18)
        return self.finish(child)


class Thin(ThinCase):
    def test_a_backup_shows_one_instant_and_leaves_no_snapshot(self):
        for kind in lvm_case.FILE_SYSTEMS:
            with self.subTest(kind):
                node = self.thin(kind, kind)
                self.fill(node, 1)
                expected = self.scratch / f"expected-{kind}"
                tool("rsync", "-aHAX", f"{node}/", f"{expected}/")
                repository = self.repository(f"repository-{kind}")
                child = self.stop_at("backup.snapshot-recorded", node, repository)
                self.assertEqual(self.mounts_of_snapshots(), [])
                snapshot = next(name for name in self.listed() if name.startswith("nodesnap"))
                self.assertIn("Vri", tool("lvs", "--noheadings", "-o", "lv_attr", f"{GROUP}/{snapshot}"))
                self.fill(node, 50)
                result = self.go_on(child)
                self.assertEqual(result.status, DONE, str(result))
                self.assert_restores(repository, expected)
                self.assertFalse([name for name in self.listed() if name.startswith("nodesnap")])
                second = self.backup(node, repository, *(["--snapshot", "lvm-thin"] if kind == "xfs" else []))
                self.assertEqual(second["snapshot_backend"], "lvm-thin")
                self.assert_restores(repository, node)

    def test_what_a_killed_backup_leaves_is_removed_by_the_next(self):
        node = self.thin("xfs", "data")
        self.fill(node, 1)
        repository = self.repository()
        for seed, step in enumerate(("snapshot.taken", "snapshot.mounted", "backup.published", "snapshot.deleted")):
            with self.subTest(step):
                result = self.run_program("backup", node, repository, "--snapshot", "lvm-thin", program=FAULTS, environment={"NODESNAP_SIGNAL_AT": step})
                self.assertEqual(result.status, -9, str(result))
                self.fill(node, 2 + seed)
                self.run_program("backup", node, repository, "--snapshot", "lvm-thin", expect=DONE)
                self.assertEqual(self.listed(), ["data", "pool"], str(result))
        self.assert_restores(repository, node)

    def test_a_backup_that_was_cut_off_is_gone_on_with_unless_its_snapshot_was_made_writable(self):
        node = self.thin("ext4", "data")
        repository = self.repository()
        for writable in (False, True):
            with self.subTest(writable=writable):
                (node / "large").write_bytes(os.urandom(140 << 20))  # more than one pack
                os.sync()
                result = self.run_program("backup", node, repository, "--snapshot", "lvm-thin", program=FAULTS,
                                          environment={"NODESNAP_SIGNAL_AT": "drain.pack-logged"})
                self.assertEqual(result.status, -9, str(result))
                snapshot = next(name for name in self.listed() if name.startswith("nodesnap"))
                if writable:
                    tool("lvchange", "-prw", f"{GROUP}/{snapshot}")
                else:
                    tool("lvchange", "-an", f"{GROUP}/{snapshot}")  # as after a reboot
                self.fill(node, 50)
                result = self.backup(node, repository, "--snapshot", "lvm-thin")
                self.assertEqual(result["resumed"], not writable)
                self.assertEqual(self.listed(), ["data", "pool"])

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

    def test_operators_make_list_and_remove_them(self):
        node = self.thin("ext4", "data")
        self.fill(node, 1)
        tool("lvcreate", "-qq", "-y", "-s", "-n", "somebodys", f"{GROUP}/data")
        self.ok("snapshot", "create", node, "before-upgrade")
        self.assertEqual([entry["name"] for entry in self.ok("snapshot", "list", node, "--json").json["snapshots"]], ["before-upgrade"])
        self.ok("snapshot", "remove", node, "before-upgrade")
        self.assertEqual(self.listed(), ["data", "pool", "somebodys"])


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
        self.assertFalse([name for name in self.listed() if name.startswith("nodesnap")])


if __name__ == "__main__":
    lvm_case.main()
