"""What thin snapshots tell of changes: the next backup reads what differs, and nothing of what is read or taken over is ever wrong."""

import contextlib
import fcntl
import mmap
import os
import random
import struct

import lvm_case
from lvm_case import GROUP, ThinCase, harness

import compare  # from where lvm_case has found the harness
from changes import FICLONERANGE, Changes
from harness import DONE, FAULTS, WARNINGS, tool

LARGE = 4 << 20
MOVE_EXT = 0xC028660F  # EXT4_IOC_MOVE_EXT
BLOCK = 64 << 10  # of the pool
ROUNDS = int(os.environ.get("NODESNAP_MODEL_ROUNDS", "3"))
LIE = """#!/bin/bash
# Calls all of both devices the same, as a thin_delta with a defect might.
while (($#)); do case $1 in --thin1) left=$2 ;; --thin2) right=$2 ;; esac; shift; done
echo '<superblock uuid="" time="1" transaction="1" data_block_size="128" nr_data_blocks="0">'
echo "<diff left=\\"$left\\" right=\\"$right\\"><same begin=\\"0\\" length=\\"16384\\"/></diff>"
echo '</superblock>'
"""


class ChangesCase(ThinCase):
    def thin_backup(self, node, repository, *options, **more):
        return self.backup(node, repository, "--snapshot", "lvm-thin", *options, **more)

    def program_in_front(self, name, text):
        """An environment in which that program is found before the real one."""
        directory = self.scratch / f"in-front-{len(os.listdir(self.scratch))}"
        directory.mkdir()
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
        return {"PATH": f"{directory}:/usr/sbin:/usr/bin:/sbin:/bin"}


# Whole blocks of the pool, which aren't written to; the file's map changes.
QUARTER = LARGE // 4
MAP_CHANGES = {"zeroed": "--zero-range", "punched": "--punch-hole", "collapsed": "--collapse-range", "inserted": "--insert-range"}


def change_map(kind, path):
    """In the way that the file is called after."""
    if path.name in MAP_CHANGES:
        return tool("fallocate", MAP_CHANGES[path.name], "-o", QUARTER, "-l", QUARTER, path)
    with open(path, "r+b") as file:
        if path.name == "moved" and kind == "ext4":  # its extents for those of another file, as e4defrag does
            with open(path.with_name("donor"), "w+b") as donor:
                os.posix_fallocate(donor.fileno(), 0, LARGE)
                blocks = os.fstatvfs(file.fileno()).f_bsize
                fcntl.ioctl(file.fileno(), MOVE_EXT, struct.pack("IIQQQQ", 0, donor.fileno(), 0, 0, LARGE // blocks, 0))
        elif path.name == "cloned" and kind == "xfs":
            fcntl.ioctl(file.fileno(), FICLONERANGE, struct.pack("qQQQ", file.fileno(), 2 * QUARTER, QUARTER, 0))
    return None


class Lists(ChangesCase):
    def test_what_changed_is_read_and_nothing_else(self):
        for kind in lvm_case.FILE_SYSTEMS:
            with self.subTest(kind):
                node = self.thin(kind, kind) / "node"
                self.fill(node, 1)
                (node / "large").write_bytes(os.urandom(LARGE))
                for name in (*MAP_CHANGES, "moved", "cloned"):
                    (node / name).write_bytes(os.urandom(LARGE))
                os.sync()
                repository = self.repository(f"repository-{kind}")
                first = self.thin_backup(node, repository)
                self.assertEqual(first["snapshot_path"], f"lvm:{GROUP}/{self.only_parent()}")
                before = self.only_parent()
                with open(node / "large", "r+b") as file:
                    file.seek(1 << 20)
                    file.write(os.urandom(4096))
                (node / "file3").rename(node / "below" / "moved")
                (node / "new").write_bytes(os.urandom(50_000))
                os.sync()
                planned = self.ok("backup", node, repository, "--snapshot", "lvm-thin", "--dry-run", "--json").json
                self.assertEqual(planned["parent_missing"], "")
                second = self.thin_backup(node, repository)
                self.assertEqual(second["parent_missing"], "")
                self.assertNotEqual(self.only_parent(), before)
                self.assertLessEqual(second["backup"]["read_bytes"], 4 * BLOCK)
                self.assertLess(second["backup"]["stored_bytes"], 150_000)
                self.assertGreater(second["audited_bytes"], 0)
                self.assertLessEqual(planned["read_bytes"], 4 * BLOCK)
                self.assert_restores(repository, node)
                for name in (*MAP_CHANGES, "moved", "cloned"):
                    change_map(kind, node / name)
                os.sync()
                mapped = self.thin_backup(node, repository)
                self.assertEqual(mapped["parent_missing"], "")
                self.assert_restores(repository, node)
                for name in self.snapshots():
                    tool("lvremove", "-qq", "-y", f"{GROUP}/{name}")

    def test_a_parent_that_proves_nothing_is_not_built_on(self):
        node = self.thin("ext4", "data")
        self.fill(node, 1)
        repository = self.repository()
        self.thin_backup(node, repository)
        tool("lvchange", "-prw", f"{GROUP}/{self.only_parent()}")
        result = self.thin_backup(node, repository)
        self.assertIn("was made writable", result["parent_missing"])
        tool("lvremove", "-qq", "-y", f"{GROUP}/{self.only_parent()}")
        result = self.thin_backup(node, repository)
        self.assertIn("snapshot is gone", result["parent_missing"])
        # One of the same name, with the mark of ours.
        name = self.only_parent()
        tool("lvremove", "-qq", "-y", f"{GROUP}/{name}")
        tool("lvcreate", "-qq", "-y", "-s", "-n", name, "--addtag", "nodesnap", "-pr", f"{GROUP}/data")
        (node / "file3").write_bytes(b"changed" * 1000)
        result = self.thin_backup(node, repository)
        self.assertIn("replaced by another", result["parent_missing"])
        self.assert_restores(repository, node)
        # Changed while it is compared with.
        child = self.stop_at("drain.begun", node, repository)
        parent = next(name for name in self.snapshots() if name in result["snapshot_path"])
        tool("lvchange", "-prw", f"{GROUP}/{parent}")
        result = self.go_on(child)
        self.assertEqual(result.status, harness.FAILED, str(result))
        self.assertIn("was changed while", result.err)
        self.assert_nothing_reserved()

    def test_a_list_that_lies_is_noticed(self):
        node = self.thin("xfs", "data") / "node"
        self.fill(node, 1)
        (node / "large").write_bytes(os.urandom(LARGE))
        os.sync()
        repository = self.repository()
        self.thin_backup(node, repository)
        with open(node / "large", "r+b") as file:  # in place
            for offset in range(0, LARGE, 1 << 20):
                file.seek(offset)
                file.write(os.urandom(4096))
        os.sync()
        environment = self.program_in_front("thin_delta", LIE)
        result = self.run_program("backup", node, repository, "--snapshot", "lvm-thin", "--audit", "--json", environment=environment, expect=WARNINGS)
        self.assertIn("change list was wrong", str(result.json["warnings"]))
        self.assert_restores(repository, node)

    def test_without_a_list_contents_are_compared_and_it_is_said_why(self):
        node = self.thin("ext4", "data")
        self.fill(node, 1)
        repository = self.repository()
        self.thin_backup(node, repository)
        for text, said in (("#!/bin/sh\necho '<superblock'\n", "can't be understood"), ("#!/bin/sh\necho broken >&2\nexit 1\n", "broken")):
            (node / "file3").write_bytes(os.urandom(1000))
            result = self.thin_backup(node, repository, environment=self.program_in_front("thin_delta", text))
            self.assertIn(said, result["parent_missing"])
            self.assert_nothing_reserved()
        self.assert_restores(repository, node)
        # Where the program isn't installed no snapshot is kept for it. What the guest sees of the machine's root is a scratch overlay.
        program = "/usr/sbin/thin_delta"
        leads_to = os.readlink(program)
        os.unlink(program)
        self.stack.callback(os.symlink, leads_to, program)
        diagnosis = self.run_program("doctor", node, "--no-measure", "--json").json
        self.assertIn("thin-provisioning-tools", str(diagnosis["findings"]))
        result = self.thin_backup(node, repository)
        self.assertIn("isn't installed", result["parent_missing"])
        self.assertEqual(self.snapshots(), {})


class Reserved(ChangesCase):
    def test_what_a_killed_backup_has_reserved_is_released_by_the_next_command(self):
        node = self.thin("ext4", "data")
        self.fill(node, 1)
        repository = self.repository()
        self.thin_backup(node, repository)
        commands = (lambda: self.ok("snapshot", "list", node), lambda: self.thin_backup(node, repository), lambda: self.ok("backup", node, repository, "--dry-run"))
        for number, step in enumerate(("lvm.metadata-reserved", "lvm.metadata-noted", "lvm.metadata-released")):
            with self.subTest(step):
                (node / "file3").write_bytes(os.urandom(1000))
                result = self.run_program("backup", node, repository, "--snapshot", "lvm-thin", program=FAULTS, environment={"NODESNAP_SIGNAL_AT": step})
                self.assertEqual(result.status, -9, str(result))
                commands[number % len(commands)]()
                self.assert_nothing_reserved()
        self.assertEqual(self.thin_backup(node, repository)["parent_missing"], "")
        self.only_parent()
        self.assert_restores(repository, node)

    def test_what_others_have_reserved_is_left_alone(self):
        node = self.thin("ext4", "data")
        self.fill(node, 1)
        repository = self.repository()
        self.thin_backup(node, repository)
        pool = f"{GROUP}-pool-tpool"
        tool("dmsetup", "message", pool, 0, "reserve_metadata_snap")
        place = tool("dmsetup", "status", pool).split()[6]
        tool("lvchange", "--addtag", f"nodesnap.metadata.{int(place) + 1}", f"{GROUP}/{self.snapshots().popitem()[0]}")  # ours was another
        (node / "file3").write_bytes(os.urandom(1000))
        result = self.thin_backup(node, repository)
        self.assertIn("reserved by another program", result["parent_missing"])
        self.ok("snapshot", "list", node)
        self.assertEqual(tool("dmsetup", "status", pool).split()[6], place)
        tool("dmsetup", "message", pool, 0, "release_metadata_snap")
        self.assert_nothing_reserved()
        self.assertEqual(self.thin_backup(node, repository)["parent_missing"], "")
        self.assert_restores(repository, node)


class ThinChanges(Changes):
    """And such as change only where data lies, or what of the pool is used."""

    def do_overwrite_mapped(self):
        """Not where the data may lie in the inode: ext4 of Linux 6.1 was seen to lose such a store, which shows when the page cache is dropped."""
        path = self.file(4096)
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[self.random.randrange(len(mapped))] = self.random.randrange(256)
        return path

    def do_move_data(self):
        path = self.random.choice([self.file(), *self.directories()])
        return f"{path} {self.quietly('e4defrag', path)}"

    def do_trim(self):
        return self.quietly("fstrim", str(self.node))


class Model(ChangesCase):
    def test_random_changes(self):
        seed = int(os.environ.get("NODESNAP_SEED", random.SystemRandom().randrange(1 << 32)))
        for number, (kind, options) in enumerate((("ext4", ["-b", "1024", "-O", "inline_data"]), ("xfs", []))):
            with self.subTest(kind, seed=seed):
                self.model(kind, options, seed + number)
            for name in self.snapshots():
                tool("lvremove", "-qq", "-y", f"{GROUP}/{name}")

    def model(self, kind, options, seed):
        print(f"{kind}: seed {seed}", flush=True)
        rng = random.Random(seed)
        point = self.thin(kind, kind, options=options)
        restores = self.volume(kind, name=f"restores-{kind}")
        node, outside = point / "node", point / "outside"
        node.mkdir()
        outside.mkdir()
        changes = ThinChanges(str(node), str(outside), seed)
        repository = self.repository(f"repository-{kind}")
        steady = node / "steady"  # until something is done to it
        steady.write_bytes(os.urandom(LARGE))
        changes.make(25)
        log, built_on = [], 0
        for number in range(ROUNDS):
            with contextlib.suppress(OSError), open(steady, "r+b") as file:
                file.seek(rng.randrange(LARGE // 4096) * 4096)
                file.write(os.urandom(4096))
            log += changes.make(rng.choice((5, 15, 30)))
            if rng.random() < 0.5:
                os.sync()
            result = self.run_program("backup", node, repository, "--snapshot", "lvm-thin", "--json", *(["--audit"] if number % 2 == 1 else []))
            self.assertEqual(result.status, DONE, "\n".join([str(result), f"seed {seed}", *log]))
            built_on += result.json["parent_missing"] == ""
            # The snapshot has flushed the node: before, XFS of Linux 6.1 tells SEEK_DATA nothing of what was written to a hole of a file that shares
            # blocks, and isn't on the device yet.
            picture = compare.named_below(node)
            target = restores / str(number)
            self.ok("restore", repository, "latest", target)
            different = compare.differences(picture, compare.named_below(target))
            self.assertEqual(different, [], "\n".join([f"seed {seed}, round {number}, {result.json['parent_missing']}", *log]))
            tool("chattr", "-R", "-f", "-i", "-a", target, check=False)
            tool("rm", "-rf", target)
        self.assertEqual(built_on, ROUNDS - 1)
        self.only_parent()


if __name__ == "__main__":
    lvm_case.main()
