"""What the conformance suite knows of a backend on a layout: what it is given, what it promises, and how its snapshots are looked at without nodesnap."""

import contextlib
import os
from pathlib import Path

from changes import Changes
from harness import is_subvolume, tool

MIB = 1 << 20


class Storage:
    """Made once for all tests of a class, in `keeper`, a harness.Case that lives as long; each test gets an empty node directory by fresh(), and ends with
    clean(). What a test may then use: `node`; `outside`, a directory of the same file system or None; `restores`, a directory to restore into."""

    kind, file_system, layout = "", "", ""
    # --- what is promised
    takes_snapshots = True  # what is written after the snapshot isn't in the backup
    atomic = False          # it shows one instant, whoever writes meanwhile: crash-consistent without a hold, where others are refused
    lasting = True          # `snapshot create` makes some that stay
    outlives = 1            # snapshots that a program leaves which is killed
    tells = "ranges"        # what of two of them: the ranges that differ, the "files" that can't differ, or None; with a parent, unless it is None
    granule = 4096          # bytes that may be read for a page that has changed
    read_anyway = 0         # bytes that may be read of a node in which nothing has changed
    rolls_back = False
    links = 0               # names that a snapshot gives to a file that is never written to again
    # --- what is given
    no_daemon = ()          # options of a backup while none runs, where it must be told so: a hook that does nothing
    immutable = ()          # options that name files that are never written to again
    immutable_lies = ()     # such as name others besides: what is changed between two backups must be noticed all the same
    clones = False          # whether the file system has reflinks
    changes = Changes       # for the random model
    unit = MIB              # of the larger files
    small_files = 200
    every_step = True       # it is killed at each of the backend's own steps, and at
    some_steps = 4          # of the others, or of all
    pause_us = 1000         # of the daemon that writes, between two records
    rounds = 2              # of the random model, and of backups of a daemon that writes

    def __init__(self, keeper, layout):
        self.keeper, self.layout = keeper, layout
        self.node = self.outside = self.restores = self.snapshots = None
        self.inside = ()  # where snapshots are kept inside the node directory: the options that say so

    def fresh(self):
        raise NotImplementedError

    def clean(self):
        raise NotImplementedError

    def left(self):
        """Names of all that nodesnap has left on the storage."""
        raise NotImplementedError

    def check_parent(self, name):
        """That what left() gives of a finished backup is as it should lie there."""

    def view(self, entry):
        """A context in which the node directory in a snapshot, as `snapshot list` gives it, is at a path."""
        raise NotImplementedError

    def harms(self):
        """What can be done to a parent, by name: a function of what left() gives, and a part of why it isn't believed then."""
        return {}

    @property
    def layout_told(self):
        return {"mount root": "root of a mount", "top level": "mounted subvolume"}.get(self.layout, self.layout)

    @property
    def where(self):
        return ("--snapshot", self.kind, *self.inside[:2])

    @property
    def making(self):
        return ("--snapshot", self.kind, *self.inside, *self.immutable)

    @property
    def spared(self):
        """Names in the node directory that aren't the node's."""
        names = ("lost+found",) if self.layout == "mount root" else ()
        return (*names, self.inside[1].name) if self.inside else names

    def keep_inside(self, directory):
        self.inside = ("--snapshot-dir", directory, "--exclude", f"/{directory.name}")

    def everything(self):
        """All names on the storage but below `restores`, with what would show that somebody touched them."""
        found = {}
        for parent, directories, files in os.walk(self.node.parent if self.layout in ("folder", "subvolume") else self.node):
            directories[:] = [name for name in directories if Path(parent, name) != self.restores]
            for name in (".", *directories, *files):
                status = os.lstat(os.path.join(parent, name))
                found[os.path.join(parent, name)] = (status.st_ino, status.st_size, status.st_nlink, status.st_mtime_ns, status.st_ctime_ns)
        return found


def empty(directory):
    """Removes all that is in it."""
    for path in directory.iterdir():
        if path.name != "lost+found":
            tool("chattr", "-R", "-f", "-i", "-a", path, check=False)
            tool("rm", "-rf", path)


class OwnFileSystem(Storage):
    """On a file system of its own, on a loop device."""

    def __init__(self, keeper, layout):
        super().__init__(keeper, layout)
        self.top = self.make_file_system("storage")
        if (self.top / "lost+found").exists():
            os.chmod(self.top / "lost+found", 0o700)  # mkfs dates it by whole seconds: changed in this one, for all that one knows
        self.is_root = layout in ("mount root", "top level")
        self.elsewhere = self.make_file_system("restores") if self.is_root else None
        self.count = 0

    def make_file_system(self, name):
        return self.keeper.file_system(self.file_system, 1024, name=name)

    def fresh(self):
        self.count += 1
        if self.is_root:
            self.node, self.restores = self.top, self.elsewhere / "restores"
        else:
            area = self.top / f"area{self.count}"
            area.mkdir()
            self.node, self.restores = area / "node", area / "restores"
            self.make_node(area)
        self.restores.mkdir()
        self.place_snapshots()

    def make_node(self, area):
        if self.layout == "folder":
            self.node.mkdir()
            self.outside = area / "outside"
            self.outside.mkdir()
        elif self.layout == "subvolume":
            self.keeper.subvolume(self.node)
        else:
            self.keeper.subvolume(area / "sub")
            self.node = self.keeper.scratch / "node"
            self.node.mkdir(exist_ok=True)
            device = tool("findmnt", "--noheadings", "--raw", "--first-only", "--output", "SOURCE", self.top).strip().split("[")[0]
            tool("mount", "-o", f"subvol={area.name}/sub,noatime", device, self.node)
            self.keeper.stack.callback(self.keeper._unmount, self.node)

    def place_snapshots(self):
        self.snapshots = self.node.parent / ".nodesnap"
        if self.is_root:
            self.snapshots = self.top / ".nodesnap"
            self.keep_inside(self.snapshots)

    def clean(self):
        if self.layout == "mounted subvolume":
            self.keeper._unmount(self.node)
        for folder in self.top.rglob(".nodesnap"):
            for path in folder.iterdir():
                if is_subvolume(path):
                    tool("btrfs", "subvolume", "delete", path)
        empty(self.top)
        if self.elsewhere:
            empty(self.elsewhere)
            self.make_root_anew()

    def make_root_anew(self):
        """What the tests may have done to the root of the file system itself."""
        tool("chattr", "=", self.top, check=False)
        for name in os.listxattr(self.top):
            if name.startswith(("user.", "btrfs.")):
                os.removexattr(self.top, name)
        os.chmod(self.top, 0o755)
        os.chown(self.top, 0, 0)

    def left(self):
        if not self.snapshots or not self.snapshots.exists():
            return []
        unfinished = self.snapshots / ".unfinished"
        return sorted([path.name for path in self.snapshots.iterdir() if path != unfinished] +
                      [f".unfinished/{name}" for name in (os.listdir(unfinished) if unfinished.exists() else ())])

    def path_of(self, entry):
        return self.snapshots / os.path.basename(entry["path"])


class Btrfs(OwnFileSystem):
    kind, file_system = "btrfs", "btrfs"
    atomic = rolls_back = clones = True

    def __init__(self, keeper, layout):
        super().__init__(keeper, layout)
        self.rolls_back = layout != "top level"
        self.every_step = layout == "subvolume"

    def place_snapshots(self):
        super().place_snapshots()
        if self.layout in ("folder", "mounted subvolume"):
            self.snapshots = self.top / ".nodesnap"

    @contextlib.contextmanager
    def view(self, entry):
        yield self.path_of(entry) / self.below

    @property
    def below(self):
        """A snapshot is of the whole subvolume."""
        return os.path.relpath(self.node, self.top) if self.layout == "folder" else "."

    def harms(self):
        return {"removed": (self.remove, "snapshot trim, or removed"), "written to": (self.write_to, "made writable"),
                "replaced": (self.replace, "replaced by another one")}

    def remove(self, name):
        tool("btrfs", "subvolume", "delete", self.snapshots / name)

    def replace(self, name):
        subvolume = self.top if self.layout == "folder" else self.node
        self.remove(name)
        tool("btrfs", "subvolume", "snapshot", "-r", subvolume, self.snapshots / name)

    def write_to(self, name):
        snapshot = self.snapshots / name
        tool("btrfs", "property", "set", "-f", snapshot, "ro", "false")
        (snapshot / self.below / "file").write_bytes(os.urandom(30_000))
        tool("btrfs", "property", "set", snapshot, "ro", "true")


class Tree(OwnFileSystem):
    """Snapshots that are trees of files."""

    def __init__(self, keeper, layout):
        super().__init__(keeper, layout)
        self.rolls_back = layout == "folder"
        self.every_step = layout == "folder" and self.file_system != "btrfs"

    @contextlib.contextmanager
    def view(self, entry):
        yield self.path_of(entry) / "tree"

    def harms(self):
        return {"removed": (self.remove, "snapshot trim, or removed"), "copied": (self.replace_by_a_copy, "replaced by a copy of it"),
                "replaced": (self.replace_by_another, "replaced by what is no snapshot")}

    def remove(self, name):
        tool("rm", "-r", self.snapshots / name)

    def replace_by_a_copy(self, name):
        tree = self.snapshots / name / "tree"
        tool("cp", "-a", tree, self.snapshots / name / "copy")
        tool("rm", "-r", tree)
        (self.snapshots / name / "copy").rename(tree)

    def replace_by_another(self, name):
        self.keeper.ok("snapshot", "create", self.node, "another", *self.making)
        (another,) = self.snapshots.glob("*another")
        self.remove(name)
        another.rename(self.snapshots / name)


class ReflinkOnXfs(Tree):
    kind, file_system, clones = "reflink", "xfs", True


class ReflinkOnBtrfs(Tree):
    kind, file_system, clones = "reflink", "btrfs", True
    read_anyway = MIB // 2  # what lies in btrfs' own trees has no place of its own that clones could share


class Hardlink(Tree):
    kind, file_system, tells, links = "hardlink", "ext4", "files", 1
    immutable = ("--immutable", "untouched*", "--immutable", "*.sst")
    immutable_lies = ("--immutable", "*")


class Nameless(OwnFileSystem):
    """The root of a mount, with nothing inside: the files of a snapshot are held open, and have no names."""

    lasting, outlives, tells, every_step = False, 0, None, False

    def place_snapshots(self):
        self.snapshots, self.inside = None, ()


class NamelessLinks(Nameless):
    kind, file_system = "hardlink", "ext4"
    immutable = Hardlink.immutable
    immutable_lies = Hardlink.immutable_lies


class NamelessClones(Nameless):
    kind, file_system, clones = "reflink", "xfs", True


class Nothing(OwnFileSystem):
    """No snapshot at all: the directory itself is read, in passes where the daemon is held."""

    kind, file_system = "none", "ext4"
    takes_snapshots, lasting, tells = False, False, None

    def __init__(self, keeper, layout):
        super().__init__(keeper, layout)
        self.every_step = layout == "folder"

    def place_snapshots(self):
        self.snapshots, self.inside = None, ()
