"""Where the world is against it: a full target, a read-only repository, a source that can't be read, a place that is taken."""

import os
import shutil

import compare
import harness
from torture import fill_with_files


class Limits(harness.Case):
    def node_of(self, mount, mib=20):
        node = self.subvolume(mount / "node")
        fill_with_files(node / "files", 100, 3000)
        (node / "large").write_bytes(os.urandom(mib << 20))
        return node

    def test_full_target(self):
        mount = self.file_system("btrfs", 512)
        node = self.node_of(mount, 150)
        target = self.file_system("ext4", 100)
        self.ok("init", target / "repository", "--node", "node1")
        result = self.run_program("backup", node, target / "repository", expect=harness.FAILED)
        self.assertRegex(result.err, "(?i)no space left")
        self.assertIn(str(target / "repository"), result.err)
        self.assertEqual(self.backups(target / "repository"), [])
        self.assertEqual(self.ok("snapshot", "list", node, "--json").json["snapshots"], [])
        # There is room again at once, and the next backup works.
        (node / "large").write_bytes(os.urandom(30 << 20))
        self.ok("backup", node, target / "repository")
        self.ok("verify", target / "repository", "--data")

    def test_full_destination(self):
        mount = self.file_system("btrfs", 512)
        node = self.node_of(mount, 100)
        repository = self.repository()
        self.ok("backup", node, repository)
        small = self.file_system("ext4", 64)
        before = sorted(os.listdir(small))
        result = self.run_program("restore", repository, "latest", small / "restored", expect=harness.REFUSED)
        self.assertRegex(result.err, "(?i)space")
        self.assertEqual(sorted(os.listdir(small)), before)

    def test_read_only_repository(self):
        mount = self.file_system("btrfs", 512)
        node = self.node_of(mount)
        target = self.file_system("ext4", 128)
        repository = target / "repository"
        self.ok("init", repository, "--node", "node1")
        self.ok("backup", node, repository)
        harness.tool("mount", "-o", "remount,ro", target)
        self.assertEqual(len(self.backups(repository)), 1)
        self.ok("show", repository, "latest")
        self.ok("find", repository, "large")
        self.ok("status", repository, "--max-age", "26h")
        self.ok("verify", repository, "--data")
        self.assertEqual(self.ok("dump", repository, "latest", "large", out_bytes=True).out, (node / "large").read_bytes())
        self.ok("restore", repository, "latest", mount / "restored")
        self.assertEqual(compare.differences(compare.snapshot_of(node), compare.snapshot_of(mount / "restored")), [])
        self.run_program("backup", node, repository, expect=harness.REFUSED)

    def damaged_source(self):
        """A node with a file whose data the storage can't read any more: its blocks don't fit their checksums."""
        mount = self.file_system("btrfs", 512, name="source")
        node = self.node_of(mount)
        mark = os.urandom(4096)
        (node / "broken").write_bytes(os.urandom(1 << 20) + mark + os.urandom(1 << 20))
        harness.tool("sync", "-f", mount)
        self._unmount(mount)
        image = self.images["source"]
        with open(image, "r+b") as file:
            position = 0
            while chunk := file.read(1 << 20):
                if (at := chunk.find(mark)) >= 0:  # data lies at multiples of 4096, and so do the chunks
                    file.seek(position + at)
                    file.write(os.urandom(4096))
                    break
                position += len(chunk)
            else:
                self.fail("the file's data isn't in the image")
            os.fsync(file.fileno())
        device = harness.tool("losetup", "--noheadings", "--output", "NAME", "--associated", image).strip()
        harness.tool("mount", "-o", "noatime", device, mount)
        return mount, node

    def test_unreadable_source(self):
        mount, node = self.damaged_source()
        repository = self.repository()
        result = self.run_program("backup", node, repository, expect=harness.FAILED)
        self.assertIn("broken", result.err)
        self.assertEqual(self.backups(repository), [])
        result = self.run_program("backup", node, repository, "--skip-unreadable", expect=harness.WARNINGS)
        self.assertIn("broken", result.err)
        self.assertEqual(len(self.backups(repository)), 1)
        self.ok("verify", repository, "--data")
        # Never `latest` by itself, never restored without a word.
        self.assertNotEqual(self.run_program("restore", repository, "latest", mount / "restored").status, harness.DONE)
        backup = self.backups(repository)[0]["id"]
        self.assertNotIn(self.run_program("restore", repository, backup, mount / "restored").status, (harness.DONE, harness.WARNINGS))
        self.run_program("restore", repository, backup, mount / "restored", "--accept-incomplete", expect=harness.WARNINGS)
        self.assertEqual((mount / "restored" / "large").read_bytes(), (node / "large").read_bytes())
        got = (mount / "restored" / "broken").read_bytes()
        self.assertEqual(got.count(0, 1 << 20, (1 << 20) + 4096), 4096)

    def test_places_that_a_restore_refuses(self):
        mount = self.file_system("btrfs", 512)
        node = self.node_of(mount)
        repository = self.repository()
        self.ok("backup", node, repository)
        full = mount / "full"
        full.mkdir()
        (full / "mine").write_bytes(b"precious")
        self.run_program("restore", repository, "latest", full, expect=harness.REFUSED)
        self.assertEqual(os.listdir(full), ["mine"])
        self.run_program("restore", repository, "latest", mount / "no" / "parent", expect=(harness.REFUSED, harness.FAILED))
        self.assertFalse((mount / "no").exists())
        empty = mount / "empty"
        empty.mkdir()
        (empty / "lost+found").mkdir()
        used = os.open(empty / "lost+found", os.O_RDONLY)
        os.close(used)
        self.ok("restore", repository, "latest", empty)
        file_there = mount / "file"
        file_there.write_bytes(b"")
        self.run_program("restore", repository, "latest", file_there, expect=harness.REFUSED)

    def test_dry_run_changes_nothing(self):
        mount = self.file_system("btrfs", 512)
        node = self.node_of(mount)
        repository = self.repository()
        self.ok("backup", node, repository)
        before = sorted(os.listdir(mount))
        told = self.ok("restore", repository, "latest", mount / "restored", "--dry-run", "--json").json
        self.assertGreaterEqual(told["bytes"], 20 << 20)
        self.assertEqual(sorted(os.listdir(mount)), before)

    def test_another_nodes_repository_is_refused_and_a_moved_node_adopted(self):
        mount = self.file_system("btrfs", 512)
        node = self.node_of(mount, 1)
        other = self.subvolume(mount / "other")
        (other / "file").write_bytes(b"other")
        repository = self.repository()
        self.ok("backup", node, repository)
        result = self.run_program("backup", other, repository, expect=harness.REFUSED)
        self.assertIn("--adopt-node", result.err)
        self.assertEqual(len(self.backups(repository)), 1)
        adopted = self.run_program("backup", other, repository, "--adopt-node", expect=harness.WARNINGS)
        self.assertIn(f"{node} is still there", adopted.err)  # and so its snapshot
        self.assertEqual(len(self.backups(repository)), 2)

    def test_a_copied_repository_serves(self):
        mount = self.file_system("btrfs", 512)
        node = self.node_of(mount)
        repository = self.repository()
        self.ok("backup", node, repository)
        shutil.copytree(repository, self.scratch / "copy")
        shutil.rmtree(repository)
        self.ok("verify", self.scratch / "copy", "--data")
        self.ok("restore", self.scratch / "copy", "latest", mount / "restored")
        self.assertEqual(compare.differences(compare.snapshot_of(node), compare.snapshot_of(mount / "restored")), [])

    def test_rate_limit_holds(self):
        mount = self.file_system("btrfs", 512)
        node = self.node_of(mount, 60)
        repository = self.repository()
        result = self.ok("backup", node, repository, "--limit", "20M", "--json").json
        # Not a timing test: below this no cap was applied at all.
        self.assertGreater(result["drain_seconds"], 2.0)


if __name__ == "__main__":
    harness.main()
