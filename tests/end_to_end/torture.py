"""Makes a node directory with everything that a file system can hold and a backup must bring back."""

import ctypes
import os
import random
import socket
import stat
import struct
import time
from pathlib import Path

from harness import tool

_libc = ctypes.CDLL(None, use_errno=True)
KEEP_SIZE = 1
TEBIBYTE = 1 << 40
TIMES = [0, 1, 999_999_999, 1_000_000_000_000_000_001, -1_234_567_890_123_456_789 // 4, 4_102_444_800_123_456_789]


def _fallocate(fd, mode, offset, length):
    if _libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


class Torture:
    """`file_system`: btrfs, ext4 or xfs; what only some of them can hold is left out on the others."""

    def __init__(self, root, file_system="btrfs", seed=1):
        self.root = Path(root)
        self.file_system = file_system
        self.random = random.Random(seed)

    def make(self):
        self.sizes()
        self.holes()
        self.names()
        self.deep_path()
        self.special_files()
        self.links()
        self.modes_and_owners()
        self.attributes()
        self.lists()
        self.flags()
        self.times()
        tool("sync", "-f", self.root)

    def folder(self, name):
        path = self.root / name
        path.mkdir()
        return path

    def sizes(self):
        place = self.folder("sizes")
        edges = [0, 1, 2047, 2048, 2049, 4095, 4096, 4097, 65535, 65536, 65537, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (8 << 20) + 5]
        for size in edges:
            (place / f"{size}").write_bytes(self.random.randbytes(size))
        (place / "zeros").write_bytes(bytes(300_000))
        (place / "empty directory").mkdir()
        many = self.folder("many")
        for number in range(2000):
            (many / f"{number:04}").write_bytes(self.random.randbytes(self.random.randint(0, 9000)))

    def holes(self):
        place = self.folder("holes")
        with open(place / "one tebibyte", "wb") as file:
            for offset in (0, TEBIBYTE // 2, TEBIBYTE - 4096):
                file.seek(offset)
                file.write(self.random.randbytes(4096))
        with open(place / "only a hole", "wb") as file:
            file.truncate(TEBIBYTE)
        with open(place / "ends in a hole", "wb") as file:
            file.write(self.random.randbytes(10_000))
            file.truncate(1_000_001)
        with open(place / "begins with a hole", "wb") as file:
            file.seek(999_424)
            file.write(self.random.randbytes(777))
        with open(place / "very many", "wb") as file:
            for number in range(6000):  # more runs than one metadata node holds
                file.seek(number * 16384)
                file.write(self.random.randbytes(4096))
        with open(place / "unwritten", "wb") as file:
            _fallocate(file.fileno(), 0, 0, 4 << 20)
            os.pwrite(file.fileno(), self.random.randbytes(12288), 1 << 20)
        with open(place / "unwritten beyond the end", "wb") as file:
            file.write(self.random.randbytes(5000))
            file.flush()
            _fallocate(file.fileno(), KEEP_SIZE, 0, 2 << 20)
        with open(place / "only unwritten", "wb") as file:
            _fallocate(file.fileno(), 0, 0, 1 << 20)

    def names(self):
        place = os.fsencode(self.folder("names"))
        every_byte = bytes(byte for byte in range(1, 256) if byte != ord("/"))
        names = [every_byte, b"x" * 255, b"\xff" * 255, b"new\nline", b"back\\slash", b" ", b"-rf", b"*", b"\x1b[31mred", b"trailing ", "ünï\u2028".encode(), b"...", b"~"]
        for number, name in enumerate(names):
            with open(place + b"/" + name, "wb") as file:
                file.write(b"%d" % number)
        os.mkdir(place + b"/\xfe\xfe")
        os.symlink(b"\x80\x81/\xff", place + b"/\xfe\xfe/to bytes")

    def deep_path(self):
        """A path of more than 5,000 bytes: beyond PATH_MAX."""
        fd = os.open(self.folder("deep"), os.O_RDONLY)
        for level in range(21):
            name = f"{level:02}".ljust(250, "d")
            os.mkdir(name, dir_fd=fd)
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
        file = os.open("at the bottom", os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=fd)
        os.write(file, b"deep" * 5000)
        os.close(file)
        os.symlink("at the bottom", "link", dir_fd=fd)
        os.close(fd)

    def special_files(self):
        place = self.folder("special")
        os.mkfifo(place / "fifo", 0o620)
        os.mknod(place / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(place / "high numbers", 0o600 | stat.S_IFCHR, os.makedev(511, 200_000))
        os.mknod(place / "block", 0o660 | stat.S_IFBLK, os.makedev(7, 99))
        with socket.socket(socket.AF_UNIX) as server:
            before = os.getcwd()
            os.chdir(place)
            try:
                server.bind("socket")
            finally:
                os.chdir(before)

    def links(self):
        place = self.folder("links")
        (place / "a").write_bytes(self.random.randbytes(100_000))
        os.link(place / "a", place / "b")
        (place / "elsewhere").mkdir()
        os.link(place / "a", place / "elsewhere" / "c")
        os.symlink("a", place / "to a")
        os.symlink("/nowhere/at all", place / "dangling")
        os.symlink("s" * (1000 if self.file_system == "xfs" else 4000), place / "long target")
        os.symlink("to a", place / "twice")
        os.link(place / "dangling", place / "elsewhere" / "linked symlink", follow_symlinks=False)
        os.mkfifo(place / "pipe")
        os.link(place / "pipe", place / "pipe again")
        (place / "small").write_bytes(b"small")
        for number in range(500):
            os.link(place / "small", place / f"small {number}")

    def modes_and_owners(self):
        place = self.folder("modes")
        for mode in (0o000, 0o400, 0o644, 0o777, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777):
            path = place / f"{mode:04o}"
            path.write_bytes(b"mode")
            os.chown(path, mode + 1000, mode + 2000)
            os.chmod(path, mode)
        for mode in (0o000, 0o1777, 0o2775, 0o700):
            path = place / f"directory {mode:04o}"
            path.mkdir()
            (path / "inside").write_bytes(b"inside")
            os.chown(path, 4_000_000_000, 7)
            os.chmod(path, mode)
        os.symlink("0644", place / "link")
        os.lchown(place / "link", 99, 98)

    def attributes(self):
        place = self.folder("attributes")
        limit = {"btrfs": 15_000, "ext4": 3000, "xfs": 60_000}[self.file_system]
        for name in ("file", "directory"):
            path = place / name
            path.write_bytes(b"attributes") if name == "file" else path.mkdir()
            os.setxattr(path, "user.empty", b"")
            os.setxattr(path, "user.bytes", bytes(range(256)))
            os.setxattr(path, "trusted.nodesnap", b"trusted\0value")
            if name == "file":
                os.setxattr(path, "user.large", self.random.randbytes(limit))
            os.setxattr(path, "user." + ("n" * 200), b"long name")
        many = place / "many"
        many.write_bytes(b"")
        for number in range(25):
            os.setxattr(many, f"user.number{number}", b"%d" % number * 7)
        # Permitted and inheritable: cap_net_bind_service, as setcap writes it (version 2).
        os.setxattr(place / "file", "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0))
        os.symlink("file", place / "link")
        os.setxattr(place / "link", "trusted.of.the.link", b"yes", follow_symlinks=False)

    def lists(self):
        place = self.folder("lists")
        (place / "file").write_bytes(b"acl")
        (place / "directory").mkdir()
        tool("setfacl", "-m", "u:1234:rw,g:4321:r,m::rwx", place / "file")
        tool("setfacl", "-m", "u:1234:rwx", "-d", "-m", "u:77:rx,g:88:-", place / "directory")

    def flags(self):
        place = self.folder("flags")
        for name, flags in (("append-only", "+a"), ("immutable", "+i"), ("no dump", "+d"), ("no atime", "+A"), ("synchronous", "+S")):
            (place / name).write_bytes(self.random.randbytes(70_000))
            tool("chattr", flags, place / name)
        sealed = place / "immutable directory"
        sealed.mkdir()
        (sealed / "inside").write_bytes(b"inside")
        tool("chattr", "+i", sealed)
        if self.file_system == "btrfs":
            in_place = place / "nodatacow"
            in_place.touch()
            tool("chattr", "+C", in_place)
            in_place.write_bytes(self.random.randbytes(200_000))
            inherits = place / "nodatacow directory"
            inherits.mkdir()
            tool("chattr", "+C", inherits)
            (inherits / "child").write_bytes(self.random.randbytes(10_000))

    def times(self):
        place = self.folder("times")
        last = 1 << 32 if self.file_system != "xfs" else (1 << 31) - 1
        for number, moment in enumerate(TIMES):
            if self.file_system == "xfs" and not -last * 1_000_000_000 <= moment <= last * 1_000_000_000:
                continue
            path = place / f"{number}"
            path.write_bytes(b"time")
            os.utime(path, ns=(moment, moment))
            folder = place / f"directory {number}"
            folder.mkdir()
            (folder / "child").write_bytes(b"child")
            os.utime(folder, ns=(moment, moment))
            link = place / f"link {number}"
            os.symlink("target", link)
            os.utime(link, ns=(moment, moment), follow_symlinks=False)
        for folder in ("sizes", "links", "names", "times", "."):
            os.utime(self.root / folder, ns=(time.time_ns() - 5_000_000_007, 1_600_000_000_123_456_789))


def fill_with_files(root, count, size, seed=2):
    source = random.Random(seed)
    for number in range(count):
        place = Path(root) / f"{number // 1000:04d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:07d}").write_bytes(source.randbytes(size))
