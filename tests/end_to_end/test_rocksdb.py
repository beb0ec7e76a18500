"""A RocksDB store that is written to all the time: what was acknowledged before the snapshot is in the restored store, which is whole."""

import shutil
import struct
import subprocess

import compare
import harness


class RocksDb(harness.Case):
    def writer(self, store, acks):
        child = subprocess.Popen([harness.WRITER, "write", str(store), str(acks)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.children.append(child)
        harness.wait_for(lambda: child.poll() is not None or self.acknowledged(acks) >= 200, "the database's first keys")
        self.assertIsNone(child.poll(), "the database ended")
        return child

    @staticmethod
    def acknowledged(acks):
        try:
            return struct.unpack("Q", acks.read_bytes()[:8])[0]
        except (FileNotFoundError, struct.error):
            return 0

    def check(self, store, keys):
        # Only what the store refers to: a table that was being written when the snapshot was taken isn't one yet, as after a power cut. Asked of a
        # store that is open for reading: ldb opens it for writing to list them, and compacts away what it has listed.
        tables = harness.tool(harness.WRITER, "check", store, keys).split()
        self.assertTrue(tables, "the store has no tables")
        for table in tables:
            harness.tool("sst_dump", f"--file={store}{table}", "--command=verify")
        self.assertIn("OK", harness.tool("ldb", f"--db={store}", "checkconsistency"))

    def test_under_load_three_times_and_restored(self):
        mount = self.file_system("btrfs", 2048)
        node = self.subvolume(mount / "node")
        acks = self.scratch / "acks"
        repository = self.repository()
        writer = self.writer(node / "store", acks)
        before, snapshots = [], {}
        for _ in range(3):
            target = self.acknowledged(acks) + 200
            harness.wait_for(lambda: self.acknowledged(acks) >= target, "more keys")
            before.append(self.acknowledged(acks))
            result = self.ok("backup", node, repository, "--keep-snapshot", "--json").json
            self.assertEqual(result["backup"]["consistency"], "crash-consistent")
            snapshots[result["backup"]["id"]] = result["snapshot_path"]
            self.assertIsNone(writer.poll(), "the database did not survive its backup")
        self.ok("verify", repository, "--data")
        writer.kill()
        writer.wait()
        backups = self.backups(repository)
        self.assertEqual(len(backups), 3)
        for backup, keys in zip(sorted(backups, key=lambda entry: entry["sequence"]), before):
            restored = mount / "restored"
            self.ok("restore", repository, backup["id"], restored)
            # Byte for byte what the snapshot held, before RocksDB touches it.
            self.assertEqual(compare.rsync_differences(snapshots[backup["id"]], restored), [])
            self.check(restored / "store", keys)
            harness.tool("btrfs", "subvolume", "delete", restored)
        print(f"keys acknowledged before each snapshot, all of them restored: {before}")

    def test_stopped_daemon_on_ext4(self):
        node = self.file_system("ext4", 1024) / "node"
        node.mkdir()
        acks = self.scratch / "acks"
        writer = self.writer(node / "store", acks)
        repository = self.repository()
        refused = self.run_program("backup", node, repository, "--snapshot", "none", expect=harness.REFUSED)
        self.assertIn("in use", refused.err)
        writer.kill()
        writer.wait()
        keys = self.acknowledged(acks)
        self.ok("backup", node, repository, "--snapshot", "none")
        self.ok("restore", repository, "latest", node.parent / "restored")
        self.check(node.parent / "restored" / "store", keys)

    def test_a_store_in_use_is_not_restored_over(self):
        mount = self.file_system("btrfs", 1024)
        node = self.subvolume(mount / "node")
        repository = self.repository()
        self.writer(node / "store", self.scratch / "acks")
        self.ok("backup", node, repository)
        self.run_program("restore", repository, "latest", node, expect=harness.REFUSED)


if __name__ == "__main__":
    if not shutil.which("ldb"):
        raise SystemExit("test_rocksdb: needs rocksdb-tools; scripts/setup-packages test installs it")
    harness.main()
