"""The conformance suite on snapshots of logical volumes."""

import contextlib

import lvm_case  # which finds the harness
from harness import tool
from lvm_case import GROUP, ThinCase, VolumeChanges

import conformance
from storage import OwnFileSystem

KIB = 1 << 10
keeper = None


class Keeper(ThinCase):
    """Whose volume group all classes share."""

    pool_mib = 1400

    def setUp(self):
        super().setUp()
        self.restores = {}

    def place_of_restores(self, kind):
        if kind not in self.restores:
            self.restores[kind] = self.volume(kind, name=f"restores-{kind}")
        return self.restores[kind]


def setUpModule():
    global keeper
    keeper = Keeper()
    keeper.setUp()


def tearDownModule():
    keeper.doCleanups()


class Lvm(OwnFileSystem):
    kind, atomic, tells = "lvm", True, None
    changes = VolumeChanges
    unit, small_files, rounds, pause_us = 256 * KIB, 20, 1, 50_000
    every_step, some_steps = False, 3

    def __init__(self, file_system, layout):
        self.file_system, self.clones = file_system, file_system == "xfs"
        self.volume = f"{self.kind}-{file_system}"
        super().__init__(keeper, layout)
        self.elsewhere = self.elsewhere or keeper.place_of_restores(file_system)

    def make_file_system(self, name):
        if name == "restores":
            return self.keeper.place_of_restores(self.file_system)
        return self.make_volume()

    def make_volume(self):
        return self.keeper.volume(self.file_system, name=self.volume)

    def place_snapshots(self):
        self.snapshots = None

    def clean(self):
        for name in self.left():
            tool("lvremove", "-qq", "-y", f"{GROUP}/{name}")
        super().clean()

    def left(self):
        """Of this volume."""
        lines = (line.split() for line in tool("lvs", "--noheadings", "-o", "lv_name,origin", GROUP).splitlines())
        return sorted(fields[0] for fields in lines if fields[0].startswith("nodesnap.") and fields[1:] == [self.volume])

    @contextlib.contextmanager
    def view(self, entry):
        volume = entry["path"].removeprefix("lvm:")
        point = self.keeper.scratch / "view"
        point.mkdir(exist_ok=True)
        if self.kind == "lvm-thin":
            tool("lvchange", "-ay", "-K", volume)
        tool("mount", "-o", {"ext4": "ro,noload", "xfs": "ro,norecovery,nouuid"}[self.file_system], f"/dev/{volume}", point)
        try:
            yield point / self.node.relative_to(self.top)
        finally:
            tool("umount", point)
            if self.kind == "lvm-thin":
                tool("lvchange", "-an", volume)


class LvmThin(Lvm):
    kind, tells, granule, read_anyway, rounds = "lvm-thin", "ranges", 64 * KIB, 256 * KIB, 2
    some_steps = 2

    def make_volume(self):
        small = ["-b", "1024", "-O", "inline_data"] if self.file_system == "ext4" else []
        top = self.keeper.thin(self.file_system, self.volume, options=small)
        tool("lvcreate", "-qq", "-y", "-s", "-n", f"somebodys-{self.volume}", f"{GROUP}/{self.volume}")
        return top

    def clean(self):
        super().clean()
        if f"somebodys-{self.volume}" not in self.keeper.listed():
            raise AssertionError("somebody's snapshot has gone")

    def check_parent(self, name):
        self.keeper.assert_nothing_reserved()
        attributes = self.keeper.snapshots()[name]
        self.keeper.assertEqual(attributes[:2] + attributes[4], "Vr-", "read-only and inactive")

    def harms(self):
        return {"made writable": (self.make_writable, "was made writable"), "replaced": (self.replace, "replaced by another")}

    def remove(self, name):
        tool("lvremove", "-qq", "-y", f"{GROUP}/{name}")

    def make_writable(self, name):
        tool("lvchange", "-prw", f"{GROUP}/{name}")

    def replace(self, name):
        self.remove(name)
        tool("lvcreate", "-qq", "-y", "-s", "-n", name, "--addtag", "nodesnap", "-pr", f"{GROUP}/{self.volume}")


# That a file system is at the root of its volume changes where files are found on it, not what becomes of snapshots; and the guest is slow.
NO_PARENT = ("test_a_parent_that_somebody_changed_is_not_believed", "test_pages_that_change_are_what_is_read")
OF_THE_FOLDER = (*NO_PARENT, "test_a_daemon_that_writes", "test_killed_at_any_step", "test_snapshots_of_an_operator", "test_there_and_back_again",
                 "test_what_is_left_out_and_what_lies_below", "test_what_is_written_after_the_snapshot_is_not_in_it", "test_who_asks_touches_nothing")
globals().update(conformance.cases(__name__, LvmThinFolder=lambda _: LvmThin("ext4", "folder")))
globals().update(conformance.cases(__name__, NO_PARENT, LvmFolder=lambda _: Lvm("xfs", "folder")))
globals().update(conformance.cases(__name__, OF_THE_FOLDER, LvmThinRoot=lambda _: LvmThin("xfs", "mount root")))
globals().update(conformance.cases(__name__, (*OF_THE_FOLDER, "test_model"), LvmRoot=lambda _: Lvm("ext4", "mount root")))

if __name__ == "__main__":
    lvm_case.main()
