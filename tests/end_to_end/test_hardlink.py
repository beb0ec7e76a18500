"""Snapshots made of links, on file systems that clone no files: what never changes is linked, the rest is copied while the daemon is held."""

import os
import random
import shutil
import signal
import struct
import subprocess
import unittest

import compare
import harness
import hold_case
from changes import Changes
from test_passes import Helper, on

NO_CGROUPS = hold_case.why_no_cgroups()
ROUNDS = int(os.environ.get("NODESNAP_MODEL_ROUNDS", "4"))
MIB = 1 << 20


class HardlinkCase(hold_case.HoldCase):
    immutable = ("--immutable", "*.sst")

    def setUp(self):
        harness.Case.setUp(self)

    def place(self, kind, mib=1024):
        self.mount_point = self.file_system(kind, mib, make_options=("-m", "reflink=0") if kind == "xfs" else ())
        self.node = self.mount_point / "node"
        self.node.mkdir()
        return self.repository(f"repository of {self.mount_point.name}")

    def linked(self, repository, *arguments, **options):
        document = self.held(repository, *self.immutable, *arguments, **options)
        self.assertEqual(document["snapshot_backend"], "hardlink")
        return document

    def stored_snapshots(self):
        folder = self.mount_point / ".nodesnap"
        unfinished = folder / ".unfinished"
        return [path.name for path in folder.iterdir() if path.name != ".unfinished"] + \
            ["unfinished " + path.name for path in (unfinished.iterdir() if unfinished.exists() else ())]

    def stopped_at(self, step, repository, *arguments, variable="NODESNAP_SIGNAL_AT"):
        """A backup that has stopped itself there, or has ended without coming there."""
        self.steps = self.scratch / "steps passed"
        self.steps.unlink(missing_ok=True)
        backup = self.start_program("backup", self.node, repository, *self.immutable, *arguments, "--json", program=harness.FAULTS,
                                    environment={variable: step, "NODESNAP_SIGNAL": str(int(signal.SIGSTOP)), "NODESNAP_LIST_STEPS": str(self.steps)})
        harness.wait_for(lambda: backup.poll() is not None or harness.is_stopped(backup.pid), "the step")
        return backup

    def finish_held(self, backup):
        if backup.poll() is None:
            backup.send_signal(signal.SIGCONT)
        result = self.finish(backup)
        self.assertIn(result.status, (harness.DONE, harness.WARNINGS), str(result))
        self.assertEqual(result.json["backup"]["consistency"], "point-in-time", str(result))
        return result.json

    def expect_restores(self, repository, message=""):
        restored = self.mount_point / "restored"
        self.ok("restore", repository, "latest", restored)
        lines = compare.differences(compare.named_below(self.node), compare.named_below(restored))
        self.assertEqual(lines, [], message + "\n".join(lines[:40]))
        harness.tool("chattr", "-R", "-f", "-i", "-a", restored, check=False)
        harness.tool("rm", "-r", restored)

    def changed_while_linked(self, repository):
        """Attributes, of which a lease tells nothing."""
        table = self.node / "1.sst"
        table.write_bytes(os.urandom(30_000))
        helper = Helper(self)
        self.finish_held(self.stopped_at("never", repository, *self.freezing(helper.child)))
        for change in (lambda: os.chown(table, 1, 65534), lambda: os.chmod(table, 0o640)):
            backup = self.stopped_at("snapshot.linking", repository, *self.freezing(helper.child))
            self.assertIsNone(backup.poll(), "it has ended before")
            change()
            self.finish_held(backup)
            self.expect_restores(repository)
        helper.end()

    def told_of_a_lie(self, repository):
        """A table is written to while it is drained: no backup is made. Returns who can write, held or not."""
        (self.node / "1.sst").write_bytes(os.urandom(300_000))
        (self.node / "log").write_bytes(os.urandom(5000))
        helper = Helper(self)
        backup = self.stopped_at("backup.snapshot-recorded", repository, *self.freezing(helper.child))
        with open(self.node / "1.sst", "r+b") as file:
            file.write(b"not immutable")
        backup.send_signal(signal.SIGCONT)
        result = self.finish(backup)
        self.assertEqual(result.status, harness.FAILED, str(result))
        self.assertIn("1.sst was changed", result.err)
        self.assertIn("--immutable", result.err)
        self.assertEqual(self.backups(repository), [])
        return helper

    def changed_at_random(self, repository, changes, seed, places, child):
        """Changes before each backup, and while it is made, up to the hold."""
        changes.make(200)
        for number in range(ROUNDS):
            where = changes.random.choice(places)
            backup = self.stopped_at(where, repository, *self.freezing(child))
            too_late = backup.poll() is not None or "hold.asked" in self.steps.read_text()
            log = [] if too_late else changes.make(changes.random.choice((1, 10, 60)))
            self.finish_held(backup)
            self.expect_restores(repository, f"seed {seed}, round {number}, changed at {where}:\n" + "\n".join(log) + "\n")
            log = changes.make(changes.random.choice((0, 1, 10, 60)))
            self.finish_held(self.stopped_at("never", repository, *self.freezing(child)))
            self.expect_restores(repository, f"seed {seed}, round {number}, changed before:\n" + "\n".join(log) + "\n")
        self.ok("verify", repository, "--data")

    def rocksdb(self):
        acks = self.scratch / f"acks of {self.mount_point.name}"
        cgroup = hold_case.Cgroup()
        self.stack.callback(cgroup.remove)
        child = subprocess.Popen([harness.WRITER, "write", str(self.node / "store"), str(acks)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 preexec_fn=cgroup.enter)
        self.stack.callback(self.end, child)

        def acknowledged():
            return struct.unpack("Q", acks.read_bytes()[:8])[0] if acks.exists() and acks.stat().st_size >= 8 else 0

        return cgroup, child, acknowledged


@unittest.skipIf(NO_CGROUPS, NO_CGROUPS)
class Frozen(HardlinkCase):
    @on("ext4", "xfs")
    def test_a_store_of_tables(self, repository):
        _, child, acknowledged = self.rocksdb()
        told = []
        for number in range(4):
            target = acknowledged() + 200
            harness.wait_for(lambda: acknowledged() >= target, "more keys")
            before = acknowledged()
            # What `auto` takes with a profile and a hold.
            document = self.held(repository, "--profile", "rocksdb", *self.freezing(child))
            self.assertEqual(document["snapshot_backend"], "hardlink")
            self.assertIsNone(child.poll(), "the database did not survive its backup")
            if number != 0:
                self.assertEqual(document["parent_missing"], "")
            restored = self.scratch / f"restored {number}"
            self.ok("restore", repository, "latest", restored)
            harness.tool(harness.WRITER, "check", restored / "store", before)
            if shutil.which("ldb"):
                self.assertIn("OK", harness.tool("ldb", f"--db={restored / 'store'}", "checkconsistency"))
            harness.tool("rm", "-r", restored)
            backup = document["backup"]
            told.append(f"{backup['read_bytes'] / MIB:.1f} of {backup['data_bytes'] / MIB:.1f} MiB, {backup['downtime_ms']:.0f} ms")
            self.assertEqual(len(self.stored_snapshots()), 1)
        self.ok("verify", repository, "--data")
        self.nothing_is_left()
        print(f"{self.mount_point.name}: {'; '.join(told)}")
        self.end(child)

    @on("ext4", "xfs")
    def test_model(self, repository):
        """Every name is said to be of a file that never changes, and none is."""
        seed = int(os.environ.get("NODESNAP_SEED", random.SystemRandom().randrange(1 << 32)))
        print(f"seed {seed}")
        self.immutable = ("--immutable", "*", "--snapshot", "hardlink")
        helper = Helper(self)
        outside = self.mount_point / "outside"
        outside.mkdir()
        changes = Changes(str(self.node), str(outside), seed)
        places = ("snapshot.inode-linked:5", "snapshot.inode-linked:40", "snapshot.made-ahead:1", "hold.asking:1")
        self.changed_at_random(repository, changes, seed, places, helper.child)
        helper.end()

    @on("ext4", "xfs")
    def test_what_is_changed_while_it_is_linked_is_not_missed(self, repository):
        self.changed_while_linked(repository)

    @on("ext4", "xfs")
    def test_a_pattern_that_lies_is_told(self, repository):
        helper = self.told_of_a_lie(repository)
        self.assertEqual(self.stored_snapshots(), [])
        self.linked(repository, *self.freezing(helper.child))
        self.expect_restores(repository)
        helper.do(f"f = open({str(self.node / '1.sst')!r}, 'r+b')")
        document = self.linked(repository, *self.freezing(helper.child))
        self.assertEqual(document["backup"]["read_bytes"], 305_000, "it is copied, and so read")
        self.expect_restores(repository)
        helper.end()

    def test_many_tables(self):
        """The mark: 500 tables, and a daemon that writes 20 MB/s."""
        repository = self.place("ext4", 2048)
        for number in range(500):
            (self.node / f"{number:06}.sst").write_bytes(os.urandom(64 << 10))
        cgroup = hold_case.Cgroup()
        self.stack.callback(cgroup.remove)
        script = ("import os, sys, time\ndata = os.urandom(1 << 20)\nn = 0\nwhile True:\n  with open(sys.argv[1] + '/%06d.log' % n, 'wb') as log:\n"
                  "    for _ in range(64):\n      log.write(data); log.flush(); time.sleep(0.05)\n  os.rename(log.name, sys.argv[1] + '/w%06d.sst' % n)\n  n += 1\n"
                  "  if n > 4: os.unlink(sys.argv[1] + '/w%06d.sst' % (n - 5))\n")
        child = subprocess.Popen(["python3", "-B", "-c", script, str(self.node)], stdin=subprocess.DEVNULL, preexec_fn=cgroup.enter)
        self.stack.callback(self.end, child)
        harness.wait_for((self.node / "000000.log").exists, "the daemon")
        told = []
        for _ in range(6):
            document = self.linked(repository, *self.freezing(child))
            told.append(document["backup"]["downtime_ms"])
        print("held for " + ", ".join(f"{ms:.0f}" for ms in told) + " ms")
        self.end(child)


class Stopped(HardlinkCase):
    """Of a daemon that doesn't run: without a hold."""

    def backup(self, repository, *arguments, **options):
        return self.ok("backup", self.node, repository, "--snapshot", "hardlink", *self.immutable, "--json", *arguments, **options).json

    @on("ext4", "xfs")
    def test_what_is_listed_trimmed_and_proposed(self, repository):
        (self.node / "1.sst").write_bytes(os.urandom(MIB))
        (self.node / "log").write_bytes(os.urandom(5000))
        first = self.backup(repository)
        self.assertEqual(self.backup(repository)["backup"]["read_bytes"], 5000)
        (self.node / "1.sst").unlink()
        listed = self.ok("snapshot", "list", self.node, "--json").json["snapshots"]
        self.assertEqual(len(listed), 1)
        self.assertGreaterEqual(listed[0]["held_bytes"], MIB)
        self.ok("snapshot", "create", self.node, "mine", "--snapshot", "hardlink", "--profile", "rocksdb")
        self.ok("snapshot", "trim", self.node, "--max-count", "0", "--repository", repository)
        self.assertEqual([one["name"] for one in self.ok("snapshot", "list", self.node, "--json").json["snapshots"]], ["mine"])
        self.assertIn("snapshot trim", self.backup(repository)["parent_missing"])
        self.ok("snapshot", "remove", self.node, "mine")
        (self.node / "2.sst").write_bytes(os.urandom(MIB))
        said = self.ok("doctor", self.node, "--no-measure", *self.immutable, "--json").json
        self.assertIn("--snapshot hardlink --immutable '*.sst'", said["command"])
        kinds = {kind["kind"]: kind for kind in said["snapshot_kinds"]}
        self.assertTrue(kinds["hardlink"]["available"], str(kinds))
        said = self.ok("doctor", self.node, "--no-measure", "--json").json
        kinds = {kind["kind"]: kind for kind in said["snapshot_kinds"]}
        self.assertIn("--immutable", kinds["hardlink"]["why_not"])
        self.assertEqual(first["backup"]["consistency"], "point-in-time")
        self.backup(repository)
        self.expect_restores(repository)

    def test_a_moved_node_leaves_no_links_behind(self):
        repository = self.place("ext4")
        (self.node / "1.sst").write_bytes(os.urandom(MIB))
        self.backup(repository)
        moved = self.mount_point / "elsewhere"
        moved.mkdir()
        self.node.rename(moved / "node")
        self.node = moved / "node"
        self.backup(repository, "--adopt-node")
        self.assertEqual([path.name for path in (self.mount_point / ".nodesnap").iterdir()], [".unfinished"])
        self.assertEqual((self.node / "1.sst").stat().st_nlink, 2)


if __name__ == "__main__":
    harness.main()
