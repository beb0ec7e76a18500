"""A node whose files have other inode numbers than at its last backup, by a restore or since it was moved: what is stored is found by its path."""

import os
import random
import shutil

import compare
import harness
from changes import Changes

ROUNDS = int(os.environ.get("NODESNAP_MODEL_ROUNDS", "6"))
MIB = 1 << 20
INLINE = 2048  # what is no longer lies in the metadata, and is stored each time
DEEP = 80  # more directories than are kept open


class Moved(harness.Case):
    def make(self, node, seed=1):
        chance = random.Random(seed)
        with open(node / "large", "wb") as file:
            file.write(chance.randbytes(12 * MIB + 777))
            file.seek(20 * MIB)
            file.write(chance.randbytes(MIB))
        (node / "other").write_bytes(chance.randbytes(MIB))
        deep = [node]
        for level in range(DEEP):
            deep.append(deep[-1] / f"level{level}")
            deep[-1].mkdir()
        for directory in deep[5::20]:  # listed after what is below it
            (directory / "file").write_bytes(chance.randbytes(50_000))
        for directory in ("tables", "tables/cold", "logs"):
            (node / directory).mkdir()
            for number in range(150):
                (node / directory / f"{number:03}").write_bytes(chance.randbytes(chance.choice((100, INLINE, INLINE + 1, 9000, 40_000, 200_000))))
        for number in range(10):
            os.link(node / "tables" / f"{number:03}", node / f"link{number}")
        (node / "empty").touch()
        os.symlink("tables/cold", node / "cold")

    @staticmethod
    def pages_changed(node, count):
        with open(node / "large", "r+b") as file:
            for page in range(count):
                file.seek(page * 17 % 3000 * 4096)
                file.write(os.urandom(4096))

    @staticmethod
    def bytes_below(directory, inline):
        """Of files whose content lies in the metadata, or of the others; each counts once."""
        files = {}
        for place, _, names in os.walk(directory):
            for name in names:
                status = os.lstat(os.path.join(place, name))
                if not os.path.islink(os.path.join(place, name)) and (status.st_size <= INLINE) == inline:
                    files[status.st_ino] = status.st_size
        return sum(files.values())

    def backup(self, node, repository, *options):
        return self.ok("backup", node, repository, *options, "--json").json

    @staticmethod
    def numbers(node):
        return {path: path.stat().st_ino for path in node.rglob("*") if path.is_file()}

    def twice_backed_up(self, node, repository):
        """The second one makes maps of many runs, with segments of single pages."""
        self.backup(node, repository)
        self.pages_changed(node, 300)
        return self.backup(node, repository)["backup"]

    def assert_stores(self, expected, made, node):
        """Besides what lies in the metadata."""
        totals = made["backup"]
        self.assertGreaterEqual(totals["read_bytes"], 13 * MIB)
        self.assertEqual(totals["data_bytes"] - totals["referenced_bytes"], self.bytes_below(node, True) + expected)
        self.assertLess(totals["stored_bytes"], expected + 4 * self.bytes_below(node, True) + MIB)

    def assert_restores(self, repository, node, wanted):
        place = node.parent / "compared"
        self.ok("restore", repository, "latest", place)
        self.assertEqual(compare.differences(wanted, compare.named_below(place)), [])
        shutil.rmtree(place)
        self.ok("verify", repository, "--data")

    def assert_incremental_next(self, node, repository):
        """With the change list again."""
        self.pages_changed(node, 5)
        wanted = compare.named_below(node)
        made = self.backup(node, repository)
        self.assertEqual(made["parent_missing"], "")
        self.assertLess(made["backup"]["read_bytes"], MIB)
        self.assert_restores(repository, node, wanted)

    def restore_into_its_place(self, mount, repository):
        """All numbers are given anew; gives the node that was."""
        node = mount / "node"
        node.rename(mount / "was")
        self.ok("restore", repository, "latest", node)
        return compare.named_below(mount / "was")

    def test_restored_into_its_place(self):
        mount = self.file_system("btrfs", 2048)
        node = self.subvolume(mount / "node")
        self.make(node)
        repository = self.repository()
        parent = self.twice_backed_up(node, repository)
        for old in ("kept", "removed"):
            with self.subTest(old=old):
                wanted = self.restore_into_its_place(mount, repository)
                if old == "removed":
                    harness.tool("btrfs", "subvolume", "delete", mount / "was")
                plan = self.backup(node, repository, "--dry-run")
                self.assertEqual(plan["parent"], parent["id"])
                self.assertNotIn("stored_bytes", plan)
                made = self.backup(node, repository)
                self.assertIn("the node directory was replaced", made["parent_missing"])
                self.assertEqual(made["backup"]["parent"], parent["id"])
                self.assertEqual((plan["files"], plan["read_bytes"]), (made["backup"]["files"], made["backup"]["read_bytes"]))
                self.assert_stores(0, made, node)
                self.assert_restores(repository, node, wanted)
                self.assert_incremental_next(node, repository)
                parent = self.backup(node, repository)["backup"]
            if old == "kept":
                shutil.rmtree(mount / "was")

    def test_restored_and_changed(self):
        """A directory that has other numbers and another name isn't found; all beside it is, and pages that were changed cost pages."""
        mount = self.file_system("btrfs", 2048)
        node = self.subvolume(mount / "node")
        self.make(node)
        repository = self.repository()
        self.twice_backed_up(node, repository)
        self.restore_into_its_place(mount, repository)
        (node / "logs").rename(node / "older")
        (node / "tables" / "cold").rename(node / "logs")
        self.pages_changed(node, 20)
        (node / "new").write_bytes(os.urandom(30_000))
        wanted = compare.named_below(node)
        made = self.backup(node, repository)
        anew = self.bytes_below(node / "older", False) + self.bytes_below(node / "logs", False)
        self.assert_stores(anew + 20 * 4096 + 30_000, made, node)
        self.assert_restores(repository, node, wanted)
        self.assert_incremental_next(node, repository)

    def backed_up_and_copied(self):
        """A repository, its newest backup, and a copy of the node on another file system."""
        node = self.subvolume(self.file_system("btrfs", 2048) / "node")
        self.make(node)
        repository = self.repository()
        parent = self.twice_backed_up(node, repository)
        moved = self.subvolume(self.file_system("btrfs", 2048) / "node")
        harness.tool("cp", "-a", f"{node}/.", moved)
        return repository, parent, moved

    def test_copied_to_another_file_system(self):
        repository, parent, moved = self.backed_up_and_copied()
        (moved / "logs").rename(moved / "older")
        wanted = compare.named_below(moved)
        self.assertEqual(self.run_program("backup", moved, repository).status, harness.REFUSED)
        out = self.ok("backup", moved, repository, "--adopt-node", "--dry-run").out
        self.assertIn(f"differs from backup {parent['id']}", out)
        # The old place's snapshot stays, since the old node does; that is told once.
        made = self.run_program("backup", moved, repository, "--adopt-node", expect=harness.WARNINGS)
        self.assertIn("btrfs subvolume delete", made.err)
        out = made.out
        self.assertIn(f"compared with backup {parent['id']}", out)
        self.assertIn("the last backup was of another file system", out)
        totals = self.backups(repository)[-1]
        self.assert_stores(self.bytes_below(moved / "older", False), {"backup": totals}, moved)
        self.assert_restores(repository, moved, wanted)
        self.assert_incremental_next(moved, repository)
        self.ok("diff", repository, parent["id"], totals["id"])

    def test_numbers_that_are_still_the_same(self):
        """Are gone by: a directory was renamed, and in it a file replaced by a copy, whose path leads through the directory's number."""
        mount = self.file_system("btrfs", 2048)
        node = self.subvolume(mount / "node")
        self.make(node)
        repository = self.repository()
        self.backup(node, repository, "--drop-snapshot")
        (node / "tables").rename(node / "renamed")
        largest = max((node / "renamed").iterdir(), key=lambda path: 0 if path.is_dir() else path.stat().st_size)
        shutil.copy2(largest, node / "copy")
        largest.unlink()
        (node / "copy").rename(largest)
        # At each of these paths the parent has the other one.
        (node / "large").rename(node / "third")
        (node / "other").rename(node / "large")
        (node / "third").rename(node / "other")
        wanted = compare.named_below(node)
        made = self.backup(node, repository, "--drop-snapshot")
        self.assert_stores(0, made, node)
        self.assert_restores(repository, node, wanted)

    def test_numbers_that_are_others_now(self):
        """ext4 gives a removed file's number to the next one."""
        mount = self.file_system("ext4", 1024)
        node = mount / "node"
        node.mkdir()
        self.make(node)
        repository = self.repository()
        self.backup(node, repository)
        numbers = self.numbers(node)
        shutil.rmtree(node)
        self.ok("restore", repository, "latest", node)
        now = self.numbers(node)
        self.assertTrue([path for path, number in now.items() if number in numbers.values() and numbers[path] != number], "no number was given anew")
        wanted = compare.named_below(node)
        made = self.backup(node, repository)
        self.assertEqual(made["parent_missing"], "without a snapshot nothing tells what has changed")
        self.assert_stores(0, made, node)
        self.assert_restores(repository, node, wanted)

    def test_cut_off_after_a_move(self):
        """What goes on compares too."""
        repository, parent, moved = self.backed_up_and_copied()
        (moved / "new").write_bytes(os.urandom(150 * MIB))
        wanted = compare.named_below(moved)
        cut_off = self.run_program("backup", moved, repository, "--adopt-node", "--workers", "1", program=harness.FAULTS,
                                   environment={"NODESNAP_SIGNAL_AT": "drain.pack-logged:1", "NODESNAP_SIGNAL": "9"})
        self.assertEqual(cut_off.status, -9, str(cut_off))
        made = self.run_program("backup", moved, repository, "--json", expect=harness.WARNINGS).json  # of the old place's snapshot
        self.assertTrue(made["resumed"])
        self.assertGreater(made["resumed_bytes"], 0)
        self.assertEqual(made["backup"]["parent"], parent["id"])
        totals = made["backup"]
        self.assertEqual(totals["data_bytes"] - totals["referenced_bytes"], self.bytes_below(moved, True) + 150 * MIB)
        self.assert_restores(repository, moved, wanted)
        self.assert_incremental_next(moved, repository)

    def test_model(self):
        """Whatever is changed, and however the node is replaced between two backups, each backup is what the node was."""
        seed = int(os.environ.get("NODESNAP_SEED", random.SystemRandom().randrange(1 << 32)))
        print(f"seed {seed}")
        mount = self.file_system("btrfs", 3072)
        node = self.subvolume(mount / "node")
        repository = self.repository()
        changes = Changes(str(node), None, seed)
        changes.make(120)
        for number in range(ROUNDS):
            log = changes.make(changes.random.choice((1, 5, 60)))
            how = changes.random.choice(("restore", "copy", "clone", "stay")) if number > 0 else "stay"
            if how != "stay":
                node.rename(mount / "was")
            if how == "restore":
                self.ok("restore", repository, "latest", node)
            elif how == "copy":
                harness.tool("cp", "-a", f"{mount / 'was'}/.", self.subvolume(node))
            elif how == "clone":
                harness.tool("btrfs", "subvolume", "snapshot", mount / "was", node)
            if how != "stay":
                harness.tool("btrfs", "subvolume", "delete", mount / "was")
            log += changes.make(changes.random.choice((0, 5, 60)))
            self.backup(node, repository)
            wanted = compare.named_below(node)
            self.ok("restore", repository, "latest", mount / "compared")
            lines = compare.differences(wanted, compare.named_below(mount / "compared"))
            self.assertEqual(lines, [], f"seed {seed}, round {number}, {how}:\n" + "\n".join(log[-100:] + lines[:40]))
            harness.tool("btrfs", "subvolume", "delete", mount / "compared")
            self.ok("verify", repository, "--data")


if __name__ == "__main__":
    harness.main()
