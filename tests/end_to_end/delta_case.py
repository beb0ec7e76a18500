"""What the tests of restore --delta share: a node, what happens to it, and what it must be afterwards."""

import os
import random

import compare
import harness


def random_seed():
    seed = int(os.environ.get("NODESNAP_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed {seed}")
    return seed


class DeltaCase(harness.Case):
    def assert_same(self, wanted, node, message=""):
        lines = compare.differences(wanted, compare.snapshot_of(node, with_allocation=False))
        self.assertEqual(lines, [], message + "\n".join(lines[:40]))

    def assert_tidy(self, node):
        left = [name for name in os.listdir(node.parent) + os.listdir(node) if "nodesnap-" in name]
        self.assertEqual(left, [])

    def node_with_files(self, place):
        place.mkdir(exist_ok=True)
        (place / "files").mkdir()
        for number in range(20):
            (place / "files" / f"sst{number}").write_bytes(os.urandom(1 << 20))
        with open(place / "pages", "wb") as file:
            file.write(os.urandom(16 << 20))
            file.truncate(64 << 20)
        (place / "CURRENT").write_bytes(b"MANIFEST-1\n")
        return place

    def spoil(self, node):
        with open(node / "pages", "r+b") as file:
            for page in range(100):
                file.seek(page * 160 * 1024)
                file.write(os.urandom(4096))
            file.seek(40 << 20)
            file.write(os.urandom(1 << 20))  # to be a hole again
        (node / "files" / "sst3").unlink()
        (node / "files" / "sst4").write_bytes(b"short")
        (node / "files" / "new").mkdir()
        (node / "files" / "new" / "file").write_bytes(os.urandom(100_000))
        os.rename(node / "files" / "sst5", node / "files" / "sst5.moved")
        os.link(node / "files" / "sst6", node / "files" / "link")
        (node / "CURRENT").write_bytes(b"MANIFEST-2\n")

    def backed_up_twice(self, kind, layout, mount_options="noatime"):
        """The node as its second backup has it, the repository, the first backup's id, and what that holds."""
        mount = self.file_system(kind, 2048, options=mount_options)
        node = self.node_with_files(self.subvolume(mount / "node") if layout == "subvolume" else mount / "node")
        repository = self.repository()
        backup_options = () if kind == "btrfs" else ("--snapshot", "none")
        self.ok("backup", node, repository, *backup_options)
        wanted = self.backups(repository)[0]["id"]
        full = compare.snapshot_of(node, with_allocation=False)
        self.spoil(node)
        self.ok("backup", node, repository, *backup_options)
        return node, repository, wanted, full
