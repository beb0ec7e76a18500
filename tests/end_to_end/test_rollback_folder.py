"""Rolling back a node directory that is a plain folder: a tree made of the snapshot takes its place, and what was there is kept as it is."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import compare
import harness
from folder_case import STORAGES, FolderCase, on
from torture import Torture

MIB = 1 << 20


class Folder(FolderCase):
    @on()
    def test_there_and_back_again(self, node, top):
        self.fill(node)
        first = self.content(node)
        self.create(node, "first")
        self.change(node)
        second = self.content(node)
        replaced = node.stat().st_ino
        done = self.rollback(node, "first")
        self.assert_same(first, node)
        self.assertEqual((done["layout"], done["stale_mounts"], done["subvolume"]), ("folder", [], None))
        entry = self.snapshots(node)[done["kept_as"]]
        self.assertEqual((entry["role"], entry["temporary"], entry["path"]), ("before-rollback", False, done["kept_path"]))
        self.assertLess(entry["age_seconds"], 300)
        # It is what was there itself.
        self.assertEqual(os.stat(Path(done["kept_path"]) / "tree").st_ino, replaced)
        self.assert_same(second, Path(done["kept_path"]) / "tree")
        self.assert_tidy(top)
        # It can be written to, and that doesn't show in a snapshot.
        self.change(node)
        third = self.content(node)
        undone = self.rollback(node, done["kept_as"])
        self.assert_same(second, node)
        self.change(node)
        self.rollback(node, undone["kept_as"])
        self.assert_same(third, node)
        self.rollback(node, "first")
        self.assert_same(first, node)
        self.assertEqual(len(self.kept(node)), 4)
        for name in self.kept(node):
            self.remove(node, name)
        self.assert_same(first, node)
        self.assertEqual(list(self.snapshots(node)), ["first"])
        self.remove(node, "first")
        self.assert_same(first, node)
        left = [path for folder in top.rglob(".nodesnap") for path in folder.rglob("*") if path.name != ".unfinished"]
        self.assertEqual(left, [])

    @on()
    def test_everything_that_a_file_system_can_hold(self, node, top):
        Torture(node, "ext4" if self.kind == "hardlink" else top.name.rstrip("0123456789")).make()
        # A flag that forbids to make names, of what has several; and times of access.
        sealed = node / "sealed"
        sealed.mkdir()
        (sealed / "one").write_bytes(b"x" * 5000)
        os.link(sealed / "one", node / "another.sst")
        os.utime(sealed / "one", ns=(1_500_000_000_123_456_789, 1_600_000_000_123_456_789))
        harness.tool("chattr", "+i", sealed / "one", sealed)
        before = compare.snapshot_of(node)
        self.create(node, "first")
        for path in node.iterdir():
            harness.tool("chattr", "-R", "-f", "-i", "-a", path, check=False)
            harness.tool("rm", "-r", path)
        (node / "something else").write_bytes(b"x")
        done = self.rollback(node, "first")
        lines = compare.differences(before, compare.snapshot_of(node))
        self.assertEqual(lines, [], "\n".join(lines[:40]))
        self.assertEqual((sealed / "one").stat().st_atime_ns, 1_500_000_000_123_456_789)
        self.assertEqual(self.origins(node), [])
        # What was replaced and holds all of that can be rolled back to, too.
        self.rollback(node, done["kept_as"])
        self.assertEqual(os.listdir(node), ["something else"])
        again = self.kept(node)[-1]
        self.rollback(node, again)
        lines = compare.differences(before, compare.snapshot_of(node))
        self.assertEqual(lines, [], "\n".join(lines[:40]))
        for name in self.kept(node):
            self.remove(node, name)
        lines = compare.differences(before, compare.snapshot_of(node))
        self.assertEqual(lines, [], "\n".join(lines[:40]))

    @staticmethod
    def origins(node):
        """Entries that still say that they are clones."""
        told = harness.tool("getfattr", "-R", "-h", "-P", "-m", "^trusted.nodesnap.origin", node, check=False)
        return [line for line in told.splitlines() if line.startswith("trusted.nodesnap.origin")]

    @on("hardlink")
    def test_tables_are_linked_and_what_is_written_to_is_not(self, node, top):
        self.fill(node)
        self.create(node, "first")
        before, current = self.tables(node), (node / "CURRENT").stat().st_ino
        self.change(node)
        done = self.rollback(node, "first")
        self.assertEqual(self.tables(node), before)
        self.assertNotEqual((node / "CURRENT").stat().st_ino, current)
        kept = self.tables(Path(done["kept_path"]) / "tree")
        # Of what was replaced, tables that a snapshot knows are linked, and others where their names say that they may be.
        undone = self.rollback(node, done["kept_as"], "--dry-run")
        self.assertEqual(undone["dry_run"], True)
        self.rollback(node, done["kept_as"])
        now = self.tables(node)
        self.assertEqual({name for name in kept if kept[name] != now[name]}, {"new1.sst"})
        self.rollback(node, done["kept_as"], "--immutable", "*.sst")
        self.assertEqual(self.tables(node), kept)

    @on("hardlink")
    def test_a_table_that_was_written_to_is_refused(self, node, _):
        self.fill(node)
        self.create(node, "first")
        with open(node / "tables" / "3.sst", "r+b") as file:
            file.write(b"changed")
        present = self.content(node)
        refused = self.run_program("rollback", node, "first", *self.options, expect=harness.REFUSED)
        self.assertIn("3.sst was changed", refused.err)
        self.assert_same(present, node)
        self.assertEqual(list(self.snapshots(node)), ["first"])

    @on("xfs", "hardlink")
    def test_space_is_asked_for_before(self, node, top):
        (node / "CURRENT").write_bytes(b"x")
        name = "log" if self.kind == "hardlink" else "preallocated"
        if self.kind == "hardlink":
            (node / name).write_bytes(os.urandom(200 * MIB))
        else:
            with open(node / name, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, 200 * MIB)
        self.create(node, "first")
        free = shutil.disk_usage(top).free
        with open(top / "filler", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - 100 * MIB)
        for options in ((), ("--dry-run",)):
            refused = self.run_program("rollback", node, "first", *self.options, *options, expect=harness.REFUSED)
            self.assertIn("free on the file system", refused.err)
        self.assert_tidy(top)
        (top / "filler").unlink()
        self.rollback(node, "first")

    @on()
    def test_a_snapshot_that_a_backup_keeps(self, node, _):
        self.fill(node)
        wanted = self.content(node)
        repository = self.repository(f"repository {self.file_systems}")
        self.ok("backup", node, repository, *self.options, *self.making())
        self.change(node)
        name = next(iter(self.snapshots(node)))
        self.rollback(node, name)
        self.assert_same(wanted, node)

    @on("xfs")
    def test_what_was_left_out_is_told(self, node, _):
        self.fill(node)
        (node / "cache").mkdir()
        (node / "cache" / "file").write_bytes(b"x")
        self.ok("snapshot", "create", node, "first", "--exclude", "/cache")
        told = self.rollback(node, "first", expect=harness.WARNINGS)
        self.assertIn("--exclude (/cache)", told["warnings"][0])
        self.assertFalse((node / "cache").exists())
        self.assertTrue((Path(told["kept_path"]) / "tree" / "cache" / "file").exists())

    @on("reflink")
    def test_snapshots_in_another_place(self, node, top):
        self.fill(node)
        first = self.content(node)
        self.options = (*self.options, "--snapshot-dir", top / "kept here")
        self.create(node, "first")
        self.change(node)
        second = self.content(node)
        done = self.rollback(node, "first")
        self.assert_same(first, node)
        out = self.ok("rollback", node, done["kept_as"], *self.options).out
        self.assert_same(second, node)
        undo = re.search(r"nodesnap rollback (.*)", out).group(1)
        self.change(node)
        harness.tool("sh", "-c", f"{harness.PROGRAM} rollback {undo}")
        self.assert_same(first, node)


class Refused(FolderCase):
    def assert_refused(self, node, *options, snapshot="first", says=""):
        before = self.content(node)
        result = self.run_program("rollback", node, snapshot, *self.options, *options, expect=harness.REFUSED)
        self.assertIn("hint:", result.err)
        self.assertIn(says, result.err)
        self.assert_same(before, node)
        self.assert_tidy(self.top)
        return result.err

    def prepared(self, *storage):
        node, top = self.place(*(storage or STORAGES[0]))
        self.fill(node)
        self.create(node, "first")
        self.change(node)
        return node, top

    def test_a_directory_in_use(self):
        for storage in STORAGES:
            with self.subTest(storage=storage):
                node, _ = self.prepared(*storage)
                with open(node / "pages", "rb"):
                    self.assert_refused(node, says=f"process {os.getpid()}")
                child = subprocess.Popen(["sleep", "1000"], cwd=node / "files")
                self.children.append(child)
                self.assert_refused(node, says="current directory")
                done = self.rollback(node, "first", "--allow-in-use", expect=harness.WARNINGS)
                self.assertIn(f"process {child.pid}", done["warnings"][0])
                child.kill()
                child.wait()

    def test_mounts_of_it_and_below(self):
        node, _ = self.prepared()
        harness.tool("mount", "-t", "tmpfs", "tmpfs", node / "files")
        self.stack.callback(self._unmount, node / "files")
        self.run_program("rollback", node, "first", *self.options, expect=harness.REFUSED)
        harness.tool("umount", node / "files")
        other = self.scratch / "other"
        other.mkdir()
        harness.tool("mount", "--bind", node / "files", other)
        self.stack.callback(self._unmount, other)
        self.assertIn(f"umount {other}", self.assert_refused(node, says=str(other)))
        done = self.rollback(node, "first", "--allow-stale-mounts", expect=harness.WARNINGS)
        self.assertEqual(done["stale_mounts"], [str(other)])
        harness.tool("umount", other)

    def test_mounts_in_another_namespace(self):
        node, _ = self.prepared()
        other = self.scratch / "other"
        other.mkdir()
        # Of a part of it, and upon a part of it.
        for command, says in ((f"mount --bind {node}/files {other}", str(other)), (f"mount -t tmpfs tmpfs {node}/files", str(node / "files"))):
            child = subprocess.Popen(["unshare", "--mount", "--propagation=private", "sh", "-c", f"{command} && echo ready && exec sleep 1000"],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd="/")
            self.children.append(child)
            self.assertEqual(child.stdout.readline(), b"ready\n")
            self.assert_refused(node, says=f"{says} in the mount namespace of process {child.pid}")
            child.kill()
            child.wait()
        self.rollback(node, "first")

    def test_what_cannot_be_exchanged(self):
        node, top = self.prepared()
        harness.tool("chattr", "+i", node)
        self.assert_refused(node, says="immutable")
        harness.tool("chattr", "-i", node)
        harness.tool("xfs_io", "-c", "chproj 42", node)
        self.assert_refused(node, says="project 42")
        harness.tool("xfs_io", "-c", "chproj 0", node)
        self.assert_refused(node, snapshot="second", says='no snapshot named "second"')
        bound = self.scratch / "bound"
        bound.mkdir()
        harness.tool("mount", "--bind", top / ".." / top.name / "above", bound)
        self.stack.callback(self._unmount, bound)
        inside = ("--snapshot-dir", top / "above")
        refused = self.run_program("rollback", bound / "node", "first", *inside, expect=harness.REFUSED)
        self.assertIn("hint:", refused.err)
        # The root of a mount.
        self.ok("snapshot", "create", top, "first", "--snapshot-dir", top / ".kept", "--exclude", "/.kept")
        refused = self.run_program("rollback", top, "first", "--snapshot-dir", top / ".kept", expect=harness.REFUSED)
        self.assertIn("root of a mount", refused.err)

    def test_a_subvolume_is_not_exchanged_for_a_folder(self):
        top = self.file_system("btrfs")
        node = self.subvolume(top / "node")
        (node / "file").write_bytes(b"x")
        self.ok("snapshot", "create", node, "first", "--snapshot", "reflink")
        refused = self.run_program("rollback", node, "first", "--snapshot", "reflink", expect=harness.REFUSED)
        self.assertIn("is a subvolume", refused.err)

    def test_the_rest_of_a_subvolume_stays(self):
        node, top = self.prepared(*STORAGES[2])
        (top / "beside").write_bytes(b"written since")
        (top / "above" / "beside").write_bytes(b"likewise")
        self.rollback(node, "first")
        self.assertEqual((top / "beside").read_bytes(), b"written since")
        self.assertEqual((top / "above" / "beside").read_bytes(), b"likewise")


class Held(FolderCase):
    """A stand-in for a daemon, as in the tests of subvolumes."""

    @on("xfs", "hardlink")
    def test_the_daemon_is_stopped_and_started(self, node, _):
        pid, start, stop = self.scratch / "pid", self.scratch / "start", self.scratch / "stop"
        start.write_text(f"#!/bin/sh\nsleep 1000 <> {node}/pages > /dev/null 2>&1 &\necho $! > {pid}\n")
        stop.write_text(f"#!/bin/sh\nkill $(cat {pid})\nwhile kill -0 $(cat {pid}) 2> /dev/null; do sleep 0.01; done\n")
        for script in (start, stop):
            script.chmod(stat.S_IRWXU)
        self.fill(node)
        wanted = self.content(node)
        self.create(node, "first")
        self.change(node)
        harness.tool(start)
        self.stack.callback(harness.tool, stop, check=False)
        self.stack.callback(start.write_text, "#!/bin/sh\n")
        hold = ("--hold", "stop", "--stop-command", stop, "--start-command", start, "--status-command", f"kill -0 $(cat {pid})", "--state-dir", self.state)
        before = pid.read_text()
        self.run_program("rollback", node, "first", *self.options, expect=harness.REFUSED)
        done = self.rollback(node, "first", *hold, expect=(harness.DONE, harness.WARNINGS))
        self.assertGreater(done["downtime_ms"], 0)
        self.assert_same(wanted, node)
        self.assertTrue(os.path.samefile(f"/proc/{pid.read_text().strip()}/fd/0", node / "pages"))
        self.change(node)
        present = self.content(node)
        failed = self.run_program("rollback", node, "first", *self.options, *hold, program=harness.FAULTS,
                                  environment={"NODESNAP_FAIL": "1:5:rename", "NODESNAP_FAIL_FROM": "rollback.cloned"})
        self.assertEqual(failed.status, harness.FAILED, str(failed))
        self.assert_same(present, node)
        self.assertNotEqual(pid.read_text(), before)
        self.assertTrue(os.path.exists(f"/proc/{pid.read_text().strip()}"))
        harness.tool(stop)


if __name__ == "__main__":
    harness.main()
