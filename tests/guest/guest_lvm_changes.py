"""What thin snapshots tell of changes: the next backup reads what differs, and nothing of what is read or taken over is ever wrong."""

import fcntl
import os
import struct

import lvm_case
from lvm_case import GROUP, ThinCase, harness

from changes import FICLONERANGE  # from where lvm_case has found the harness
from harness import FAULTS, WARNINGS, tool

LARGE = 4 << 20
MOVE_EXT = 0xC028660F  # EXT4_IOC_MOVE_EXT
BLOCK = 64 << 10  # of the pool
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

    def test_a_parent_that_is_changed_while_it_is_compared_with_ends_the_backup(self):
        node = self.thin("ext4", "data")
        self.fill(node, 1)
        repository = self.repository()
        self.thin_backup(node, repository)
        parent = self.only_parent()
        (node / "file3").write_bytes(b"changed" * 1000)
        child = self.stop_at("drain.begun", node, repository)
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


if __name__ == "__main__":
    lvm_case.main()
