"""Random changes to a tree, of every kind that an incremental backup must notice. Made anew by the same seed."""

import ctypes
import fcntl
import mmap
import os
import random
import stat
import struct
import subprocess

SIZES = (0, 1, 100, 2048, 2049, 4096, 5000, 16384, 16385, 70_000, 300_000, 1_048_576, 1_500_000)
FICLONERANGE = 0x4020940D
FIDEDUPERANGE = 0xC0189436
RENAME_EXCHANGE = 2
KEEP_SIZE = 1
PUNCH_HOLE = 2
COLLAPSE_RANGE = 8
ZERO_RANGE = 16
INSERT_RANGE = 32

libc = ctypes.CDLL(None, use_errno=True)


class Changes:
    """Changes the directory `node`; `outside` is a directory of the same file system (of the same subvolume, if it is to be moved to), or None.
    Names that end with ".skip" are meant to be excluded. What lies at `spared` is left alone."""

    def __init__(self, node, outside, seed, spared=None):
        self.node, self.outside, self.spared = node, outside, spared
        self.random = random.Random(seed)
        self.counter = 0
        self.kinds = [getattr(self, name) for name in dir(self) if name.startswith("do_")]

    def make(self, count):
        """So many changes; returns what they were, for messages."""
        done = []
        while len(done) < count:
            kind = self.random.choice(self.kinds)
            try:
                what = kind()
            except (OSError, ValueError) as error:  # nothing that would do
                what = f"{kind.__name__}: {error}"
            done.append(f"{kind.__name__}: {what}")
        return done

    # --- picking

    def walk(self):
        for parent, directories, files in os.walk(self.node):
            directories[:] = [name for name in directories if os.path.join(parent, name) != self.spared]
            yield parent, directories, files

    def directories(self):
        return [self.node, *sorted(os.path.join(parent, name) for parent, names, _ in self.walk() for name in names)]

    def entries(self, wanted):
        """In an order that only the names decide: that of a directory isn't the same in the next run."""
        return sorted(path for parent, directories, files in self.walk() for path in (os.path.join(parent, name) for name in directories + files)
                      if wanted(path))

    def file(self, least=0):
        found = self.entries(lambda path: os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path) >= least)
        return self.random.choice(found) if found else self.do_create()

    def any(self):
        found = self.entries(lambda path: True)
        return self.random.choice(found) if found else self.do_create()

    def new_name(self, directory=None):
        self.counter += 1
        skip = ".skip" if self.random.random() < 0.08 else ""
        return os.path.join(directory or self.random.choice(self.directories()), f"n{self.counter}{skip}")

    def bytes(self, size):
        return self.random.randbytes(size)

    @staticmethod
    def remove_tree(path):
        for parent, directories, files in os.walk(path, topdown=False):
            for name in sorted(files):
                os.unlink(os.path.join(parent, name))
            for name in sorted(directories):
                below = os.path.join(parent, name)
                os.unlink(below) if os.path.islink(below) else os.rmdir(below)
        os.rmdir(path)

    @staticmethod
    def quietly(*command):
        """A tool that the file system may refuse."""
        return subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

    # --- contents

    def do_create(self):
        path = self.new_name()
        with open(path, "wb") as file:
            file.write(self.bytes(self.random.choice(SIZES)))
        return path

    def do_overwrite_pages(self):
        path = self.file(1)
        size = os.path.getsize(path)
        with open(path, "r+b") as file:
            for _ in range(self.random.randint(1, 8)):
                file.seek(self.random.randrange(size) // 4096 * 4096)
                file.write(self.bytes(min(4096, size)))
        return path

    def do_overwrite_bytes(self):
        path = self.file(1)
        with open(path, "r+b") as file:
            file.seek(self.random.randrange(os.path.getsize(path)))
            file.write(self.bytes(self.random.randint(1, 30)))
        return path

    def do_overwrite_mapped(self):
        path = self.file(1)
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[self.random.randrange(len(mapped))] = self.random.randrange(256)
        return path

    def do_overwrite_and_set_times_back(self):
        path = self.file(1)
        before = os.stat(path)
        self.do_overwrite_bytes_of(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return path

    def do_overwrite_bytes_of(self, path=None):
        path = path or self.file(1)
        with open(path, "r+b") as file:
            file.write(self.bytes(min(17, os.path.getsize(path))))
        return path

    def do_append(self):
        path = self.file()
        with open(path, "ab") as file:
            file.write(self.bytes(self.random.choice((1, 500, 4096, 200_000))))
        return path

    def do_truncate(self):
        path = self.file()
        os.truncate(path, self.random.choice((0, os.path.getsize(path) // 2, os.path.getsize(path) // 3 // 4096 * 4096,
                                              os.path.getsize(path) + 9000, 3_000_000)))
        return path

    def range_of(self, path):
        size = max(os.path.getsize(path), 1)
        offset = self.random.randrange(size) // 4096 * 4096
        return offset, self.random.choice((4096, 8192, 65536, 400_000))

    def fallocate(self, mode):
        path = self.file()
        offset, length = self.range_of(path)
        fd = os.open(path, os.O_RDWR)
        try:
            if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
                raise OSError(ctypes.get_errno(), "fallocate")
        finally:
            os.close(fd)
        return path

    def do_punch(self):
        return self.fallocate(PUNCH_HOLE | KEEP_SIZE)

    def do_preallocate(self):
        return self.fallocate(0)

    def do_preallocate_beyond_end(self):
        return self.fallocate(KEEP_SIZE)

    def do_zero(self):
        return self.fallocate(ZERO_RANGE)

    def do_collapse(self):
        """What lies behind moves, its blocks don't; where the file system can do that (XFS, ext4)."""
        return self.fallocate(COLLAPSE_RANGE)

    def do_insert(self):
        return self.fallocate(INSERT_RANGE)

    def do_clone_range(self):
        source, target = self.file(4096), self.file(4096)
        length = self.random.choice((4096, 65536))
        with open(source, "rb") as reader, open(target, "r+b") as writer:
            place = self.random.randrange(os.path.getsize(source)) // 4096 * 4096
            length = min(length, os.path.getsize(source) // 4096 * 4096 - place)
            if length > 0:
                fcntl.ioctl(writer, FICLONERANGE, struct.pack("qQQQ", reader.fileno(), place, length,
                                                              self.random.randrange(os.path.getsize(target)) // 4096 * 4096))
        return f"{source} to {target}"

    def do_copy_by_clone(self):
        source, target = self.file(), self.new_name()
        self.quietly("cp", "--reflink=always", source, target)
        return f"{source} to {target}"

    def do_replace_by_a_new_file(self):
        path = self.file()
        with open(path + ".new", "wb") as file:
            file.write(self.bytes(self.random.choice(SIZES)))
        os.rename(path + ".new", path)
        return path

    def do_clone_within(self):
        """Ranges of one file trade places or repeat, as when a database moves its pages."""
        path = self.file(3 * 4096)
        pages = os.path.getsize(path) // 4096
        with open(path, "r+b") as file:
            count = self.random.randint(1, pages // 2)
            source = self.random.randrange(pages - 2 * count + 1)
            target = self.random.randrange(source + count, pages - count + 1)  # they may not overlap
            if self.random.random() < 0.5:
                source, target = target, source
            fcntl.ioctl(file, FICLONERANGE, struct.pack("qQQQ", file.fileno(), source * 4096, count * 4096, target * 4096))
        return path

    def do_deduplicate(self):
        """The bytes stay, their place changes: the head of a file is that of a copy of it."""
        source, target = self.file(8192), self.new_name()
        with open(source, "rb") as reader, open(target, "w+b") as writer:
            length = min(os.path.getsize(source) // 4096 * 4096, 1 << 20)
            writer.write(reader.read(length))
            writer.flush()
            request = bytearray(struct.pack("QQHHIqQQiI", 0, length, 1, 0, 0, writer.fileno(), 0, 0, 0, 0))
            fcntl.ioctl(reader, FIDEDUPERANGE, request)
        return f"{source} and {target}"

    def do_defragment(self):
        path = self.random.choice([self.file(), *self.directories()])
        self.quietly("xfs_fsr", path)
        how = self.random.choice(([], ["-czstd"], ["-clzo"]))
        return f"{path} {how} {self.quietly('btrfs', 'filesystem', 'defragment', '-r', '-f', *how, path)}"

    def do_create_compressible(self):
        path = self.new_name()
        open(path, "wb").close()
        self.quietly("chattr", "+c", path)
        with open(path, "wb") as file:
            for _ in range(self.random.randint(1, 40)):
                file.write(self.bytes(7) * 2000)
        return path

    def do_create_nodatacow(self):
        """Only of an empty file can it be said; overwriting then changes no extent."""
        path = self.new_name()
        open(path, "wb").close()
        self.quietly("chattr", "+C", path)
        with open(path, "wb") as file:
            file.write(self.bytes(self.random.choice(SIZES[5:])))
        return path

    def do_write_outside(self):
        """What has a name outside and one in the node is changed by the other name."""
        names = [os.path.join(self.outside, name) for name in (sorted(os.listdir(self.outside)) if self.outside else [])]
        names = [name for name in names if os.path.isfile(name) and os.path.getsize(name)]
        if not names:
            return "nothing"
        return self.do_overwrite_bytes_of(self.random.choice(names))

    # --- names

    def do_make_directory(self):
        path = self.new_name()
        os.mkdir(path)
        for number in range(self.random.randint(0, 4)):
            with open(os.path.join(path, f"f{number}"), "wb") as file:
                file.write(self.bytes(self.random.choice(SIZES[:8])))
        return path

    def do_rename(self):
        source, target = self.any(), self.new_name()
        os.rename(source, target)
        return f"{source} to {target}"

    def do_exchange(self):
        one, two = self.any(), self.any()
        if libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(two), RENAME_EXCHANGE) != 0:
            raise OSError(ctypes.get_errno(), f"exchange {one} and {two}")
        return f"{one} and {two}"

    def do_link(self):
        source, target = self.file(), self.new_name()
        os.link(source, target)
        return f"{source} to {target}"

    def do_remove(self):
        path = self.any()
        if os.path.isdir(path) and not os.path.islink(path):
            if self.random.random() < 0.5:
                return "nothing"
            self.remove_tree(path)
        else:
            os.unlink(path)
        return path

    def do_file_to_directory(self):
        path = self.file()
        os.unlink(path)
        os.mkdir(path)
        with open(os.path.join(path, "in"), "wb") as file:
            file.write(self.bytes(3000))
        return path

    def do_directory_to_file(self):
        found = [path for path in self.directories() if path != self.node]
        if not found:
            return "nothing"
        path = self.random.choice(found)
        self.remove_tree(path)
        with open(path, "wb") as file:
            file.write(self.bytes(5000))
        return path

    def do_move_out(self):
        if not self.outside:
            return "nothing"
        path = self.any()
        self.counter += 1
        os.rename(path, os.path.join(self.outside, f"o{self.counter}"))
        return path

    def do_move_in(self):
        names = os.listdir(self.outside) if self.outside else []
        if not names:
            return "nothing"
        name = self.random.choice(sorted(names))
        target = self.new_name()
        os.rename(os.path.join(self.outside, name), target)
        return target

    def do_link_from_outside(self):
        names = [name for name in (sorted(os.listdir(self.outside)) if self.outside else []) if os.path.isfile(os.path.join(self.outside, name))]
        if not names:
            return "nothing"
        target = self.new_name()
        os.link(os.path.join(self.outside, self.random.choice(names)), target)
        return target

    def do_link_to_outside(self):
        if not self.outside:
            return "nothing"
        path = self.file()
        self.counter += 1
        os.link(path, os.path.join(self.outside, f"o{self.counter}"))
        return path

    def make_special(self, path):
        kind = self.random.randrange(4)
        if kind == 0:
            os.mkfifo(path)
        elif kind == 1:
            os.mknod(path, 0o600 | self.random.choice((stat.S_IFCHR, stat.S_IFBLK)), os.makedev(1, self.random.randint(1, 9)))
        else:
            os.symlink(f"to {self.random.randrange(1000)}", path)
        return path

    def do_special(self):
        return self.make_special(self.new_name())

    def do_replace_by_special(self):
        """A file, or another such thing, becomes one."""
        found = self.entries(lambda path: os.path.islink(path) or not os.path.isdir(path))
        path = self.random.choice(found) if found else self.do_create()
        os.unlink(path)
        return self.make_special(path)

    # --- attributes

    def do_chmod(self):
        path = self.random.choice([self.file(), *self.directories()])
        os.chmod(path, self.random.choice((0o600, 0o644, 0o4755, 0o0)))
        return path

    def do_chown(self):
        path = self.any()
        os.chown(path, self.random.choice((0, 1, 65534)), self.random.choice((0, 1, 65534)), follow_symlinks=False)
        return path

    def do_times(self):
        path = self.any()
        os.utime(path, ns=(self.random.randrange(1 << 60), self.random.randrange(1 << 60)), follow_symlinks=False)
        return path

    def do_xattr(self):
        path = self.random.choice([self.file(), *self.directories()])
        name = f"user.a{self.random.randint(0, 3)}"
        if name in os.listxattr(path) and self.random.random() < 0.4:
            os.removexattr(path, name)
        else:
            os.setxattr(path, name, self.bytes(self.random.choice((0, 5, 2048, 3000))))
        return path

    def do_flags(self):
        path = self.random.choice([self.file(), *self.directories()])
        flag = self.random.choice(("+d", "-d", "+C", "+A", "-A", "+c", "-c", "+m", "-m"))
        return f"{path} {flag} {self.quietly('chattr', flag, path)}"

    def do_compression(self):
        path = self.random.choice([self.file(), *self.directories()])
        value = self.random.choice(("zstd", "lzo", "zlib", "none", ""))
        return f"{path} {value} {self.quietly('btrfs', 'property', 'set', path, 'compression', value)}"

    def do_seal(self):
        """Immutable or append-only; what is done to it then fails, until none is sealed any more."""
        if self.random.random() < 0.6:
            return f"none {self.quietly('chattr', '-R', '-f', '-i', '-a', self.node)}"
        path = self.random.choice([self.file(), *(path for path in self.directories() if path != self.node)])
        flag = self.random.choice(("+i", "+a"))
        return f"{path} {flag} {self.quietly('chattr', flag, path)}"
