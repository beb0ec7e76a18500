"""Files from outside the node directory that are kept with a backup: the daemon's configuration and keys."""

import os
import stat
from pathlib import Path

import harness


class Captured(harness.Case):
    def setUp(self):
        super().setUp()
        self.mount_point = self.file_system("btrfs", 1024)
        self.node = self.subvolume(self.mount_point / "node")
        (self.node / "CURRENT").write_bytes(b"MANIFEST-1\n")
        self.target = self.repository()
        self.etc = self.scratch / "etc"
        (self.etc / "keys").mkdir(parents=True)
        (self.etc / "qdbd.conf").write_text('{"local": {}}')
        (self.etc / "qdbd.conf").chmod(0o640)
        (self.etc / "keys/private").write_bytes(bytes(range(256)))
        (self.etc / "keys/private").chmod(0o600)
        os.utime(self.etc / "keys/private", ns=(5, 1_700_000_000_123_456_789))
        os.symlink("keys", self.etc / "link")  # isn't followed

    def test_they_come_back_elsewhere_and_only_for_their_owner(self):
        os.umask(0)
        self.ok("backup", self.node, self.target, "--capture", f"{self.etc}/", "--capture", self.etc / "qdbd.conf")
        paths = [str(self.etc / "keys/private"), str(self.etc / "qdbd.conf")]
        stored = self.backups(self.target)[0]
        self.assertEqual(stored["captured"], [{"path": paths[0], "bytes": 256}, {"path": paths[1], "bytes": 13}])
        self.assertIn(f"captured:       {paths[1]}, 13 B\n", self.ok("show", self.target, "latest").out)
        self.assertEqual({stat.S_IMODE(path.stat().st_mode) for path in self.target.rglob("*") if path.is_file()}, {0o600})
        place = self.mount_point / "restored"
        kept = self.scratch / "kept"
        self.ok("restore", self.target, "latest", place, "--captured", kept, "--dry-run")
        self.assertFalse(kept.exists())
        self.ok("restore", self.target, "latest", place, "--captured", kept)
        self.assertEqual(stat.S_IMODE(kept.stat().st_mode), 0o700)
        for path in paths:
            copy = kept / path[1:]
            self.assertEqual(copy.read_bytes(), Path(path).read_bytes())
            self.assertEqual(copy.stat().st_mtime_ns, os.stat(path).st_mtime_ns)
            self.assertEqual(stat.S_IMODE(copy.stat().st_mode), 0o600)
        self.assertEqual(sum(len(files) for _, _, files in os.walk(kept)), 2)
        self.assertEqual(sorted(os.listdir(place)), ["CURRENT"])
        self.assertEqual(self.ok("dump", self.target, "latest", paths[1]).out, '{"local": {}}')
        out = self.scratch / "out"
        self.ok("dump", self.target, "latest", paths[0], "--output", out)
        self.assertEqual(out.read_bytes(), bytes(range(256)))
        # Pinning writes the manifest anew.
        self.ok("pin", self.target, "latest")
        self.assertEqual(self.backups(self.target)[0]["captured"], stored["captured"])

    def test_what_is_refused_touches_nothing(self):
        for arguments, said in ((("--capture", self.etc / "nothing"), "there is no such file"), (("--capture", "/dev/null"), "neither a file nor a directory")):
            result = self.run_program("backup", self.node, self.target, *arguments, expect=harness.REFUSED)
            self.assertIn(said, result.err)
        (self.etc / "large").write_bytes(bytes((64 << 10) - 268))
        result = self.run_program("backup", self.node, self.target, "--capture", self.etc, expect=harness.REFUSED)
        self.assertIn("64.0 KiB", result.err)
        self.assertEqual(self.backups(self.target), [])
        self.ok("backup", self.node, self.target)
        place = self.mount_point / "restored"
        result = self.run_program("restore", self.target, "latest", place, "--captured", self.scratch / "kept", expect=harness.REFUSED)
        self.assertIn("has captured no files", result.err)
        self.assertFalse(place.exists())
        self.ok("backup", self.node, self.target, "--capture", self.etc / "keys")
        result = self.run_program("restore", self.target, "latest", place, "--captured", self.etc, expect=harness.REFUSED)
        self.assertIn("isn't an empty directory", result.err)
        self.assertFalse(place.exists())

    def test_a_restore_that_is_done_is_told_as_done(self):
        self.ok("backup", self.node, self.target, "--capture", self.etc)
        place = self.mount_point / "restored"
        result = self.run_program("restore", self.target, "latest", place, "--captured", place, expect=harness.WARNINGS)
        self.assertIn("weren't all restored", result.err)
        self.assertEqual(sorted(os.listdir(place)), ["CURRENT"])

    def test_a_backup_that_is_gone_on_with_keeps_those_of_its_time(self):
        (self.node / "large").write_bytes(os.urandom(300 << 20))
        self.run_program("backup", self.node, self.target, "--capture", self.etc, program=harness.FAULTS,
                         environment={"NODESNAP_SIGNAL_AT": "drain.pack-logged:1", "NODESNAP_SIGNAL": "9"}, expect=-9)
        (self.etc / "qdbd.conf").write_text("changed since")
        document = self.ok("backup", self.node, self.target, "--capture", self.etc, "--json").json
        self.assertTrue(document["resumed"], str(document))
        self.assertEqual(self.ok("dump", self.target, "latest", self.etc / "qdbd.conf").out, '{"local": {}}')


if __name__ == "__main__":
    harness.main()
