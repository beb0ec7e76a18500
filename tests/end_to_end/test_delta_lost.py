"""restore --delta where the repository has lost data: what the directory has of it is never written over with zeros."""

import os
import shutil

import compare
import harness
from delta_case import DeltaCase

BYTES = 3 << 20


class DeltaLost(DeltaCase):
    def node(self, place):
        place.mkdir(exist_ok=True)
        self.bytes = {name: os.urandom(BYTES) for name in ("f1", "f2")}
        self.bytes["small"] = os.urandom(20000)
        for name, data in self.bytes.items():
            (place / name).write_bytes(data)
        (place / "CURRENT").write_bytes(b"MANIFEST-1\n")
        return place

    @staticmethod
    def lose_data(repository):
        """Removes the data packs."""
        packs = [path for path in (repository / "packs").rglob("*") if path.is_file()]
        assert packs
        for path in packs:
            path.unlink()

    def backed_up(self, kind):
        mount = self.file_system(kind)
        node = self.node(self.subvolume(mount / "y") if kind == "btrfs" else mount / "y")
        repository = self.repository()
        self.ok("backup", node, repository, *(() if kind == "btrfs" else ("--snapshot", "none")))
        return mount, node, repository

    def copy_of(self, node, kind):
        copy = node.parent / "y2"
        if kind == "btrfs":
            harness.tool("btrfs", "subvolume", "snapshot", node, copy)
        else:
            shutil.copytree(node, copy)
        with open(copy / "CURRENT", "ab") as file:
            file.write(b"one more line\n")
        return copy

    def restore(self, repository, node, *options, expect):
        return self.run_program("restore", repository, "latest", node, "--delta", "--json", *options, expect=expect)

    @staticmethod
    def warnings(result):
        return "\n".join(map(str, result.json["warnings"]))

    def assert_bytes(self, node):
        for name, data in self.bytes.items():
            self.assertTrue((node / name).read_bytes() == data, f"{node}/{name} isn't what it was")
        self.assertEqual((node / "CURRENT").read_bytes(), b"MANIFEST-1\n")

    def assert_kept(self, result):
        self.assertEqual({range["path"] for range in result.json["lost"]}, set(self.bytes))
        for range in result.json["lost"]:
            self.assertEqual((range["cause"], range["kept"]), ("damaged", True), range)
        self.assertEqual(sum(range["length"] for range in result.json["lost"]), sum(map(len, self.bytes.values())))
        self.assertIn("what was there before, not proved to be what the backup holds", self.warnings(result))

    def uses_the_snapshot(self, *options):
        _, node, repository = self.backed_up("btrfs")
        copy = self.copy_of(node, "btrfs")
        self.lose_data(repository)
        for more in (("--dry-run",), ()):
            result = self.restore(repository, copy, *options, *more, expect=harness.DONE)
            self.assertEqual((result.json["basis"], result.json["bytes"], result.json["lost"]), ("snapshot", 0, []))
        self.assert_bytes(copy)
        self.assert_tidy(copy)

    def test_the_snapshot_is_used_by_dry_run_and_run_alike(self):
        self.uses_the_snapshot()

    def test_the_snapshot_is_used_with_accept_incomplete(self):
        self.uses_the_snapshot("--accept-incomplete")

    def keeps(self, kind, *options, basis):
        _, node, repository = self.backed_up(kind)
        copy = self.copy_of(node, kind)
        self.lose_data(repository)
        before = compare.snapshot_of(copy, with_allocation=False)
        planned = self.restore(repository, copy, "--dry-run", *options, expect=harness.DAMAGED)
        self.assertIn("it is missing", planned.err)
        self.assertNotIn("--full", planned.err)
        planned = self.restore(repository, copy, "--dry-run", "--accept-incomplete", *options, expect=harness.WARNINGS)
        self.assert_same(before, copy)
        result = self.restore(repository, copy, "--accept-incomplete", *options, expect=harness.WARNINGS)
        self.assertEqual(result.json["basis"], basis)
        self.assert_bytes(copy)
        for each in (planned, result):
            self.assertEqual({range["path"] for range in each.json["lost"]}, set(self.bytes))
            self.assertTrue(all(range["kept"] for range in each.json["lost"]), each.json["lost"])
        self.assertEqual(planned.json["lost"], result.json["lost"])
        self.assertIn("would stay what was there before", self.warnings(planned))
        self.assert_kept(result)
        return copy, result

    def test_a_clone_keeps_what_is_lost_and_the_old_directory_stays(self):
        copy, result = self.keeps("btrfs", "--no-snapshot", basis="clone")
        self.assertEqual(result.json["old_kept_as"], str(copy) + ".before-restore")
        self.assertEqual((copy.parent / "y2.before-restore" / "CURRENT").read_bytes(), b"MANIFEST-1\none more line\n")

    def test_in_place_keeps_what_is_lost_on_btrfs(self):
        self.keeps("btrfs", "--in-place", basis="in place")

    def test_in_place_keeps_what_is_lost_on_ext4(self):
        self.keeps("ext4", "--in-place", basis="in place")

    def test_a_gate_file_keeps_what_is_lost(self):
        _, node, repository = self.backed_up("ext4")
        self.lose_data(repository)
        options = ("--in-place", "--gate-file", "f1")
        result = self.restore(repository, node, *options, expect=harness.DAMAGED)
        self.assertIn("gate.0 (which was f1)", result.err)
        self.restore(repository, node, *options, "--accept-incomplete", expect=harness.WARNINGS)
        self.assert_bytes(node)

    def test_zeros_only_where_there_is_nothing(self):
        _, node, repository = self.backed_up("ext4")
        self.lose_data(repository)
        os.truncate(node / "f1", 1 << 20)
        (node / "f2").unlink()
        planned = self.restore(repository, node, "--in-place", "--accept-incomplete", "--dry-run", expect=harness.WARNINGS)
        result = self.restore(repository, node, "--in-place", "--accept-incomplete", expect=harness.WARNINGS)
        self.assertEqual((node / "f1").read_bytes(), self.bytes["f1"][: 1 << 20] + bytes(BYTES - (1 << 20)))
        self.assertEqual((node / "f2").read_bytes(), bytes(BYTES))
        self.assertEqual((node / "small").read_bytes(), self.bytes["small"])
        lost = [(range["path"], range["offset"], range["length"], range["kept"]) for range in result.json["lost"]]
        self.assertEqual(lost, [("f1", 0, 1 << 20, True), ("f1", 1 << 20, BYTES - (1 << 20), False), ("f2", 0, BYTES, False), ("small", 0, 20000, True)])
        self.assertEqual(planned.json["lost"], result.json["lost"])

    def test_a_snapshot_of_another_backup_names_what_is_lost(self):
        _, node, repository = self.backed_up("btrfs")
        packs = {path for path in (repository / "packs").rglob("*") if path.is_file()}
        later = os.urandom(BYTES)
        (node / "f2").write_bytes(later)
        self.ok("backup", node, repository)
        first = self.backups(repository)[0]["id"]
        for path in packs:
            path.unlink()
        planned = self.run_program("restore", repository, first, node, "--delta", "--json", "--accept-incomplete", "--dry-run", expect=harness.WARNINGS)
        result = self.run_program("restore", repository, first, node, "--delta", "--json", "--accept-incomplete", expect=harness.WARNINGS)
        self.assertEqual(result.json["basis"], "snapshot")
        for each in (planned, result):
            self.assertEqual([(range["path"], range["kept"]) for range in each.json["lost"]], [("f2", True)])
        self.assertEqual((node / "f1").read_bytes(), self.bytes["f1"])
        self.assertEqual((node / "f2").read_bytes(), later)
        self.assertEqual(result.json["old_kept_as"], str(node) + ".before-restore")

    def test_in_place_removes_nothing_that_it_cannot_replace(self):
        _, node, repository = self.backed_up("ext4")
        self.lose_data(repository)
        (node / "f2").unlink()
        os.link(node / "f1", node / "f2")  # two files of one inode, that are to be two: the first is made anew
        self.restore(repository, node, "--in-place", "--workers", "1", expect=harness.DAMAGED)
        for name in ("f1", "f2"):
            self.assertTrue((node / name).read_bytes() == self.bytes["f1"], name)
        result = self.restore(repository, node, "--in-place", "--accept-incomplete", expect=harness.WARNINGS)
        self.assert_kept(result)
        for name in ("f1", "f2"):
            self.assertTrue((node / name).read_bytes() == self.bytes["f1"], name)
        self.assertNotEqual(os.stat(node / "f1").st_ino, os.stat(node / "f2").st_ino)

    def test_what_was_kept_is_told_by_the_run_that_goes_on(self):
        _, node, repository = self.backed_up("ext4")
        self.lose_data(repository)
        command = ("restore", repository, "latest", node, "--delta", "--in-place", "--accept-incomplete", "--json")
        killed = self.run_program(*command, program=harness.FAULTS, environment={"NODESNAP_SIGNAL_AT": "restore.placed", "NODESNAP_SIGNAL": "9"})
        self.assertEqual(killed.status, -9)
        refused = self.restore(repository, node, "--in-place", expect=harness.REFUSED)
        self.assertNotIn("or remove", refused.err)
        self.assert_kept(self.run_program(*command, expect=harness.WARNINGS))
        self.assert_bytes(node)

    def test_a_damaged_block_that_differs_stays_as_it_is(self):
        _, node, repository = self.backed_up("ext4")
        pack = max((path for path in (repository / "packs").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        with open(pack, "r+b") as file:
            file.seek(1 << 20)
            old = file.read(200000)
            file.seek(1 << 20)
            file.write(bytes(byte ^ 1 for byte in old))
        for name in ("f1", "f2"):
            with open(node / name, "r+b") as file:
                for offset in range(0, BYTES, 65536):
                    file.seek(offset)
                    file.write(b"changed")
        result = self.restore(repository, node, "--in-place", "--accept-incomplete", expect=harness.WARNINGS)
        self.assertNotEqual(result.json["lost"], [])
        wanted = {name: bytearray(self.bytes[name]) for name in ("f1", "f2")}
        for lost in result.json["lost"]:
            self.assertTrue(lost["kept"], lost)
            self.assertEqual(lost["length"] % 65536, 0)
            for offset in range(lost["offset"], lost["offset"] + lost["length"], 65536):
                wanted[lost["path"]][offset : offset + 7] = b"changed"
        for name, data in wanted.items():
            self.assertTrue((node / name).read_bytes() == bytes(data), name)

    def test_what_stops_in_place_says_what_is_kept_and_how_it_goes_on(self):
        _, node, repository = self.backed_up("ext4")
        self.lose_data(repository)
        (node / "f1").write_bytes(b"other")
        result = self.restore(repository, node, "--in-place", expect=harness.DAMAGED)
        self.assertIn("neither what it was nor what the backup holds", result.err)
        self.assertIn(f"{node}/.nodesnap-restore/gate.0 (which was CURRENT)", result.err)
        self.assertIn("--accept-incomplete", result.err)
        self.assertNotIn("remove it", result.err)
        self.restore(repository, node, "--in-place", "--accept-incomplete", expect=harness.WARNINGS)
        self.assertEqual((node / "f2").read_bytes(), self.bytes["f2"])
        self.assertEqual((node / "f1").read_bytes(), b"other" + bytes(BYTES - 5))
        self.assert_tidy(node)


if __name__ == "__main__":
    harness.main()
