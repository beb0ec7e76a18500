"""What the tests of LVM share, in a guest: a volume group on the guest's disks, made anew for each test, and node directories on its volumes."""

import mmap
import os
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "end_to_end"))
import harness  # noqa: E402
from changes import Changes  # noqa: E402
from compare import rsync_differences  # noqa: E402
from harness import tool  # noqa: E402

DISKS = ("/dev/ubda", "/dev/ubdb")
GROUP = "vg"
FILE_SYSTEMS = ("ext4", "xfs")


class VolumeChanges(Changes):
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


class LvmCase(harness.Case):
    def setUp(self):
        super().setUp()
        tool("pvcreate", "-qq", "-y", "-ff", *DISKS)
        tool("vgcreate", "-qq", GROUP, *DISKS)
        self.stack.callback(self._remove_group)
        self.volumes = 0

    @staticmethod
    def _remove_group():
        tool("vgremove", "-qq", "-y", "-ff", GROUP, check=False)
        tool("pvremove", "-qq", "-y", "-ff", *DISKS, check=False)

    def volume(self, kind, mib=320, name=None):
        """A mounted file system of that kind on a logical volume of its own; returns the mount point."""
        self.volumes += 1
        name = name or f"data{self.volumes}"
        tool("lvcreate", "-qq", "-y", "-Wn", "-n", name, "-L", f"{mib}M", GROUP)
        return self.make_and_mount(kind, f"/dev/{GROUP}/{name}", name)

    def make_and_mount(self, kind, device, name, options=()):
        quiet = {"btrfs": ["-q", "-f", "-K"], "ext4": ["-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"], "xfs": ["-q", "-f", "-K"]}[kind]
        tool(f"mkfs.{kind}", *quiet, *options, device)
        point = self.scratch / name
        point.mkdir()
        tool("mount", "-o", "noatime", device, point)
        self.stack.callback(self._unmount, point)
        return point

    @staticmethod
    def listed(field="lv_name"):
        return sorted(tool("lvs", "--noheadings", "-o", field, GROUP).split())

    def extents_left(self, count):
        """Leaves so many free extents in the group."""
        free = int(tool("vgs", "--noheadings", "-o", "vg_free_count", GROUP))
        tool("lvcreate", "-qq", "-y", "-Wn", "-n", "filler", "-l", free - count, GROUP)

    @staticmethod
    def fill(directory, seed, files=12, bytes_each=200_000):
        """Files of several sizes, a tree, links and a hole."""
        directory.mkdir(parents=True, exist_ok=True)
        for number in range(files):
            (directory / f"file{number}").write_bytes(bytes([seed + number]) * (bytes_each * (number + 1) // files))
        (directory / "below").mkdir(exist_ok=True)
        (directory / "below" / "small").write_bytes(b"small %d" % seed)
        if not (directory / "link").exists():
            os.link(directory / "file0", directory / "link")
            os.symlink("file1", directory / "symlink")
            with open(directory / "sparse", "wb") as sparse:
                sparse.seek(8 << 20)
                sparse.write(b"end")
        os.sync()

    def backup(self, node, repository, *options, **more):
        return self.ok("backup", node, repository, "--json", *options, **more).json

    def assert_restores(self, repository, node, backup="latest"):
        """That the backup is what the node directory holds now."""
        target = self.scratch / f"restored-{len(os.listdir(self.scratch))}"
        self.ok("restore", repository, backup, target)
        self.assertEqual(rsync_differences(node, target), [])
        tool("rm", "-rf", target)

    def mounts_of_snapshots(self):
        return [line for line in Path("/proc/self/mounts").read_text().splitlines() if "nodesnap." in line]


class ThinCase(LvmCase):
    pool_mib = 640

    def setUp(self):
        super().setUp()
        tool("lvcreate", "-qq", "-y", "-L", f"{self.pool_mib}M", "-T", f"{GROUP}/pool", "-c", "64k", "--poolmetadatasize", "8M")

    def thin(self, kind, name, mib=320, options=()):
        tool("lvcreate", "-qq", "-y", "-V", f"{mib}M", "-T", f"{GROUP}/pool", "-n", name)
        return self.make_and_mount(kind, f"/dev/{GROUP}/{name}", name, options)

    def fill_pool(self, percent, name="other"):
        tool("lvcreate", "-qq", "-y", "-V", "400M", "-T", f"{GROUP}/pool", "-n", name)
        block = os.urandom(1 << 20)
        with open(f"/dev/{GROUP}/{name}", "wb", buffering=0) as device:
            while float(tool("lvs", "--noheadings", "-o", "data_percent", f"{GROUP}/pool")) < percent:
                for _ in range(4):
                    device.write(block)
                os.fsync(device.fileno())

    def stop_at(self, step, node, repository, *options):
        child = self.start_program("backup", node, repository, "--snapshot", "lvm-thin", *options, program=harness.FAULTS,
                                   environment={"NODESNAP_SIGNAL_AT": step, "NODESNAP_SIGNAL": "19"})
        harness.wait_for(lambda: harness.is_stopped(child.pid), "the snapshot")
        return child

    def go_on(self, child):
        child.send_signal(18)
        return self.finish(child)

    def snapshots(self):
        """Volumes that are nodesnap's, with their attributes."""
        lines = tool("lvs", "--noheadings", "-o", "lv_name,lv_attr", GROUP).splitlines()
        return {name: attributes for name, attributes in map(str.split, lines) if name.startswith("nodesnap.")}

    def only_parent(self):
        """Its name; there is but one snapshot, and nothing can be written to it."""
        (name, attributes), = self.snapshots().items()
        self.assertEqual(attributes[:2] + attributes[4], "Vr-", "read-only and inactive")
        self.assert_nothing_reserved()
        return name

    def assert_nothing_reserved(self):
        self.assertEqual(tool("dmsetup", "status", f"{GROUP}-pool-tpool").split()[6], "-")
        self.assertNotIn("nodesnap.metadata", tool("lvs", "-a", "--noheadings", "-o", "lv_tags", GROUP))


def main():
    done = subprocess.run(["dmsetup", "version"], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0 or not all(os.path.exists(disk) for disk in DISKS):
        print("guest tests run in a guest: see guest.py")
        sys.exit(2)
    unittest.main(module="__main__", verbosity=2)
