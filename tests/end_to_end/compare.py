"""Compares two trees attribute by attribute, independently of nodesnap: types, modes, owners, times in nanoseconds, links, extended
attributes, inode flags, contents, holes and unwritten extents. rsync compares them a second time with its own eyes."""

import ctypes
import errno
import fcntl
import os
import stat
import struct
import subprocess

FS_IOC_GETFLAGS = 0x80086601
FS_IOC_FIEMAP = 0xC020660B
# append-only, immutable, nodump, noatime, synchronous, nodatacow, project inherit, dirsync
FLAGS_THAT_MATTER = 0x20 | 0x10 | 0x40 | 0x80 | 0x08 | 0x00800000 | 0x00010000
UNWRITTEN = 0x800
_libc = ctypes.CDLL(None, use_errno=True)


def walk(root_fd, names=()):
    """Yields (names, descriptor of the parent, name) of all entries, by descriptors, so that paths may have any length. Names are bytes."""
    with os.scandir(root_fd) as entries:
        found = sorted((os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_directory in found:
        yield names + (name,), root_fd, name
        if is_directory:
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOATIME, dir_fd=root_fd)
            try:
                yield from walk(fd, names + (name,))
            finally:
                os.close(fd)


def inode_flags(fd):
    buffer = bytearray(8)
    try:
        fcntl.ioctl(fd, FS_IOC_GETFLAGS, buffer)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL):
            return 0
        raise
    return struct.unpack("I", buffer[:4])[0] & FLAGS_THAT_MATTER


def allocation(fd, size):
    """Where a file has data and where allocated, unwritten space: two lists of (begin, end), adjoining ranges merged, in bytes. Contents of zeros may be
    stored or not, so that a caller compares reads as well."""
    data, unwritten, start = [], [], 0
    while True:
        count = 256
        request = bytearray(struct.pack("QQIIII", start, (1 << 64) - 1 - start, 1, 0, count, 0) + bytes(56 * count))
        fcntl.ioctl(fd, FS_IOC_FIEMAP, request)
        mapped = struct.unpack_from("I", request, 20)[0]
        for number in range(mapped):
            logical, _, length = struct.unpack_from("QQQ", request, 32 + 56 * number)
            flags = struct.unpack_from("I", request, 32 + 56 * number + 40)[0]
            ranges = unwritten if flags & UNWRITTEN else data
            if ranges and ranges[-1][1] == logical:
                ranges[-1][1] = logical + length
            else:
                ranges.append([logical, logical + length])
            start = logical + length
        if mapped < count:
            return data, unwritten


def attributes(fd_path):
    """Extended attributes by a descriptor's path in /proc, which follows to the very inode, symlinks included (opened with O_PATH | O_NOFOLLOW)."""
    found = {}
    for name in os.listxattr(fd_path):
        found[name] = os.getxattr(fd_path, name)
    return found


def symlink_attributes(parent, name):
    path = os.fsencode(f"/proc/self/fd/{parent}/") + name
    return {key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)}


def describe(parent, name, links, with_flags=True, with_allocation=True, with_owners=True, past_holes=True):
    """Everything about one entry that a restore must bring back, as a dictionary."""
    info = os.stat(name, dir_fd=parent, follow_symlinks=False)
    kind = stat.S_IFMT(info.st_mode)
    about = {"type": kind, "modified": info.st_mtime_ns}
    if kind != stat.S_IFLNK:
        about["mode"] = stat.S_IMODE(info.st_mode)
    if with_owners:
        about["owner"] = (info.st_uid, info.st_gid)
    if kind != stat.S_IFDIR:
        about["size"] = info.st_size
        about["same file as"] = links.setdefault(info.st_ino, len(links))
        about["links"] = info.st_nlink
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        about["device"] = info.st_rdev
    if kind == stat.S_IFLNK:
        about["target"] = os.readlink(name, dir_fd=parent)
    if kind in (stat.S_IFREG, stat.S_IFDIR):
        fd = os.open(name, os.O_RDONLY | os.O_NOATIME, dir_fd=parent)
        try:
            about["attributes"] = attributes(fd)
            if with_flags:
                about["flags"] = inode_flags(fd)
            if kind == stat.S_IFREG:
                about["content"] = content(fd, info.st_size, past_holes)
                if with_allocation and info.st_size > 4096:
                    about["allocation"] = allocation(fd, info.st_size)
        finally:
            os.close(fd)
    else:
        about["attributes"] = symlink_attributes(parent, name)
    return about


def content(fd, size, past_holes=True):
    """A digest of the data and its places; holes are skipped, so that a huge sparse file costs only what it holds, or read where the file system
    isn't to be believed what it calls one."""
    import hashlib
    digest = hashlib.blake2b()
    position = 0
    while position < size:
        try:
            begin = os.lseek(fd, position, os.SEEK_DATA) if past_holes else position
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        data_end = os.lseek(fd, begin, os.SEEK_HOLE) if past_holes else size
        end = -(-data_end // 4096) * 4096  # in pages, of file systems with smaller blocks too
        position = begin // 4096 * 4096
        while position < end:
            chunk = os.pread(fd, min(1 << 20, end - position), position)
            if not chunk:
                break
            for at in range(0, len(chunk), 4096):  # blocks of zeros may be data on one side and a hole on the other
                block = chunk[at:at + 4096]
                if block.count(0) != len(block):
                    digest.update(struct.pack("Q", position + at))
                    digest.update(block)
            position += len(chunk)
    return digest.hexdigest()


def snapshot_of(root, **options):
    links = {}
    result = {}
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _libc.syncfs(fd)  # what is still to be allocated has no place that could be compared
        for names, parent, name in walk(fd):
            result[b"/".join(names)] = describe(parent, name, links, **options)
    finally:
        os.close(fd)
    top = os.stat(root)
    result[b"."] = {"mode": stat.S_IMODE(top.st_mode), "owner": (top.st_uid, top.st_gid), "modified": top.st_mtime_ns, "attributes": attributes(str(root))}
    if not options.get("with_owners", True):
        del result[b"."]["owner"]
    return result


def named_below(directory, excluded=lambda name: False, **options):
    """What is there but for what is excluded; names outside don't count as links. Where space is allocated is compared elsewhere."""
    numbers = {}
    result = {}
    for path, entry in sorted(snapshot_of(directory, with_allocation=False, **options).items()):
        if not any(excluded(part) for part in os.fsdecode(path).split("/")):
            entry.pop("links", None)
            if "same file as" in entry:
                entry["same file as"] = numbers.setdefault(entry["same file as"], len(numbers))
            result[path] = entry
    return result


def differences(one, other):
    """Lines that say how two results of snapshot_of() differ; empty if they don't."""
    lines = []
    for path in sorted(set(one) | set(other)):
        shown = path.decode(errors="backslashreplace")[:200]
        if path not in one or path not in other:
            lines.append(f"{shown}: only in the {'first' if path in one else 'second'}")
            continue
        for key in one[path]:
            if one[path][key] != other[path].get(key):
                lines.append(f"{shown}: {key}: {str(one[path][key])[:300]} != {str(other[path].get(key))[:300]}")
    return lines


def rsync_differences(source, restored, options="-aHAXn"):
    """What rsync would change to make the restored tree like the source, contents compared."""
    command = ["rsync", options, "--checksum", "--delete", "--itemize-changes", "--devices", "--specials", f"{source}/", f"{restored}/"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="backslashreplace", check=False)
    if done.returncode != 0:
        return [f"rsync: exit status {done.returncode}: {done.stderr[-1000:]}"]
    return done.stdout.splitlines()
