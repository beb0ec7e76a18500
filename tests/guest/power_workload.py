"""What is going on while the power may be cut: a node that changes, its backups, and what else an operator does, each begun and ended with a mark in the
log of writes, so that for each cut it is known what had been told as done by then."""

import os
import random
from dataclasses import dataclass, field

import compare

INSIDE = ".nodesnap-restore"


@dataclass
class Event:
    kind: str
    facts: dict = field(default_factory=dict)
    at: int = 0  # the place of its mark in the log


def picture_of(directory):
    """What is there but for the state of a restore in place. All is read: XFS of Linux 6.1 was seen to call a hole what was just written to one."""
    return compare.named_below(directory, excluded=lambda name: name in (INSIDE, "lost+found"), past_holes=False)


class Node:
    """Tables that are written once, pages that are written in place, a log, small files."""

    def __init__(self, directory, seed):
        self.directory, self.random, self.tables = directory, random.Random(seed), 0

    def fill(self):
        for name in ("tables", "small"):
            (self.directory / name).mkdir(parents=True)
        for _ in range(8):
            self.add_table()
        for number in range(12):
            (self.directory / "small" / f"{number}").write_bytes(self.random.randbytes(self.random.randint(0, 6000)))
        with open(self.directory / "pages", "wb") as file:
            file.write(self.random.randbytes(1 << 20))
            file.truncate(4 << 20)
        os.link(self.directory / "small" / "1", self.directory / "link")
        os.symlink("pages", self.directory / "symlink")
        self.give("CURRENT", b"MANIFEST-1\n")

    def add_table(self):
        self.tables += 1
        self.give(f"tables/{self.tables}.sst", self.random.randbytes(self.random.randint(10_000, 150_000)))

    def give(self, name, content):
        """As a database does: durable as a whole, but now and then it is forgotten."""
        path = self.directory / name
        temporary = path.with_name(path.name + ".tmp")
        with open(temporary, "wb") as file:
            file.write(content)
            if self.random.random() < 0.7:
                os.fsync(file.fileno())
        os.rename(temporary, path)

    def change(self):
        with open(self.directory / "pages", "r+b") as file:
            for _ in range(12):
                file.seek(self.random.randrange(1024) * 4096)
                file.write(self.random.randbytes(4096))
            if self.random.random() < 0.5:
                os.fdatasync(file.fileno())
        with open(self.directory / "log", "ab") as file:
            file.write(self.random.randbytes(self.random.randint(100, 20_000)))
        tables = sorted((self.directory / "tables").iterdir())
        self.random.shuffle(tables)
        tables[0].unlink()
        tables[1].rename(self.directory / f"moved{self.tables}.sst")
        for _ in range(2):
            self.add_table()
        (self.directory / "small" / f"{self.random.randrange(12)}").write_bytes(self.random.randbytes(self.random.randint(0, 6000)))
        self.give("CURRENT", b"MANIFEST-%d\n" % self.tables)


class Workload:
    """`case` runs the program; `disk` has the volumes node, target and place mounted at `points`. `snapshot` are the options of the backups, `delta`
    those of restore --delta."""

    def __init__(self, case, disk, points, seed, snapshot, delta):
        self.case, self.disk, self.snapshot, self.delta = case, disk, snapshot, delta
        self.node, self.copy = points["node"] / "node", points["node"] / "copy"
        self.place, self.repository = points["place"], points["target"] / "repository"
        self.content = Node(self.node, seed)
        self.events = []
        self.pictures = {}  # what each backup must restore to, by id

    def tell(self, kind, **facts):
        self.events.append(Event(kind, facts))
        self.disk.mark(str(len(self.events)))

    def find_marks(self, log):
        for number, event in enumerate(self.events):
            event.at = log.marks[str(number + 1)]

    def run(self):
        self.content.fill()
        self.case.ok("init", self.repository, "--node", "node1")
        os.sync()
        for phase in (self.backups, self.forgetting, self.rollback, self.restore, self.restore_to_root, self.restore_delta):
            self.tell("phase", name=phase.__name__)
            phase()
        self.tell("phase", name="end")

    def backup(self):
        picture = picture_of(self.node)
        done = self.case.ok("backup", self.node, self.repository, "--json", *self.snapshot).json
        self.pictures[done["backup"]["id"]] = picture
        self.tell("backed up", id=done["backup"]["id"])
        return done

    def change(self):
        self.tell("changing")
        self.content.change()

    def backups(self):
        self.backup()
        for _ in range(2):
            self.change()
            done = self.backup()
            self.case.assertEqual(done["parent_missing"], "")

    def forgetting(self):
        ids = [backup["id"] for backup in self.case.backups(self.repository)]
        self.tell("forgetting", ids=ids[:-2])
        self.case.ok("forget", self.repository, "--keep-last", "2", "--prune", "--max-unused", "10")
        self.tell("forgot", ids=ids[:-2])
        self.change()
        self.backup()

    def rollback(self):
        new = picture_of(self.node)
        self.case.ok("snapshot", "create", self.node, "first", *self.snapshot)
        self.tell("snapshot made", picture=new)
        self.change()
        os.sync()
        self.tell("rolling back", old=picture_of(self.node), new=new)
        done = self.case.ok("rollback", self.node, "first", "--json").json
        self.tell("rolled back", kept_as=done["kept_as"])
        self.change()
        self.backup()

    def newest(self):
        return self.case.backups(self.repository)[-1]["id"]

    def restore(self):
        self.tell("restoring", id=self.newest(), to=self.copy)
        self.case.ok("restore", self.repository, self.newest(), self.copy)
        self.tell("restored", to=self.copy)

    def restore_to_root(self):
        self.tell("restoring", id=self.newest(), to=self.place)
        self.case.ok("restore", self.repository, self.newest(), self.place)
        self.tell("restored", to=self.place)

    def restore_delta(self):
        Node(self.copy, 1).change()
        os.sync()
        oldest = self.case.backups(self.repository)[0]["id"]
        self.tell("restoring", id=oldest, to=self.copy, old=picture_of(self.copy))
        self.case.ok("restore", self.repository, oldest, self.copy, "--delta", *self.delta)
        self.tell("restored", to=self.copy)
