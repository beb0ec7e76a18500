"""What the tests of rolling back a plain folder share: the storages that it is done on."""

import functools
import os

import compare
import harness
from rollback_case import RollbackCase

# File system, what takes the snapshots, and the options that say so.
STORAGES = [("xfs", "reflink", ()), ("btrfs", "reflink", ("--snapshot", "reflink")), ("btrfs", "btrfs", ()), ("ext4", "hardlink", ())]


def on(*kinds):
    """A test of each storage, or of those whose file system or kind is named."""
    def decorate(test):
        @functools.wraps(test)
        def run(self):
            for storage in STORAGES:
                if not kinds or set(kinds) & set(storage[:2]):
                    with self.subTest(file_system=storage[0], kind=storage[1]):
                        test(self, *self.place(*storage))
                        self.stack.close()
                        self.setUp()
        return run
    return decorate


class FolderCase(RollbackCase):
    def place(self, file_system, kind, options, mib=1024, mount_options="noatime"):
        self.kind, self.options = kind, options
        make = ("-m", "reflink=1") if file_system == "xfs" else ()
        self.top = self.file_system(file_system, mib, options=mount_options, make_options=make)
        (self.top / "above").mkdir()
        node = self.top / "above" / "node"
        node.mkdir()
        return node, self.top

    def fill(self, node):
        super().fill(node)
        (node / "tables").mkdir(exist_ok=True)
        for number in range(6):
            (node / "tables" / f"{number}.sst").write_bytes(os.urandom(200_000))

    def change(self, node):
        super().change(node)
        (node / "tables" / f"new{self.rounds}.sst").write_bytes(os.urandom(100_000))
        (node / "tables" / f"{self.rounds % 6}.sst").unlink(missing_ok=True)

    def create(self, node, name):
        self.ok("snapshot", "create", node, name, *self.options, *self.making())

    def making(self):
        return ("--snapshot", "hardlink", "--immutable", "*.sst") if self.kind == "hardlink" else ()

    def snapshots(self, node, *options):
        return super().snapshots(node, *self.options, *options)

    def rollback(self, node, snapshot, *options, expect=harness.DONE):
        return super().rollback(node, snapshot, *self.options, *options, expect=expect)

    def remove(self, node, name):
        self.ok("snapshot", "remove", node, name, *self.options)

    def tables(self, node):
        return {path.name: path.stat().st_ino for path in (node / "tables").iterdir()}

    @staticmethod
    def content(node, with_allocation=False):
        described = compare.snapshot_of(node, with_allocation=with_allocation)
        for entry in described.values():
            entry.pop("links", None)  # tables have names in snapshots
        return described
