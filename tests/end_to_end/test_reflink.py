"""Snapshots made of clones, on XFS with reflink and in plain directories on btrfs; and what a backup with any kind of snapshot must do."""

import ctypes
import fcntl
import functools
import mmap
import os
import random
import signal
import struct
import subprocess
import unittest

import compare
import harness
import hold_case
from changes import COLLAPSE_RANGE, FICLONERANGE, INSERT_RANGE, KEEP_SIZE, PUNCH_HOLE, RENAME_EXCHANGE, ZERO_RANGE, Changes, libc
from torture import Torture

ROUNDS = int(os.environ.get("NODESNAP_MODEL_ROUNDS", "3"))
KIB, MIB = 1 << 10, 1 << 20


def not_ours(name):
    return name == ".nodesnap"


class Place:
    """A node directory, and how it is backed up."""

    def __init__(self, case, kind, file_system, layout):
        self.case, self.kind, self.file_system, self.layout = case, kind, file_system, layout
        self.mount = case.file_system(file_system, 1024)
        self.restores = case.file_system(file_system, 1024)
        self.options = ["--snapshot", kind]
        if layout == "mount root":
            self.node, self.snapshots = self.mount, self.mount / ".nodesnap"
            self.options += ["--snapshot-dir", self.snapshots, "--exclude", ".nodesnap"]
        else:
            self.node, self.snapshots = self.mount / "node", self.mount / ".nodesnap"
            case.subvolume(self.node) if layout == "subvolume" else self.node.mkdir()
        self.repository = case.repository(f"repository {case.file_systems}")

    def backup(self, *options, **others):
        return self.case.ok("backup", self.node, self.repository, *self.options, *options, "--json", **others).json

    def assert_restores(self, message=""):
        restored = self.restores / "restored"
        self.case.ok("restore", self.repository, "latest", restored)
        lines = compare.differences(compare.named_below(self.node, not_ours), compare.named_below(restored))
        self.case.assertEqual([line for line in lines if not (self.layout == "mount root" and line.startswith(".: "))], [],
                              message + "\n".join(lines[:40]))
        self.case.ok("verify", self.repository, "--data")
        self.remove(restored)

    def remove(self, restored):
        if os.stat(restored).st_ino == 256:
            harness.tool("btrfs", "subvolume", "delete", restored)
        else:
            harness.tool("chattr", "-R", "-f", "-i", "-a", restored, check=False)
            harness.tool("rm", "-r", restored)

    def kept(self):
        names = sorted(os.listdir(self.snapshots))
        if ".unfinished" in names:
            names.remove(".unfinished")
            self.case.assertEqual(os.listdir(self.snapshots / ".unfinished"), [], "something half made, or half removed, is left")
        return names


PLACES = [("btrfs", "btrfs", "folder"), ("btrfs", "btrfs", "subvolume"), ("reflink", "xfs", "folder"), ("reflink", "xfs", "mount root"),
          ("reflink", "btrfs", "folder")]


CLONED = [place for place in PLACES if place[0] == "reflink"]
ON_XFS = CLONED[:1]


def on(places):
    """A test of each place."""
    def decorate(test):
        @functools.wraps(test)
        def run(self):
            for kind, file_system, layout in places:
                with self.subTest(kind=kind, file_system=file_system, layout=layout):
                    test(self, Place(self, kind, file_system, layout))
        return run
    return decorate


class Reflink(harness.Case):
    # --- what is the same for all

    @on(PLACES)
    def test_conformance(self, place):
        traps = Traps(place.node)
        traps.set_up()
        first = place.backup()
        self.assertEqual(first["backup"]["consistency"], "point-in-time")
        self.assertEqual(first["snapshot_backend"], place.kind)
        place.assert_restores()
        traps.spring()
        second = place.backup()
        self.assertEqual(second["parent_missing"], "", "the change list isn't used")
        self.assertLess(second["backup"]["read_bytes"], first["backup"]["read_bytes"] // 2)
        self.assertGreater(second["audited_bytes"], 0)
        place.assert_restores()
        third = place.backup("--audit")
        # What lies in btrfs' own trees has no place of its own that clones could share.
        inlined = 128 * KIB if (place.kind, place.file_system) == ("reflink", "btrfs") else 0
        self.assertLessEqual(third["backup"]["read_bytes"], inlined, "nothing has changed")
        self.assertLess(third["backup"]["stored_bytes"], 256 * KIB)
        place.assert_restores()
        self.assertEqual(len(place.kept()), 1, "other snapshots than the parent are left")
        listed = self.ok("snapshot", "list", place.node, *place.options[:4], "--json").json["snapshots"]
        self.assertEqual([entry["role"] for entry in listed], ["parent"])
        self.ok("snapshot", "trim", place.node, *place.options[:4], "--max-count", "0", "--repository", place.repository)
        self.assertEqual(place.kept(), [])
        fourth = place.backup()
        self.assertIn("snapshot trim", fourth["parent_missing"])
        self.assertLess(fourth["backup"]["stored_bytes"], 256 * KIB, "only what differs is stored")
        place.assert_restores()

    @on(CLONED)
    def test_model(self, place):
        seed = int(os.environ.get("NODESNAP_SEED", random.SystemRandom().randrange(1 << 32)))
        print(f"seed {seed}")
        outside = None
        if place.layout == "folder":
            outside = place.mount / "outside"
            outside.mkdir()
        else:
            place.snapshots.mkdir()
        changes = Changes(str(place.node), str(outside) if outside else None, seed)
        if outside is None:
            changes.entries = lambda wanted, entries=changes.entries: [
                path for path in entries(wanted) if not path.startswith(str(place.snapshots))]
            changes.directories = lambda directories=changes.directories: [
                path for path in directories() if not path.startswith(str(place.snapshots))]
        log = changes.make(80)
        for number in range(ROUNDS):
            result = place.backup()
            self.assertEqual(result["parent_missing"] == "", number > 0)
            place.assert_restores(f"seed {seed}, round {number}:\n" + "\n".join(log) + "\n")
            log = changes.make(changes.random.choice((5, 60)))
        self.assertEqual(len(place.kept()), 1)

    def test_everything_that_a_file_system_can_hold(self):
        for kind in ("xfs", "btrfs"):
            with self.subTest(kind=kind):
                mount = self.file_system(kind, 2048)
                node = mount / "node"
                node.mkdir()
                Torture(node, kind).make()
                before = compare.snapshot_of(node)
                repository = self.repository(f"repository of {kind}")
                self.ok("backup", node, repository, "--snapshot", "reflink")
                self.assertEqual(compare.differences(before, compare.snapshot_of(node)), [], "the node directory was changed")
                self.ok("restore", repository, "latest", mount / "restored")
                lines = compare.differences(before, compare.snapshot_of(mount / "restored"))
                self.assertEqual(lines, [], "\n".join(lines[:40]))
                again = self.ok("backup", node, repository, "--snapshot", "reflink", "--audit", "--json").json
                self.assertEqual(again["parent_missing"], "")
                self.assertLess(again["backup"]["stored_bytes"], 256 * KIB)

    # --- what only clones are in danger of

    @on(ON_XFS)
    def test_killed_at_any_step(self, place):
        for number in range(40):
            (place.node / f"file{number}").write_bytes(os.urandom(5000))
        os.link(place.node / "file1", place.node / "link")
        (place.node / "large").write_bytes(os.urandom(2 * MIB))
        place.backup()
        steps = self.steps_of("backup", place.node, place.repository, *place.options)
        taking = {step: times for step, times in steps.items() if step.startswith(("snapshot.", "backup.session", "backup.snapshot"))}
        self.assertIn("snapshot.inode-cloned", taking)
        for step, nth in self.kills(taking):
            with open(place.node / "large", "r+b") as file:
                file.seek(random.randrange(500) * 4096)
                file.write(os.urandom(4096))
            died = self.run_program("backup", place.node, place.repository, *place.options, program=harness.FAULTS,
                                    environment={"NODESNAP_SIGNAL_AT": f"{step}:{nth}"})
            self.assertEqual(died.status, -signal.SIGKILL, f"{step} {nth}\n{died}")
            place.backup("--no-resume")
            self.assertEqual(len(place.kept()), 1, f"{step} {nth}")
        place.assert_restores()

    @on(ON_XFS)
    def test_goes_on_after_it_was_cut_off(self, place):
        (place.node / "small").write_bytes(os.urandom(1000))
        (place.node / "large").write_bytes(os.urandom(300 * MIB))
        died = self.run_program("backup", place.node, place.repository, *place.options, program=harness.FAULTS,
                                environment={"NODESNAP_SIGNAL_AT": "backup.before-publish"})
        self.assertEqual(died.status, -signal.SIGKILL, str(died))
        before = compare.named_below(place.node)
        (place.node / "small").write_bytes(b"written since")
        resumed = place.backup()
        self.assertTrue(resumed["resumed"])
        restored = place.restores / "restored"
        self.ok("restore", place.repository, "latest", restored)
        self.assertEqual(compare.differences(before, compare.named_below(restored)), [])
        place.remove(restored)
        later = place.backup()
        self.assertEqual(later["parent_missing"], "")
        self.assertLess(later["backup"]["read_bytes"], MIB)
        place.assert_restores()

    @on(ON_XFS)
    def test_a_writer_is_refused_or_told(self, place):
        with open(place.node / "file", "wb") as file:
            file.write(b"x" * 10_000)
            file.flush()
            refused = self.run_program("backup", place.node, place.repository, *place.options, expect=harness.REFUSED)
            self.assertIn("open for writing", refused.err)
            self.assertFalse(place.snapshots.exists(), "something was touched")
            told = place.backup("--accept-inconsistent")
            self.assertEqual(told["backup"]["consistency"], "inconsistent")
        self.assertEqual(place.backup()["backup"]["consistency"], "point-in-time")
        place.assert_restores()

    @on(CLONED)
    def test_a_parent_that_somebody_wrote_to_is_not_believed(self, place):
        """A file of the parent's clone is changed, and then cloned into the node's own: both have the same blocks, the backup hasn't."""
        if place.layout != "folder":
            return
        (place.node / "file").write_bytes(b"a" * MIB)
        (place.node / "other").write_bytes(b"b" * MIB)
        place.backup()
        clone = place.snapshots / place.kept()[0] / "tree" / "file"
        with open(clone, "r+b") as file:
            file.write(b"c" * MIB)
        with open(clone, "rb") as reader, open(place.node / "file", "r+b") as writer:
            fcntl.ioctl(writer, FICLONERANGE, struct.pack("qQQQ", reader.fileno(), 0, 0, 0))
        result = place.backup()
        self.assertEqual(result["parent_missing"], "")
        self.assertEqual(result["backup"]["read_bytes"], MIB)
        place.assert_restores()

    @on(CLONED)
    def test_snapshots_of_an_operator(self, place):
        (place.node / "file").write_bytes(b"before")
        options = place.options
        self.ok("snapshot", "create", place.node, "mine", *options)
        (place.node / "file").write_bytes(b"after")
        listed = self.ok("snapshot", "list", place.node, *options, "--json").json["snapshots"]
        self.assertEqual([(entry["name"], entry["role"]) for entry in listed], [("mine", "operator's")])
        with open(os.path.join(listed[0]["path"], "tree", "file"), "rb") as file:
            self.assertEqual(file.read(), b"before")
        self.run_program("snapshot", "create", place.node, "mine", *options, expect=harness.REFUSED)
        self.ok("snapshot", "remove", place.node, "mine", *options)
        self.assertEqual(place.kept(), [])
        kept = place.backup("--keep-snapshot")
        place.backup()
        self.assertEqual(len(place.kept()), 2)
        self.assertTrue(os.path.exists(os.path.join(kept["snapshot_path"], "tree", "file")))


@unittest.skipIf(hold_case.why_no_cgroups(), hold_case.why_no_cgroups())
class Held(hold_case.HoldCase):
    """Clones aren't made at one instant: with a daemon that writes all the while they are right only if it is held for so long."""

    def setUp(self):
        harness.Case.setUp(self)
        self.mount_point = self.file_system("xfs", 1024)
        self.node = self.mount_point / "node"
        self.node.mkdir()

    def test_no_backup_is_out_of_order(self):
        repository = self.repository()
        _, child = self.daemon()
        self.run_program("backup", self.node, repository, expect=harness.REFUSED)
        downtimes, last = [], 0
        for number in range(4):
            document = self.held(repository, *self.freezing(child))
            self.assertEqual(document["snapshot_backend"], "reflink")
            self.assertEqual(document["parent_missing"] == "", number > 0)
            downtimes.append(document["backup"]["downtime_ms"])
            self.expect_running()
            in_order, said = self.order_of(repository, document["backup"]["id"])
            self.assertTrue(in_order, said)
            self.assertGreater(int(said), last)
            last = int(said)
        self.nothing_is_left()
        self.ok("verify", repository, "--data")
        print(f"held for {', '.join(f'{downtime:.1f}' for downtime in downtimes)} ms; {last} records")

    def test_the_clones_are_made_durable_when_it_runs_again(self):
        repository = self.repository()
        _, child = self.daemon()
        listing = self.scratch / "steps"
        self.held(repository, *self.freezing(child), program=harness.FAULTS, environment={"NODESNAP_LIST_STEPS": str(listing)})
        steps = listing.read_text().split()
        order = ["hold.held", "snapshot.cloned", "hold.releasing", "snapshot.tree-durable", "snapshot.record-durable", "snapshot.taken",
                 "backup.snapshot-recorded"]
        self.assertEqual([step for step in steps if step in order], order)


class Traps:
    """Files that are changed in all the ways that could be taken for no change, beside such as aren't changed at all."""

    def __init__(self, node):
        self.node = node
        self.files = ["punched", "collapsed", "inserted", "zeroed", "preallocated", "beyond", "cloned", "one", "two", "replaced", "attribute", "mode",
                      "linked", "renamed", "appended", "shortened", "regrown", "mapped", "set back", "fragmented", "shared", "rewritten the same",
                      "new\nline", "\udcff\udcfe", "moved/in here"]

    def path(self, name):
        return os.path.join(self.node, name)

    def set_up(self):
        os.makedirs(self.path("moved"), exist_ok=True)
        for name in [*self.files, *(f"untouched{number}" for number in range(8))]:
            with open(self.path(name), "wb") as file:
                file.write(os.urandom(MIB + 1234))
        for number in range(200):
            with open(self.path(f"small{number}"), "wb") as file:
                file.write(os.urandom((100, 2000, 3000, 5000, 16_000)[number % 5]))
        os.symlink("one", self.path("symlink"))
        with open(self.path("sparse"), "wb") as file:
            file.truncate(8 * MIB)
            file.seek(4 * MIB)
            file.write(os.urandom(64 * KIB))

    def allocate(self, name, mode, offset, length):
        fd = os.open(self.path(name), os.O_RDWR)
        try:
            if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0 and mode not in (COLLAPSE_RANGE, INSERT_RANGE):
                raise OSError(ctypes.get_errno(), name)
        finally:
            os.close(fd)

    def write(self, name, offset, content):
        with open(self.path(name), "r+b") as file:
            file.seek(offset)
            file.write(content)

    def spring(self):
        self.allocate("punched", PUNCH_HOLE | KEEP_SIZE, 128 * KIB, 64 * KIB)
        self.allocate("collapsed", COLLAPSE_RANGE, 128 * KIB, 64 * KIB)
        self.allocate("inserted", INSERT_RANGE, 128 * KIB, 64 * KIB)
        self.allocate("zeroed", ZERO_RANGE, 128 * KIB, 64 * KIB)
        self.allocate("beyond", KEEP_SIZE, 2 * MIB, 256 * KIB)
        self.allocate("sparse", KEEP_SIZE, MIB, 256 * KIB)
        with open(self.path("cloned"), "r+b") as file:
            fcntl.ioctl(file, FICLONERANGE, struct.pack("qQQQ", file.fileno(), 0, 64 * KIB, 512 * KIB))
        if libc.renameat2(-100, os.fsencode(self.path("one")), -100, os.fsencode(self.path("two")), RENAME_EXCHANGE) != 0:
            raise OSError(ctypes.get_errno(), "exchange")
        with open(self.path("replacement"), "wb") as file:
            file.write(os.urandom(MIB + 1234))
        os.rename(self.path("replacement"), self.path("replaced"))
        os.setxattr(self.path("attribute"), "user.changed", b"yes")
        os.chmod(self.path("mode"), 0o640)
        os.link(self.path("linked"), self.path("another name"))
        os.rename(self.path("renamed"), self.path("has another name"))
        with open(self.path("appended"), "ab") as file:
            file.write(os.urandom(5000))
        os.truncate(self.path("shortened"), 300 * KIB + 17)
        os.truncate(self.path("regrown"), 300 * KIB + 17)
        os.truncate(self.path("regrown"), MIB + 1234)
        with open(self.path("mapped"), "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[500_000] ^= 1
        before = os.stat(self.path("set back"))
        self.write("set back", 400_000, b"changed")
        os.utime(self.path("set back"), ns=(before.st_atime_ns, before.st_mtime_ns))
        for tool in (("xfs_fsr", self.path("fragmented")), ("btrfs", "filesystem", "defragment", "-f", self.path("fragmented"))):
            subprocess.run(tool, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        with open(self.path("untouched0"), "rb") as reader, open(self.path("shared"), "r+b") as writer:
            fcntl.ioctl(writer, FICLONERANGE, struct.pack("qQQQ", reader.fileno(), 0, 0, 0))
        with open(self.path("rewritten the same"), "r+b") as file:
            content = file.read()
            file.seek(0)
            file.write(content)
        self.write("new\nline", 0, b"changed")
        self.write("\udcff\udcfe", MIB, b"changed")
        os.rename(self.path("moved"), self.path("moved away"))
        os.unlink(self.path("small0"))
        self.write("small1", 0, b"changed")
        os.rename(self.path("small2"), self.path("small3"))
        os.unlink(self.path("symlink"))
        os.symlink("two", self.path("symlink"))
        os.mkdir(self.path("new directory"))
        harness.tool("sync", "-f", self.node)


if __name__ == "__main__":
    harness.main()
