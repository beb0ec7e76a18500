"""Rolling back on btrfs: the directory is what the snapshot was, what was there is kept, and what can't be done safely is refused with nothing touched."""

import mmap
import os
import re
import struct
import subprocess

import compare
import harness
from rollback_case import RollbackCase

LAYOUTS = ("subvolume", "mounted", "bound")


class Rollback(RollbackCase):
    def test_there_and_back_again(self):
        for layout in LAYOUTS:
            with self.subTest(layout=layout):
                node, top = self.node_of(layout)
                self.fill(node)
                options = self.options_of(node)
                first = self.content(node)
                self.ok("snapshot", "create", node, "first")
                self.change(node)
                second = self.content(node)
                done = self.rollback(node, "first")
                self.assert_same(first, node)
                self.assertEqual(self.options_of(node), options)
                self.assertEqual(done["layout"], "subvolume" if layout == "subvolume" else "mounted subvolume")
                self.assertEqual(done["stale_mounts"], [])
                self.assertGreater(done["exchange_ms"], 0)
                self.assertGreaterEqual(done["total_ms"], done["exchange_ms"])
                self.assertEqual(done["subvolume"], int(harness.tool("btrfs", "inspect-internal", "rootid", node)))
                # What was there is listed as what it is, read-only, and the newest.
                entry = self.snapshots(node)[done["kept_as"]]
                self.assertEqual((entry["role"], entry["temporary"]), ("before-rollback", False))
                self.assertLess(entry["age_seconds"], 300)
                listed = self.ok("snapshot", "list", node).out
                self.assertIn("what was there before a rollback", listed)
                self.assert_tidy(top)
                # It can be written to, and that doesn't show in the snapshot.
                self.change(node)
                third = self.content(node)
                undone = self.rollback(node, done["kept_as"])
                self.assert_same(second, node)
                self.rollback(node, undone["kept_as"])
                self.assert_same(third, node)
                self.rollback(node, "first")
                self.assert_same(first, node)
                self.assertEqual(len(self.kept(node)), 4)
                for name in self.kept(node):
                    self.ok("snapshot", "remove", node, name)
                self.assertEqual(list(self.snapshots(node)), ["first"])
                self.assertEqual(len(self.state_of(top)[0].splitlines()), 3)  # the node, the snapshot, and that once more as read-only
                harness.tool("umount", node) if layout != "subvolume" else None

    def test_summary_says_how_to_undo(self):
        node, _ = self.node_of("subvolume")
        self.fill(node)
        wanted = self.content(node)
        self.ok("snapshot", "create", node, "first")
        out = self.ok("rollback", node, "first").out
        self.assertIn("as it should", out)
        undo = re.search(r"nodesnap (rollback .*)", out).group(1).split()
        self.change(node)
        self.ok(*undo)
        self.assert_same(wanted, node)

    def test_latest_is_not_what_was_replaced(self):
        node, _ = self.node_of("subvolume")
        self.fill(node)
        self.ok("snapshot", "create", node, "older")
        self.change(node)
        newer = self.content(node)
        self.ok("snapshot", "create", node, "newer")
        self.change(node)
        for _ in range(2):
            self.assertEqual(self.rollback(node, "latest")["snapshot"], "newer")
            self.assert_same(newer, node)

    def test_snapshots_in_another_place(self):
        for layout in ("subvolume", "mounted"):
            with self.subTest(layout=layout):
                node, top = self.node_of(layout)
                self.fill(node)
                first = self.content(node)
                place = ("--snapshot-dir", top / "kept here")
                self.ok("snapshot", "create", node, "first", *place)
                self.change(node)
                second = self.content(node)
                self.run_program("rollback", node, "first", expect=harness.REFUSED)
                done = self.rollback(node, "first", *place)
                self.assert_same(first, node)
                self.assertIn(done["kept_as"], self.snapshots(node, *place))
                self.rollback(node, done["kept_as"], *place)
                self.assert_same(second, node)
                harness.tool("umount", node) if layout != "subvolume" else None

    def test_dry_run_touches_nothing(self):
        for layout in ("subvolume", "mounted"):
            with self.subTest(layout=layout):
                node, top = self.node_of(layout)
                self.fill(node)
                self.ok("snapshot", "create", node, "first")
                self.change(node)
                before, content = self.state_of(top), self.content(node)
                for _ in range(3):  # what asks the kernel whether a mount is in use may unmount it the second time
                    self.assertEqual(self.rollback(node, "first", "--dry-run")["dry_run"], True)
                self.assertIn("would roll back", self.ok("rollback", node, "first", "--dry-run").out)
                self.assertEqual(self.state_of(top), before)
                self.assert_same(content, node)
                self.run_program("rollback", node, "nothing", "--dry-run", expect=harness.REFUSED)
                harness.tool("umount", node) if layout != "subvolume" else None

    def test_a_store_goes_back_to_what_it_was(self):
        node, _ = self.node_of("subvolume")
        acks = self.scratch / "acks"

        def acknowledged():
            try:
                return struct.unpack("Q", acks.read_bytes()[:8])[0]
            except (FileNotFoundError, struct.error):
                return 0

        writer = subprocess.Popen([harness.WRITER, "write", str(node / "store"), str(acks)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE)
        self.children.append(writer)
        harness.wait_for(lambda: writer.poll() is not None or acknowledged() >= 200, "the database's first keys")
        keys = acknowledged()
        self.ok("snapshot", "create", node, "first")
        harness.wait_for(lambda: writer.poll() is not None or acknowledged() >= keys + 500, "more keys")
        refused = self.run_program("rollback", node, "first", expect=harness.REFUSED)
        self.assertIn("in use", refused.err)
        self.assertEqual(refused.err.count("open file"), 1, refused.err)  # though it has many files open
        self.assertIsNone(writer.poll(), "the database ended")
        writer.kill()
        writer.wait()
        more = acknowledged()
        done = self.rollback(node, "first")
        harness.tool(harness.WRITER, "check", node / "store", keys)
        self.assertNotEqual(subprocess.run([harness.WRITER, "check", node / "store", str(more)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                           check=False).returncode, 0, "the later keys are still there")
        self.rollback(node, done["kept_as"])
        harness.tool(harness.WRITER, "check", node / "store", more)


class Refused(RollbackCase):
    def assert_refused(self, node, top, *options, snapshot="first", says=""):
        before = self.state_of(top) if top else None
        result = self.run_program("rollback", node, snapshot, *options, expect=harness.REFUSED)
        self.assertIn("hint:", result.err)
        self.assertIn(says, result.err)
        if top:
            self.assertEqual(self.state_of(top), before, "something was touched")
        return result.err

    def prepared(self, layout="subvolume"):
        node, top = self.node_of(layout)
        self.fill(node)
        self.ok("snapshot", "create", node, "first")
        self.change(node)
        return node, top

    def test_a_directory_in_use(self):
        node, top = self.prepared()
        with open(node / "pages", "rb"):
            self.assert_refused(node, top, says=f"process {os.getpid()}")
        file = os.open(node / "pages", os.O_RDWR)
        mapped = mmap.mmap(file, 4096)
        os.close(file)
        self.assert_refused(node, top, says="mapped file pages")
        mapped.close()
        child = subprocess.Popen(["sleep", "1000"], cwd=node / "files")
        self.children.append(child)
        self.assert_refused(node, top, says="current directory")
        # On the operator's word they go on with what was there, which nobody can write to any more.
        file = os.open(node / "pages", os.O_RDWR)
        done = self.rollback(node, "first", "--allow-in-use", expect=harness.WARNINGS)
        self.assertIn(f"process {os.getpid()}", done["warnings"][0])
        with self.assertRaises(OSError):
            os.open("pages", os.O_RDWR, dir_fd=os.open(f"/proc/{child.pid}/cwd/..", os.O_RDONLY))
        os.close(file)

    def test_a_mounted_directory_that_the_kernel_uses(self):
        node, top = self.prepared("mounted")
        (node / "image").write_bytes(bytes(1 << 20))
        device = harness.tool("losetup", "--find", "--show", node / "image").strip()
        self.stack.callback(harness.tool, "losetup", "--detach", device, check=False)
        self.assert_refused(node, top, says="in use")
        harness.tool("losetup", "--detach", device)

    def test_snapshots_that_are_none(self):
        node, top = self.prepared()
        self.assert_refused(node, top, snapshot="second", says='no snapshot named "second"')
        self.subvolume(top / "other")
        self.ok("snapshot", "create", top / "other", "theirs")
        self.assert_refused(node, top, snapshot="theirs", says='no snapshot named "theirs"')
        path = self.snapshots(node)["first"]["path"]
        harness.tool("btrfs", "property", "set", path, "ro", "false")
        self.assert_refused(node, top, says='no snapshot named "first"')
        self.assert_refused(node, top, snapshot="latest", says="no snapshot")

    def test_what_cannot_be_exchanged(self):
        top = self.file_system("btrfs", 512)
        inside = ("--snapshot-dir", top / ".nodesnap")
        self.ok("snapshot", "create", top, "first", *inside, "--exclude", "/.nodesnap")
        self.assert_refused(top, top, *inside, says="subvolume 5")
        elsewhere = self.file_system("ext4", 64)
        self.assert_refused(elsewhere, None, says="ext4")

    def test_what_lies_below(self):
        node, top = self.prepared()
        self.subvolume(node / "files" / "nested")
        self.assert_refused(node, top, says="files/nested")
        harness.tool("btrfs", "subvolume", "delete", node / "files" / "nested")
        harness.tool("mount", "-t", "tmpfs", "tmpfs", node / "files")
        self.assert_refused(node, top, says="mounted below")
        harness.tool("umount", node / "files")
        (node / ".nodesnap-restore").mkdir()
        (node / ".nodesnap-restore" / "state").write_bytes(b"")
        self.assert_refused(node, top, says="unfinished restore")

    def test_a_default_subvolume(self):
        node, top = self.prepared()
        harness.tool("btrfs", "subvolume", "set-default", node)
        self.assert_refused(node, top, says="default subvolume")

    def test_other_mounts(self):
        for layout in ("subvolume", "mounted"):
            with self.subTest(layout=layout):
                node, top = self.prepared(layout)
                (node / "files" / "0000" / "changed").write_bytes(b"after the snapshot")
                other = self.scratch / f"other mount {layout}"
                other.mkdir()
                harness.tool("mount", "--bind", node / "files", other)
                self.stack.callback(self._unmount, other)
                self.assertIn(f"umount '{other}'", self.assert_refused(node, top, says=str(other)))
                done = self.rollback(node, "first", "--allow-stale-mounts", expect=harness.WARNINGS)
                self.assertEqual(done["stale_mounts"], [str(other)])
                self.assertIn(str(other), done["warnings"][0])
                # It shows what it did, to which nobody can write.
                self.assertEqual((other / "0000" / "changed").read_bytes(), b"after the snapshot")
                with self.assertRaises(OSError):
                    (other / "new").write_bytes(b"x")
                harness.tool("umount", other)
                harness.tool("umount", node) if layout != "subvolume" else None

    def in_another_namespace(self, *command, propagation="private"):
        child = subprocess.Popen(["unshare", "--mount", f"--propagation={propagation}", "sh", "-c", f"{' '.join(command)} && echo ready && exec sleep 1000"],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd="/")
        self.children.append(child)
        self.assertEqual(child.stdout.readline(), b"ready\n")
        return child

    def test_a_mount_in_another_namespace(self):
        node, top = self.prepared()
        other = self.scratch / "other"
        other.mkdir()
        child = self.in_another_namespace("mount", "--bind", str(node), str(other))
        said = self.assert_refused(node, top, says=f"{other} in the mount namespace of process {child.pid}")
        self.assertIn(f"nsenter --target {child.pid} --mount umount {other}", said)
        harness.tool("nsenter", "--target", child.pid, "--mount", "umount", other)
        self.rollback(node, "first")

    def test_a_mounted_node_that_another_namespace_has_too(self):
        node, top = self.prepared("mounted")
        child = self.in_another_namespace("true")
        self.assert_refused(node, top, says=f"in the mount namespace of process {child.pid}")
        child.kill()
        child.wait()
        # But where the kernel does the same there.
        shared = self.scratch / "shared"
        shared.mkdir()
        harness.tool("mount", "--bind", shared, shared)
        self.stack.callback(self._unmount, shared)
        harness.tool("mount", "--make-shared", shared)
        node = shared / "node"
        node.mkdir()
        harness.tool("mount", "-o", "subvol=above/sub", self.device_of(top), node)
        self.stack.callback(self._unmount, node)
        harness.tool("umount", self.scratch / "node")
        wanted = self.content(node)
        self.ok("snapshot", "create", node, "first")
        for propagation in ("slave", "shared"):
            child = self.in_another_namespace("true", propagation=propagation)
            self.change(node)
            done = self.rollback(node, "first")
            self.assertEqual(done["stale_mounts"], [])
            self.assert_same(wanted, node)
            current = (node / "CURRENT").read_text()
            self.assertEqual(harness.tool("nsenter", "--target", child.pid, "--mount", "cat", node / "CURRENT"), current)
            child.kill()
            child.wait()

    def test_usage(self):
        node, _ = self.prepared()
        for options in (("--hold", "freeze"), ("--unit", "qdbd"), ("--hold", "stop"), ("--hold", "stop", "--stop-command", "true"),
                        ("--hold", "stop", "--unit", "qdbd", "--start-command", "true")):
            self.run_program("rollback", node, "first", *options, expect=harness.USAGE)
        self.run_program("rollback", node, expect=harness.USAGE)


class Held(RollbackCase):
    """A stand-in for a daemon: it has a file of the node directory open, and is stopped and started by commands."""

    def commands(self, node):
        pid = self.scratch / "pid"
        start = self.scratch / "start"
        start.write_text(f"#!/bin/sh\nsleep 1000 <> {node}/pages > /dev/null 2>&1 &\necho $! > {pid}\n")
        start.chmod(0o755)
        stop = self.scratch / "stop"
        stop.write_text(f"#!/bin/sh\nkill $(cat {pid})\nwhile kill -0 $(cat {pid}) 2> /dev/null; do sleep 0.01; done\n")
        stop.chmod(0o755)
        harness.tool(start)
        self.stack.callback(harness.tool, stop, check=False)
        self.stack.callback(self.start_nothing_again, start)
        return ("--hold", "stop", "--stop-command", stop, "--start-command", start, "--status-command", f"kill -0 $(cat {pid})", "--state-dir", self.state), pid

    @staticmethod
    def start_nothing_again(start):
        start.write_text("#!/bin/sh\n")

    def test_the_daemon_is_stopped_and_started(self):
        for layout in ("subvolume", "mounted"):
            with self.subTest(layout=layout):
                node, _ = self.node_of(layout)
                self.fill(node)
                wanted = self.content(node)
                self.ok("snapshot", "create", node, "first")
                self.change(node)
                hold, pid = self.commands(node)
                before = pid.read_text()
                self.run_program("rollback", node, "first", expect=harness.REFUSED)
                done = self.rollback(node, "first", *hold, expect=(harness.DONE, harness.WARNINGS))
                self.assertGreater(done["downtime_ms"], 0)
                self.assert_same(wanted, node)
                self.assertNotEqual(pid.read_text(), before)
                # It has the new one open.
                self.assertTrue(os.path.samefile(f"/proc/{pid.read_text().strip()}/fd/0", node / "pages"))
                # When it fails the daemon runs again, too.
                before = pid.read_text()
                self.change(node)
                present = self.content(node)
                failed = self.run_program("rollback", node, "first", *hold, program=harness.FAULTS, environment={"NODESNAP_FAIL": "1:5:rename"})
                self.assertEqual(failed.status, harness.FAILED, str(failed))
                self.assert_same(present, node)
                self.assertNotEqual(pid.read_text(), before)
                self.assertTrue(os.path.exists(f"/proc/{pid.read_text().strip()}"))
                harness.tool(self.scratch / "stop")
                harness.tool("umount", node) if layout != "subvolume" else None


if __name__ == "__main__":
    harness.main()
