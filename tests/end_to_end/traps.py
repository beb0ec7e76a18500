"""Files that are changed in all the ways that could be taken for no change, beside such as aren't changed at all."""

import ctypes
import fcntl
import mmap
import os
import struct
import subprocess

import harness
from changes import COLLAPSE_RANGE, FICLONERANGE, INSERT_RANGE, KEEP_SIZE, PUNCH_HOLE, RENAME_EXCHANGE, ZERO_RANGE, libc

KIB = 1 << 10
TAIL = 1234  # no file ends with a block
UNTOUCHED = 8


class Traps:
    """`unit`: how much most of the files hold, but for a tail; a multiple of 64 KiB. `clones`: whether the file system clones ranges. Names that end
    with ".skip" are meant to be excluded."""

    FILES = ("punched", "collapsed", "inserted", "zeroed", "preallocated", "beyond", "cloned", "one", "two", "replaced", "passed off", "attribute", "mode",
             "linked", "renamed", "appended", "shortened", "regrown", "mapped", "set back", "fragmented", "shared", "rewritten the same", "new\nline",
             "\udcff\udcfe", "moved/in here", "away.skip/was here", "moved out")

    def __init__(self, node, unit, clones, small_files=200):
        self.node, self.unit, self.clones, self.small_files = node, unit, clones, small_files
        self.size = unit + TAIL
        self.untouched = [f"untouched{number}" for number in range(UNTOUCHED)]

    def path(self, name):
        return os.path.join(self.node, name)

    def create(self, name, content):
        with open(self.path(name), "wb") as file:
            file.write(content)

    def set_up(self):
        for name in ("moved", "away.skip"):
            os.mkdir(self.path(name))
        for name in (*self.FILES, *self.untouched):
            self.create(name, os.urandom(self.size))
        for number in range(self.small_files):
            self.create(f"small{number}", os.urandom((100, 2000, 3000, 5000, 16_000)[number % 5]))
        os.symlink("one", self.path("symlink"))
        with open(self.path("sparse"), "wb") as file:
            file.truncate(8 * self.unit)
            file.seek(4 * self.unit)
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

    def clone(self, source, offset, length, target, to):
        with open(self.path(source), "rb") as reader, open(self.path(target), "r+b") as writer:
            fcntl.ioctl(writer, FICLONERANGE, struct.pack("qQQQ", reader.fileno(), offset, length, to))

    def spring(self):
        self.change_allocation()
        self.change_names()
        self.change_contents()
        harness.tool("sync", "-f", self.node)

    def change_allocation(self):
        eighth = self.unit // 8
        self.allocate("punched", PUNCH_HOLE | KEEP_SIZE, eighth, eighth // 2)
        self.allocate("collapsed", COLLAPSE_RANGE, eighth, eighth // 2)
        self.allocate("inserted", INSERT_RANGE, eighth, eighth // 2)
        self.allocate("zeroed", ZERO_RANGE, eighth, eighth // 2)
        self.allocate("beyond", KEEP_SIZE, 2 * self.unit, 2 * eighth)
        self.allocate("sparse", KEEP_SIZE, self.unit, 2 * eighth)
        if self.clones:
            self.clone("cloned", 0, eighth // 2, "cloned", 4 * eighth)
            self.clone("untouched0", 0, 0, "shared", 0)
        for tool in (("xfs_fsr", self.path("fragmented")), ("btrfs", "filesystem", "defragment", "-f", self.path("fragmented"))):
            subprocess.run(tool, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    def change_names(self):
        if libc.renameat2(-100, os.fsencode(self.path("one")), -100, os.fsencode(self.path("two")), RENAME_EXCHANGE) != 0:
            raise OSError(ctypes.get_errno(), "exchange")
        self.replace("replaced")
        before = os.stat(self.path("passed off"))
        self.replace("passed off")
        os.utime(self.path("passed off"), ns=(before.st_atime_ns, before.st_mtime_ns))
        os.link(self.path("linked"), self.path("another name"))
        for source, target in (("renamed", "has another name"), ("moved", "moved away"), ("small2", "small3"), ("away.skip/was here", "moved in"),
                               ("moved out", "away.skip/is here")):
            os.rename(self.path(source), self.path(target))
        os.unlink(self.path("small0"))
        os.unlink(self.path("symlink"))
        os.symlink("two", self.path("symlink"))
        os.mkdir(self.path("new directory"))

    def replace(self, name):
        self.create("replacement", os.urandom(self.size))
        os.rename(self.path("replacement"), self.path(name))

    def change_contents(self):
        os.setxattr(self.path("attribute"), "user.changed", b"yes")
        os.chmod(self.path("mode"), 0o640)
        with open(self.path("appended"), "ab") as file:
            file.write(os.urandom(5000))
        shorter = self.unit // 3 // 4096 * 4096 + 17
        os.truncate(self.path("shortened"), shorter)
        os.truncate(self.path("regrown"), shorter)
        os.truncate(self.path("regrown"), self.size)
        with open(self.path("mapped"), "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[self.unit // 2 + 100] ^= 1
        before = os.stat(self.path("set back"))
        self.write("set back", self.unit // 2 + 100, b"changed")
        os.utime(self.path("set back"), ns=(before.st_atime_ns, before.st_mtime_ns))
        with open(self.path("rewritten the same"), "r+b") as file:
            content = file.read()
            file.seek(0)
            file.write(content)
        self.write("new\nline", 0, b"changed")
        self.write("\udcff\udcfe", self.unit, b"changed")
        self.write("small1", 0, b"changed")
