"""What the tests of rollback share: a node in each layout, what it was, and what its file system holds."""

import os
import re
from pathlib import Path

import compare
import harness
from torture import fill_with_files


class RollbackCase(harness.Case):
    def node_of(self, layout, options="noatime"):
        """An empty node directory, and the mount of the file system's top level."""
        top = self.file_system("btrfs", 1024, options=options)
        if layout == "subvolume":
            return self.subvolume(top / "node"), top
        (top / "above").mkdir()
        self.subvolume(top / "above" / "sub")
        point = self.scratch / "node"
        point.mkdir(exist_ok=True)
        if layout == "mounted":
            harness.tool("mount", "-o", "subvol=above/sub,noatime,nosuid,nodev", self.device_of(top), point)
        else:
            harness.tool("mount", "--bind", top / "above" / "sub", point)
        self.stack.callback(self._unmount, point)
        return point, top

    @staticmethod
    def device_of(point):
        return harness.tool("findmnt", "--noheadings", "--raw", "--first-only", "--output", "SOURCE", point).strip().split("[")[0]

    @staticmethod
    def options_of(point):
        return harness.tool("findmnt", "--noheadings", "--raw", "--output", "VFS-OPTIONS", "--target", point).split()

    @staticmethod
    def fill(node):
        fill_with_files(node / "files", 40, 5000)
        (node / "CURRENT").write_bytes(b"MANIFEST-1\n")
        (node / "pages").write_bytes(os.urandom(4 << 20))
        os.setxattr(node / "pages", "user.note", b"kept")
        os.chmod(node, 0o750)

    def change(self, node):
        self.rounds = getattr(self, "rounds", 0) + 1
        with open(node / "pages", "r+b") as file:
            for _ in range(20):
                file.seek(int.from_bytes(os.urandom(2), "little") % 1024 * 4096)
                file.write(os.urandom(4096))
        (node / f"new{self.rounds}").write_bytes(os.urandom(50_000))
        (node / "CURRENT").write_bytes(f"MANIFEST-changed-{self.rounds}\n".encode())

    @staticmethod
    def content(node):
        return compare.snapshot_of(node, with_allocation=False)

    def assert_same(self, wanted, node, message=""):
        lines = compare.differences(wanted, self.content(node))
        self.assertEqual(lines, [], message + "\n".join(lines[:20]))

    def snapshots(self, node, *options):
        return {entry["name"]: entry for entry in self.ok("snapshot", "list", node, *options, "--json").json["snapshots"]}

    def kept(self, node):
        return sorted(name for name, entry in self.snapshots(node).items() if entry["role"] == "before-rollback")

    @staticmethod
    def state_of(top):
        """All subvolumes with their paths, flags and contents' generations, and what lies in the snapshots' folders."""
        subvolumes = harness.tool("btrfs", "subvolume", "list", "-u", "-q", top)
        read_only = harness.tool("btrfs", "subvolume", "list", "-r", top)
        without_generation = re.sub(r" gen \d+", "", subvolumes + read_only)
        return without_generation, sorted(str(path) for folder in Path(top).rglob(".nodesnap") for path in folder.iterdir())

    def rollback(self, node, snapshot, *options, expect=harness.DONE):
        return self.run_program("rollback", node, snapshot, *options, "--json", expect=expect).json

    def assert_tidy(self, top):
        self.assertEqual([str(path) for path in Path(top).rglob(".rollback.*")], [])
