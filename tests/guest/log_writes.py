"""Cuts the power of a disk, in a guest: dm-log-writes records all that is written to it, in order, with the flushes; a cut is what the device may hold then.

The log (Documentation/admin-guide/device-mapper/log-writes.rst of Linux): a super block, then for each write one sector that describes it and, but for
discards, its data. The kernel logs a write when the next flush has completed, and what bypasses the cache (FUA) when it is done itself. So all that
lies before a flush in the log is on the device for good; of what comes after it, up to the next one, a volatile cache may have let any part go.
A mark that is made when a command has ended stands behind all that was flushed by then, and before all that wasn't.
"""

import bisect
import contextlib
import os
import struct
import subprocess
from dataclasses import dataclass, field

from harness import tool

SECTOR = 512  # what the device mapper counts in
PAGE = 4096  # what a device writes whole, or not at all
MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
SUPER, ENTRY = struct.Struct("<QQQI"), struct.Struct("<QQQQ")
END = "dm-log-writes-end"  # the kernel's own mark
MIB = 1 << 20


@dataclass
class Entry:
    flags: int
    offset: int  # in the device
    size: int
    data: int  # its place in the log
    mark: str = ""

    def is_free(self):
        """Whether a cache may drop it until the next flush."""
        return not self.flags & FUA


class Log:
    """What was written to the device."""

    def __init__(self, device):
        tool("blockdev", "--flushbufs", device)  # the kernel wrote the log without the page cache
        self.fd = os.open(device, os.O_RDONLY)
        magic, version, count, sector_size = SUPER.unpack(os.pread(self.fd, SUPER.size, 0))
        if (magic, version) != (MAGIC, 1):
            raise RuntimeError(f"{device} holds no log of writes")
        self.entries, place = [], sector_size
        while len(self.entries) < count:
            head = os.pread(self.fd, sector_size, place)
            sector, sectors, flags, length = ENTRY.unpack_from(head)
            mark = head[ENTRY.size:ENTRY.size + length].decode() if flags & MARK else ""
            self.entries.append(Entry(flags, sector * sector_size, sectors * sector_size, place + sector_size, mark))
            place += sector_size + (0 if flags & DISCARD else sectors * sector_size)
        if not self.entries or self.entries[-1].mark != END:
            raise RuntimeError("the log of writes isn't complete")
        self.marks = {entry.mark: number for number, entry in enumerate(self.entries) if entry.flags & MARK}
        self.flushes = [number for number, entry in enumerate(self.entries) if entry.flags & FLUSH]

    def close(self):
        os.close(self.fd)

    def write(self, entry, fd, begin=0, end=None):
        """That entry, or the bytes of it from `begin` to `end`, to the device."""
        size = (entry.size if end is None else end) - begin
        for at in range(begin, begin + size, MIB):
            step = min(MIB, begin + size - at)
            data = bytes(step) if entry.flags & DISCARD else os.pread(self.fd, step, entry.data + at)
            if os.pwrite(fd, data, entry.offset + at) != step:
                raise RuntimeError("a short write")


@dataclass
class Cut:
    """The first `base` entries are on the device, and of those up to `position` what is said in `more`: (entry, begin, end)."""
    position: int
    base: int
    more: list = field(default_factory=list)

    def __str__(self):
        kept = f", and of the {self.position - self.base} after it {len(self.more)} pieces" if self.base != self.position else ""
        return f"entry {self.position}: all before entry {self.base}{kept}"


def choose_cut(log, chance, begin, end):
    """Somewhere between two entries, as likely after each flush: either the writes up to there in the order of the log, or those up to the last flush, and any
    part of what came after it."""
    flushes = log.flushes[bisect.bisect_right(log.flushes, begin):bisect.bisect_left(log.flushes, end)]
    after = chance.randint(0, len(flushes))
    position = chance.randint([begin, *flushes][after], [*flushes, end][after])
    return Cut(position, position) if chance.random() < 0.3 else cut_at(log, position, chance, chance.choice((0.1, 0.5, 0.9)))


def cut_at(log, position, chance, share):
    """All up to the last flush before that entry, and of what came after it that share, by whole writes or by pages."""
    before = bisect.bisect_left(log.flushes, position)
    base = log.flushes[before - 1] if before else 0
    cut = Cut(position, base)
    for number in range(base, position):
        entry = log.entries[number]
        if entry.size == 0:
            continue
        if not entry.is_free():
            cut.more.append((number, 0, entry.size))
        elif chance.random() < 0.3:  # torn
            cut.more += [(number, at, min(at + PAGE, entry.size)) for at in range(0, entry.size, PAGE) if chance.random() < share]
        elif chance.random() < share:
            cut.more.append((number, 0, entry.size))
    return cut


class LoggedDisk:
    """A disk of several volumes, `volumes` being their sizes in MiB by name, as /dev/mapper/NAME. All that is written to any of them goes into one log, so that a cut
    is one moment for all of them. `disk` holds it three times over, `log` the log."""

    def __init__(self, disk, log, volumes):
        self.disk, self.log_device, self.volumes = disk, log, volumes
        self.sectors = sum(volumes.values()) * MIB // SECTOR
        self.all = int(tool("blockdev", "--getsz", disk))
        self.applied = 0

    @contextlib.contextmanager
    def _device(self, name, *table):
        tool("dmsetup", "create", name, "--table", " ".join(map(str, table)))
        try:
            yield f"/dev/mapper/{name}"
        finally:
            # The kernel may still be closing it.
            tool("dmsetup", "remove", "--retry", name)

    def _part(self, name, begin, sectors):
        return self._device(name, 0, sectors, "linear", self.disk, begin)

    @contextlib.contextmanager
    def _volumes_on(self, device):
        with contextlib.ExitStack() as stack:
            begin = 0
            for name, mib in self.volumes.items():
                stack.enter_context(self._device(name, 0, mib * MIB // SECTOR, "linear", device, begin))
                begin += mib * MIB // SECTOR
            yield

    @contextlib.contextmanager
    def recorded(self):
        """The volumes, empty. Whatever is written to them while the context lasts is logged."""
        tool("blkdiscard", "--zeroout", self.disk)
        with self._part("written", 0, self.sectors) as written, \
                self._device("logged", 0, self.sectors, "log-writes", written, self.log_device), self._volumes_on("/dev/mapper/logged"):
            yield
            if "logging_disabled" in tool("dmsetup", "status", "logged"):
                raise RuntimeError("the log of writes is full")

    @staticmethod
    def mark(name):
        tool("dmsetup", "message", "logged", 0, "mark", name)

    @contextlib.contextmanager
    def after(self, log, cut):
        """The volumes as that cut leaves them. Cuts come in the order of their bases; what is done with the volumes is forgotten."""
        with self._part("replayed", self.sectors, self.sectors) as replayed, \
                self._part("changes", 2 * self.sectors, self.all - 2 * self.sectors) as changes:
            self._write(replayed, log, ((number, 0, log.entries[number].size) for number in range(self.applied, cut.base)))
            self.applied = cut.base
            with self._device("cut", 0, self.sectors, "snapshot", replayed, changes, "N", 8) as device:
                self._write(device, log, cut.more)
                with self._volumes_on(device):
                    yield

    @staticmethod
    def _write(device, log, pieces):
        fd = os.open(device, os.O_RDWR)
        try:
            for number, begin, end in pieces:
                log.write(log.entries[number], fd, begin, end)
            os.fsync(fd)
        finally:
            os.close(fd)


def forget_devices():
    """A kernel that remembers a later generation of a btrfs refuses to mount an earlier one."""
    subprocess.run(["btrfs", "device", "scan", "--forget"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
