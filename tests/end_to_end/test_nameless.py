"""The root of a mount has no place beside it: there the files of a snapshot are held open, and none has a name."""

import os
import random
import unittest

import compare
import harness
import hold_case
from changes import Changes
from test_hardlink import MIB, HardlinkCase
from test_passes import Helper, on

NO_CGROUPS = hold_case.why_no_cgroups()
WAYS = {"ext4, links": ("ext4", ("--snapshot", "hardlink", "--immutable", "*.sst")), "xfs, links": ("xfs", ("--snapshot", "hardlink", "--immutable", "*.sst")),
        "xfs, clones": ("xfs", ("--snapshot", "reflink"))}


class NamelessCase(HardlinkCase):
    without = ()  # names in the node directory that are excluded

    def place(self, way, mib=1024):
        kind, self.immutable = WAYS[way]
        self.mount_point = self.node = self.file_system(kind, mib)
        self.elsewhere = self.file_system(kind, mib)
        if kind == "ext4":
            os.chmod(self.node / "lost+found", 0o700)  # mkfs dates it by whole seconds: changed in this one, for all that one knows
        return self.repository(f"repository of {self.mount_point.name}")

    def backup(self, repository, child, *arguments, **options):
        document = self.held(repository, *self.immutable, *self.freezing(child), *arguments, **options)
        self.assertEqual(document["snapshot_backend"], self.immutable[1])
        self.assertEqual(document["backup"]["consistency"], "point-in-time")
        return document

    def expect_restores(self, repository, message=""):
        restored = self.elsewhere / "restored"
        self.ok("restore", repository, "latest", restored)
        there = {name: value for name, value in compare.named_below(self.node).items() if os.fsdecode(name).split("/")[0] not in self.without}
        lines = compare.differences(there, compare.named_below(restored))
        self.assertEqual(lines, [], message + "\n".join(lines[:40]))
        harness.tool("chattr", "-R", "-f", "-i", "-a", restored, check=False)
        harness.tool("rm", "-r", restored)

    def seen(self):
        """Of every inode of the node what any change of it would change."""
        told = {}
        for directory, names, files in os.walk(self.node):
            for name in [".", *names, *files]:
                status = os.lstat(os.path.join(directory, name))
                told[os.path.join(directory, name)] = (status.st_ino, status.st_nlink, status.st_ctime_ns, status.st_mtime_ns)
        return told


@unittest.skipIf(NO_CGROUPS, NO_CGROUPS)
class Frozen(NamelessCase):
    @on(*WAYS)
    def test_no_backup_is_out_of_order(self, repository):
        (self.node / "1.sst").write_bytes(os.urandom(8 * MIB))
        _, child = self.daemon()
        last = 0
        for number in range(4):
            document = self.backup(repository, child)
            self.expect_running()
            in_order, said = self.order_of(repository, document["backup"]["id"])
            self.assertTrue(in_order, said)
            self.assertGreater(int(said), last)
            last = int(said)
            if number != 0:
                self.assertIn("no names", document["parent_missing"])
                if self.immutable[1] == "hardlink":
                    self.assertLess(document["backup"]["read_bytes"], document["backup"]["data_bytes"] - 8 * MIB + 1)
        self.nothing_is_left()
        self.end(child)

    @on("ext4, links", "xfs, links")
    def test_a_store_of_tables_at_the_root_of_a_mount(self, repository):
        _, child, acknowledged = self.rocksdb()
        for number in range(3):
            target = acknowledged() + 200
            harness.wait_for(lambda: acknowledged() >= target, "more keys")
            before = acknowledged()
            # What `auto` takes with a profile and a hold.
            document = self.held(repository, "--profile", "rocksdb", *self.freezing(child))
            self.assertEqual(document["snapshot_backend"], "hardlink")
            self.assertIsNone(child.poll(), "the database did not survive its backup")
            restored = self.elsewhere / f"restored {number}"
            self.ok("restore", repository, "latest", restored)
            harness.tool(harness.WRITER, "check", restored / "store", before)
        self.ok("verify", repository, "--data")
        self.nothing_is_left()
        self.end(child)

    @on(*WAYS)
    def test_nothing_is_done_to_the_node(self, repository):
        helper = Helper(self)
        for number in range(30):
            (self.node / f"{number}.sst").write_bytes(os.urandom(3000 * number))
            (self.node / f"{number}.log").write_bytes(os.urandom(500 * number))
        (self.node / "below" / "deeper").mkdir(parents=True)
        os.link(self.node / "3.sst", self.node / "below" / "3.sst")
        os.link(self.node / "4.log", self.node / "below" / "4.log")
        os.symlink("3.sst", self.node / "below" / "link")
        os.mkfifo(self.node / "below" / "fifo")
        os.setxattr(self.node / "below" / "deeper", "trusted.kept", b"of a directory")
        os.setxattr(self.node / "7.sst", "user.kept", b"of a file")
        harness.tool("setfacl", "-d", "-m", "u:1234:rw", self.node)  # what is handed down isn't to come into the copies
        os.chmod(self.node, 0o2755)
        harness.tool("chattr", "+i", self.node / "9.sst")
        self.stack.callback(harness.tool, "chattr", "-i", self.node / "9.sst")
        before = self.seen()
        for number in range(2):
            self.backup(repository, helper.child)
            self.assertEqual(self.seen(), before)
            self.expect_restores(repository)
        helper.end()

    @on(*WAYS)
    def test_killed_at_any_step(self, repository):
        for number in range(10):
            (self.node / f"{number}.sst").write_bytes(os.urandom(70_000))
            (self.node / f"{number}.log").write_bytes(os.urandom(7000))
        helper = Helper(self)
        self.backup(repository, helper.child)
        listing = self.scratch / "steps"
        self.backup(repository, helper.child, program=harness.FAULTS, environment={"NODESNAP_LIST_STEPS": str(listing)})
        steps = listing.read_text().split()
        listing.unlink()
        before = self.seen()
        harness.tool("sync", "-f", self.node)
        free = os.statvfs(self.node).f_bfree
        for step in dict.fromkeys(steps):
            with self.subTest(step=step):
                self.killed_at(f"{step}:{steps.count(step)}", repository, *self.immutable, *self.freezing(helper.child))
                if step != "hold.intent-written":
                    harness.wait_for(lambda: self.intents() == [], "the guard's end")
                self.assertFalse(helper.cgroup.asked_to_freeze())
                self.assertEqual(self.seen(), before)
        self.backup(repository, helper.child)
        self.expect_restores(repository)
        harness.tool("sync", "-f", self.node)
        harness.wait_for(lambda: os.statvfs(self.node).f_bfree >= free, "the space of what was held open")
        self.ok("verify", repository, "--data")
        self.nothing_is_left()
        helper.end()

    @on(*WAYS)
    def test_model(self, repository):
        """Every name is said to be of a file that never changes, and none is."""
        seed = int(os.environ.get("NODESNAP_SEED", random.SystemRandom().randrange(1 << 32)))
        print(f"seed {seed}")
        self.immutable = (*self.immutable[:2], *(("--immutable", "*") if self.immutable[1] == "hardlink" else ()), "--exclude", "/outside")
        helper = Helper(self)
        outside = self.node / "outside"
        outside.mkdir()
        inside = self.node / "inside"
        inside.mkdir()
        changes = Changes(str(inside), str(outside), seed)
        made = "snapshot.inode-linked" if self.immutable[1] == "hardlink" else "snapshot.inode-cloned"
        self.without = ("outside",)
        self.changed_at_random(repository, changes, seed, (f"{made}:5", f"{made}:40", "snapshot.made-ahead:1", "hold.asking:1"), helper.child)
        helper.end()

    @on(*WAYS)
    def test_what_is_changed_after_it_is_not_in_it(self, repository):
        for name in ("1.sst", "2.sst", "log"):
            (self.node / name).write_bytes(os.urandom(300_000))
        helper = Helper(self)
        before = compare.named_below(self.node)
        backup = self.stopped_at("backup.snapshot-recorded", repository, *self.freezing(helper.child))
        (self.node / "1.sst").unlink()
        (self.node / "2.sst").rename(self.node / "3.sst")
        (self.node / "log").write_bytes(b"another")
        (self.node / "new").write_bytes(b"new")
        self.finish_held(backup)
        restored = self.elsewhere / "restored"
        self.ok("restore", repository, "latest", restored)
        self.assertEqual(compare.differences(before, compare.named_below(restored)), [])
        helper.end()

    @on("ext4, links", "xfs, links")
    def test_what_is_changed_while_it_is_opened_is_not_missed(self, repository):
        self.changed_while_linked(repository)

    @on("ext4, links", "xfs, links")
    def test_what_is_opened_meanwhile_stays_one_file(self, repository):
        (self.node / "1.sst").write_bytes(os.urandom(30_000))
        (self.node / "below").mkdir()
        os.link(self.node / "1.sst", self.node / "below" / "2.sst")
        helper = Helper(self)
        backup = self.stopped_at("snapshot.made-ahead", repository, *self.freezing(helper.child))
        helper.do(f"f = open({str(self.node / '1.sst')!r}, 'r+b', buffering=0); f.write(b'x')")
        self.finish_held(backup)
        self.expect_restores(repository)
        helper.end()

    @on("ext4, links", "xfs, links")
    def test_a_pattern_that_lies_is_told(self, repository):
        helper = self.told_of_a_lie(repository)
        self.assertEqual(self.backup(repository, helper.child)["backup"]["read_bytes"], 305_000)
        self.assertEqual(self.backup(repository, helper.child)["backup"]["read_bytes"], 5000)
        status = os.stat(self.node / "1.sst")
        helper.do(f"f = open({str(self.node / '1.sst')!r}, 'r+b')")
        self.assertEqual(self.backup(repository, helper.child)["backup"]["read_bytes"], 305_000, "it is copied, and so read")
        helper.do("f.write(b'changed again'); f.close()")
        os.utime(self.node / "1.sst", ns=(status.st_atime_ns, status.st_mtime_ns))
        self.assertEqual(self.backup(repository, helper.child)["backup"]["read_bytes"], 305_000, "its time of change tells")
        self.expect_restores(repository)
        helper.end()


class Refused(NamelessCase):
    @on("ext4, links", "xfs, clones")
    def test_what_would_have_to_last(self, repository):
        (self.node / "1.sst").write_bytes(os.urandom(3000))
        kind = self.immutable[1]
        patterns = self.immutable[2:]
        for arguments in (("snapshot", "create", self.node, "mine", *self.immutable), ("snapshot", "list", self.node),
                          ("backup", self.node, repository, "--keep-snapshot", *self.immutable), ("rollback", self.node, "latest")):
            with self.subTest(arguments=arguments):
                before = self.seen()
                result = self.run_program(*arguments)
                self.assertEqual(result.status, harness.REFUSED, str(result))
                self.assertIn("--snapshot-dir", result.err) if arguments[0] != "rollback" else None
                self.assertEqual(self.seen(), before)
        # Named by the operator it lasts, and the next backup goes on from it.
        inside = ("--snapshot-dir", self.node / ".nodesnap", "--exclude", ".nodesnap")
        self.ok("backup", self.node, repository, *self.immutable, *inside)
        document = self.ok("backup", self.node, repository, *self.immutable, *inside, "--json").json
        self.assertEqual(document["parent_missing"], "")
        said = self.ok("doctor", self.node, "--no-measure", *patterns, "--json").json
        kinds = {one["kind"]: one for one in said["snapshot_kinds"]}
        self.assertTrue(kinds[kind]["available"], str(kinds))

    def test_somebody_who_writes(self):
        repository = self.place("ext4, links")
        (self.node / "1.sst").write_bytes(os.urandom(3000))
        outsider = self.outsider("2.sst")
        result = self.run_program("backup", self.node, repository, *self.immutable)
        self.assertEqual(result.status, harness.REFUSED, str(result))
        self.end(outsider)
        self.assertEqual(self.ok("backup", self.node, repository, *self.immutable, "--json").json["backup"]["consistency"], "point-in-time")
        self.expect_restores(repository)


if __name__ == "__main__":
    harness.main()
