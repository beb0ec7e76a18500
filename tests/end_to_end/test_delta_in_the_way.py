"""Delta restores where something is in the way: names that the snapshot's backup had left out, and too little space."""

import contextlib
import os

import compare
import delta_case
import harness


class DeltaInTheWay(delta_case.DeltaCase):
    def setUp(self):
        super().setUp()
        mount = self.file_system("btrfs", 1024)
        self.node = self.node_with_files(self.subvolume(mount / "node"))
        self.target = self.repository()

    def restores_what_was_left_out(self, spoil=lambda: None):
        """The first backup holds all, the second leaves out *.tmp; `spoil` comes between them."""
        self.ok("backup", self.node, self.target)
        wanted = compare.snapshot_of(self.node, with_allocation=False)
        first = self.backups(self.target)[0]["id"]
        spoil()
        self.ok("backup", self.node, self.target, "--exclude", "*.tmp")
        planned = self.ok("restore", self.target, first, self.node, "--delta", "--dry-run", "--json").json
        done = self.ok("restore", self.target, first, self.node, "--delta", "--json").json
        self.assertEqual(done["basis"], "snapshot")
        self.assertEqual(done["bytes"], planned["bytes"])
        self.assert_same(wanted, self.node)
        self.assert_tidy(self.node)

    def test_files_and_directories(self):
        (self.node / "file.tmp").write_bytes(os.urandom(100_000))
        (self.node / "empty.tmp").mkdir()
        (self.node / "full.tmp").mkdir()
        (self.node / "full.tmp" / "inside").write_bytes(b"inside")
        (self.node / "files" / "deep.tmp").write_bytes(b"deep")
        os.symlink("nowhere", self.node / "link.tmp")
        self.restores_what_was_left_out()

    def test_what_has_changed_since(self):
        for name in ("same.tmp", "gone.tmp", "other.tmp", "directory.tmp"):
            (self.node / name).write_bytes(os.urandom(50_000))
        (self.node / "was-directory.tmp").mkdir()
        (self.node / "was-directory.tmp" / "inside").write_bytes(b"inside")

        def spoil():
            (self.node / "gone.tmp").unlink()
            (self.node / "other.tmp").write_bytes(b"other")
            (self.node / "directory.tmp").unlink()
            (self.node / "directory.tmp").mkdir()
            (self.node / "directory.tmp" / "foreign").write_bytes(b"foreign")
            (self.node / "was-directory.tmp" / "inside").unlink()
            (self.node / "was-directory.tmp").rmdir()
            (self.node / "was-directory.tmp").write_bytes(b"a file")
            self.spoil(self.node)

        self.restores_what_was_left_out(spoil)

    def test_second_names_and_moved_directories(self):
        os.link(self.node / "CURRENT", self.node / "name.tmp")
        (self.node / "a").mkdir()
        (self.node / "a" / "left.tmp").write_bytes(b"left")
        (self.node / "a" / "taken").write_bytes(b"taken")
        self.restores_what_was_left_out(lambda: os.rename(self.node / "a", self.node / "b"))

    def test_it_goes_on_after_a_kill(self):
        (self.node / "file.tmp").write_bytes(os.urandom(100_000))
        (self.node / "full.tmp").mkdir()
        (self.node / "full.tmp" / "inside").write_bytes(b"inside")
        self.ok("backup", self.node, self.target)
        wanted = compare.snapshot_of(self.node, with_allocation=False)
        first = self.backups(self.target)[0]["id"]
        self.ok("backup", self.node, self.target, "--exclude", "*.tmp")
        for step in ("restore.names-taken", "restore.names-given"):
            killed = self.run_program("restore", self.target, first, self.node, "--delta", program=harness.FAULTS,
                                      environment={"NODESNAP_SIGNAL_AT": step, "NODESNAP_SIGNAL": "9"})
            self.assertEqual(killed.status, -9)
        self.ok("restore", self.target, first, self.node, "--delta")
        self.assert_same(wanted, self.node)
        self.assert_tidy(self.node)

    def test_too_little_space_is_refused_before_anything_is_made(self):
        mount = self.file_system("btrfs", 256)
        node = self.subvolume(mount / "node")
        (node / "CURRENT").write_bytes(b"MANIFEST-1\n")
        (node / "large").write_bytes(os.urandom(60 << 20))
        self.ok("backup", node, self.target)
        first = self.backups(self.target)[0]["id"]
        (node / "large").unlink()
        self.ok("backup", node, self.target)
        with contextlib.suppress(OSError), open(mount / "ballast", "wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(1 << 20))
        harness.tool("sync", "-f", mount)
        for options in (("--dry-run",), (), ("--no-snapshot", "--dry-run")):
            refused = self.run_program("restore", self.target, first, node, "--delta", *options, expect=harness.REFUSED)
            self.assertIn("not enough space", refused.err)
            self.assert_tidy(node)
        (mount / "ballast").unlink()
        harness.tool("sync", "-f", mount)
        self.ok("restore", self.target, first, node, "--delta")


if __name__ == "__main__":
    harness.main()
