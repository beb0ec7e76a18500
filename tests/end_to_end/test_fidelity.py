"""What comes back is what was there: content, attributes, links, holes, on every file system, by the judgement of tools that aren't nodesnap."""

import os
import shlex
import subprocess

import compare
import harness
from torture import Torture

# rsync can't follow paths longer than PATH_MAX; compare.py does.
RSYNC_EXCLUDED = ("/deep",)


class Fidelity(harness.Case):
    def assert_same(self, source, restored, rsync=True):
        lines = compare.differences(compare.snapshot_of(source), compare.snapshot_of(restored))
        self.assertEqual(lines, [], "\n".join(lines[:40]))
        if rsync:
            found = self.rsync(source, restored)
            self.assertEqual(found, [], "\n".join(found[:40]))

    @staticmethod
    def rsync(source, restored):
        command = ["rsync", "-aHAXSn", "--checksum", "--delete", "--itemize-changes", *(f"--exclude={path}" for path in RSYNC_EXCLUDED)]
        # The sparse giants would be read in full; compare.py reads what they hold.
        command += ["--exclude=/holes/one tebibyte", "--exclude=/holes/only a hole"]
        done = subprocess.run([*command, f"{source}/", f"{restored}/"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        lines = done.stdout.decode(errors="backslashreplace").splitlines()
        return lines if done.returncode == 0 else [f"rsync ended with {done.returncode}", *lines]

    def torture(self, kind):
        mount = self.file_system(kind, 2048)
        node = self.subvolume(mount / "node") if kind == "btrfs" else mount / "node"
        node.mkdir(exist_ok=True)
        Torture(node, kind).make()
        return mount, node

    def round_trip(self, kind, *backup_options):
        mount, node = self.torture(kind)
        repository = self.repository()
        self.ok("backup", node, repository, *backup_options)
        self.ok("verify", repository, "--data")
        restored = mount / "restored"
        self.ok("restore", repository, "latest", restored)
        self.assert_same(node, restored)
        return mount, node, repository, restored

    def test_btrfs(self):
        mount, node, repository, restored = self.round_trip("btrfs")
        self.assertEqual(os.stat(restored).st_ino, 256, "the restored node is not a subvolume")
        self.assertEqual(os.stat(restored / "deep").st_dev, os.stat(restored).st_dev)
        # The restored node can be backed up again, and comes back the same once more.
        other = self.repository("other", "node2")
        self.ok("backup", restored, other)
        self.ok("restore", other, "latest", mount / "again")
        self.assert_same(node, mount / "again", rsync=False)

    def test_ext4_without_snapshot(self):
        self.round_trip("ext4", "--snapshot", "none")

    def test_xfs_without_snapshot(self):
        self.round_trip("xfs", "--snapshot", "none")

    def test_holes_on_xfs(self):
        """It reserves space beyond what is appended, which must not pass for data where a hole is to be."""
        mount = self.file_system("xfs", 512)
        node = mount / "node"
        node.mkdir()
        with open(node / "file", "wb") as file:
            os.ftruncate(file.fileno(), 4_370_432)
            for offset, length in ((0, 81_920), (1_130_496, 3_031_040), (4_239_360, 131_072)):
                os.pwrite(file.fileno(), os.urandom(length), offset)
        repository = self.repository()
        self.ok("backup", node, repository, "--snapshot", "none")
        for number in range(3):
            restored = mount / f"restored{number}"
            self.ok("restore", repository, "latest", restored)
            self.assert_same(node, restored)

    def test_without_io_uring(self):
        mount, node = self.torture("btrfs")
        repository = self.repository()
        result = self.ok("backup", node, repository, preexec_fn=harness.no_io_uring)
        self.assertRegex(result.out + result.err, "io_uring", "nothing was said about the fallback")
        restored = mount / "restored"
        self.ok("restore", repository, "latest", restored, preexec_fn=harness.no_io_uring)
        self.ok("verify", repository, "--data", preexec_fn=harness.no_io_uring)
        self.assert_same(node, restored)

    def test_folder_inside_a_subvolume(self):
        mount = self.file_system("btrfs", 2048)
        node = mount / "data" / "node"
        node.mkdir(parents=True)
        (mount / "data" / "not ours").write_bytes(b"no")
        Torture(node).make()
        repository = self.repository()
        self.ok("backup", node, repository)
        self.ok("restore", repository, "latest", mount / "restored")
        self.assert_same(node, mount / "restored")

    def test_mounted_subvolume(self):
        mount = self.file_system("btrfs", 1024)
        self.subvolume(mount / "volume")
        device = harness.tool("findmnt", "-n", "-o", "SOURCE", mount).strip()
        node = self.scratch / "mounted"
        node.mkdir()
        harness.tool("mount", "-o", "subvol=volume", device, node)
        self.stack.callback(self._unmount, node)
        Torture(node).make()
        repository = self.repository()
        self.ok("backup", node, repository)
        self.ok("restore", repository, "latest", mount / "restored")
        self.assert_same(node, mount / "restored")
        # Into the root of a mount, which nothing can be renamed onto.
        self.subvolume(mount / "second")
        place = self.scratch / "second"
        place.mkdir()
        harness.tool("mount", "-o", "subvol=second", device, place)
        self.stack.callback(self._unmount, place)
        self.ok("restore", repository, "latest", place)
        self.assert_same(node, place)

    def test_what_the_destination_cannot_hold_is_reported(self):
        mount, node = self.torture("btrfs")
        repository = self.repository()
        self.ok("backup", node, repository)
        other = self.file_system("ext4", 1024)
        result = self.run_program("restore", repository, "latest", other / "restored", expect=harness.WARNINGS)
        self.assertIn("user.large", result.err)

    def test_one_path(self):
        mount, node = self.torture("btrfs")
        repository = self.repository()
        self.ok("backup", node, repository)
        self.ok("restore", repository, "latest", mount / "part", "--path", "links", "--path", "sizes/4097")
        self.assertEqual(sorted(os.listdir(mount / "part")), ["links", "sizes"])
        self.assertEqual(os.listdir(mount / "part" / "sizes"), ["4097"])
        self.assertEqual(self.rsync(node / "links", mount / "part" / "links"), [])
        dumped = self.ok("dump", repository, "latest", "sizes/8388613", out_bytes=True)
        self.assertEqual(dumped.out, (node / "sizes" / "8388613").read_bytes())
        dumped = self.ok("dump", repository, "latest", "holes/unwritten", out_bytes=True)
        self.assertEqual(dumped.out, (node / "holes" / "unwritten").read_bytes())

    def test_excludes(self):
        mount = self.file_system("btrfs", 256)
        node = self.subvolume(mount / "node")
        for name in ("keep", "a.tmp", "cache/x/y", "cache/z", "sub/cache/kept", "sub/b.tmp", "LOG"):
            (node / name).parent.mkdir(parents=True, exist_ok=True)
            (node / name).write_bytes(name.encode())
        repository = self.repository()
        self.ok("backup", node, repository, "--exclude", "*.tmp", "--exclude", "/cache")
        self.ok("restore", repository, "latest", mount / "restored")
        found = sorted(os.path.relpath(os.path.join(folder, name), mount / "restored") for folder, _, names in os.walk(mount / "restored") for name in names)
        self.assertEqual(found, ["LOG", "keep", "sub/cache/kept"])

    def test_nested_subvolumes_are_refused_until_excluded(self):
        mount = self.file_system("btrfs", 256)
        node = self.subvolume(mount / "node")
        (node / "file").write_bytes(b"x")
        self.subvolume(node / "inner")
        repository = self.repository()
        result = self.run_program("backup", node, repository, expect=harness.REFUSED)
        self.assertIn("inner", result.err)
        self.assertIn("--exclude", result.err)
        self.ok("backup", node, repository, "--exclude", "/inner")

    def test_one_hint_excludes_all_that_is_nested(self):
        mount = self.file_system("btrfs", 256)
        node = self.subvolume(mount / "node")
        (node / "file").write_bytes(b"x")
        for number in range(23):
            self.subvolume(node / f"inner {number}")
        (node / "mounted").mkdir()
        harness.tool("mount", "-t", "tmpfs", "none", node / "mounted")
        self.stack.callback(harness.tool, "umount", node / "mounted")
        repository = self.repository()
        result = self.run_program("backup", node, repository, expect=harness.REFUSED)
        self.assertIn("and 18 more", result.err)
        hint = result.err.split("exclude them with ", 1)[1].split(", or back", 1)[0]
        self.ok("backup", node, repository, *shlex.split(hint))


if __name__ == "__main__":
    harness.main()
