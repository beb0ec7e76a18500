"""Tells which names come and go in a directory, however briefly they are there."""

import ctypes
import os
import struct

MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x40, 0x80, 0x100, 0x200
OVERFLOWED = 0x4000
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result, what):
    if result < 0:
        raise OSError(ctypes.get_errno(), what)
    return result


class NameWatch:
    """Of the directory, and of those that lie below when it begins. `expected`: paths in it that may come and go."""

    def __init__(self, directory, expected=()):
        self.expected = {os.fspath(path) for path in expected}
        self.fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1")
        self.watched = {}
        for parent, directories, _ in os.walk(directory):
            directories[:] = [name for name in directories if os.path.join(parent, name) not in self.expected]
            mask = ctypes.c_uint32(MOVED_FROM | MOVED_TO | CREATE | DELETE)
            self.watched[_checked(_libc.inotify_add_watch(self.fd, os.fsencode(parent), mask), parent)] = parent

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def seen(self):
        """All since the last time."""
        found = []
        while True:
            try:
                events = os.read(self.fd, 1 << 16)
            except BlockingIOError:
                return found
            at = 0
            while at < len(events):
                watch, mask, _, length = struct.unpack_from("iIII", events, at)
                at += 16 + length
                if mask & OVERFLOWED:
                    raise AssertionError("more names came and went than the kernel could tell")
                path = os.path.join(self.watched.get(watch, ""), os.fsdecode(events[at - length:at].rstrip(b"\0")))
                if path not in self.expected:
                    found.append(path)
