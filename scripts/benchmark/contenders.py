"""What nodesnap is measured beside: how each tool is set up, backs a node up, restores it."""

import json
import shlex
from pathlib import Path

from . import limit
from .storage import run


class Contender:
    """One tool. `node` is what is backed up (a read-only snapshot, or for a tool that takes its own the live subvolume), `store` a folder
    on the target that is there and empty, `place` a folder on the destination that isn't there yet."""

    name = ""
    note = ""
    environment = {}
    restores = False  # whether again() restores the first backup

    def __init__(self, scratch):
        self.scratch = Path(scratch) / self.name
        self.scratch.mkdir(parents=True, exist_ok=True)

    def node(self, source, case):
        return source / f"{case}.ro"

    def prepare(self, store):
        """What an operator does once for each repository; not measured."""

    def warm_up(self):
        """A command that brings the program itself back into memory after the caches were dropped."""
        return ["true"]

    def backup(self, node, store):
        raise NotImplementedError

    def restore(self, node, store, place):
        raise NotImplementedError

    def restored(self, node, place):
        """Where the node's files lie after the restore."""
        return place

    def first(self, node, store):
        """The first of two backups of a live subvolume. Not measured."""
        return self.backup(node, store)

    def again(self, node, store):
        """The second, after little has changed."""
        return self.backup(node, store)

    def changed(self, node, store):
        """What else happens after the change. Not measured."""

    def forget(self, node):
        """Removes what it keeps beside the node between two backups."""

    def seconds(self, log, wall_seconds):
        return wall_seconds


class Limit(Contender):
    name = "limit"
    note = "fio, O_DIRECT, 2 readers (8 for the 100,000 files) and 2 writers at once, io_uring, depth 16, blocks of up to 1 MiB"

    def __init__(self, scratch):
        super().__init__(scratch)
        self.total_bytes = {}

    def warm_up(self):
        return ["fio", "--version"]

    def _bytes(self, node):
        if node not in self.total_bytes:
            self.total_bytes[node] = sum(path.lstat().st_size for path in node.rglob("*") if not path.is_dir())
        return self.total_bytes[node]

    def backup(self, node, store):
        job = limit.prepare(node, store, self.scratch, self._bytes(node))
        return ["fio", "--output-format=json", str(job)]

    def restore(self, node, store, place):
        place.mkdir()
        job = limit.prepare_restore(store, place, self.scratch, self._bytes(node))
        return ["fio", "--output-format=json", str(job)]

    def restored(self, node, place):
        return None

    def seconds(self, log, wall_seconds):
        return limit.seconds(log)


class Copy(Contender):
    name = "cp"
    note = "cp -a"

    def warm_up(self):
        return ["cp", "--version"]

    def backup(self, node, store):
        return ["cp", "-a", str(node), str(store / "node")]

    def restore(self, node, store, place):
        return ["cp", "-a", str(store / "node"), str(place)]


class Rsync(Contender):
    name = "rsync"
    note = "rsync -aW"

    def warm_up(self):
        return ["rsync", "--version"]

    def backup(self, node, store):
        return ["rsync", "-aW", f"{node}/", f"{store / 'node'}/"]

    def restore(self, node, store, place):
        return ["rsync", "-aW", f"{store / 'node'}/", f"{place}/"]


class RsyncDelta(Rsync):
    name = "rsync, delta"
    note = "rsync -a --inplace --no-whole-file: compares files that look changed block by block, and writes only what differs"

    def again(self, node, store):
        return ["rsync", "-a", "--inplace", "--no-whole-file", f"{node}/", f"{store / 'node'}/"]


class RsyncWhole(Rsync):
    name = "rsync, whole"
    note = "rsync -aW --inplace: copies files that look changed"

    def again(self, node, store):
        return ["rsync", "-aW", "--inplace", f"{node}/", f"{store / 'node'}/"]


class Send(Contender):
    name = "send"
    note = "btrfs send | btrfs receive"

    def warm_up(self):
        return ["btrfs", "--version"]

    @staticmethod
    def _pipe(snapshot, into):
        return ["bash", "-c", f"set -o pipefail; btrfs send -q {shlex.quote(str(snapshot))} | btrfs receive -q {shlex.quote(str(into))}"]

    def backup(self, node, store):
        return self._pipe(node, store)

    def restore(self, node, store, place):
        return self._pipe(store / node.name, place.parent)

    def restored(self, node, place):
        return place.parent / node.name

    @staticmethod
    def _snapshots(node):
        return node.parent / f"{node.name}.first", node.parent / f"{node.name}.again"

    def first(self, node, store):
        first = self._snapshots(node)[0]
        run("btrfs", "subvolume", "snapshot", "-r", node, first)
        return self._pipe(first, store)

    def again(self, node, store):
        first, again = (shlex.quote(str(path)) for path in self._snapshots(node))
        return ["bash", "-c", f"set -o pipefail; btrfs subvolume snapshot -r {shlex.quote(str(node))} {again} >/dev/null; "
                f"btrfs send -q -p {first} {again} | btrfs receive -q {shlex.quote(str(store))}"]

    def forget(self, node):
        for snapshot in self._snapshots(node):
            if snapshot.exists():
                run("btrfs", "subvolume", "delete", snapshot)


class Restic(Contender):
    name = "restic"
    note = "repository version 2, its default compression, cache on another disk"

    def __init__(self, scratch):
        super().__init__(scratch)
        password = self.scratch / "password"
        password.write_text("benchmark\n")
        self.environment = {"RESTIC_PASSWORD_FILE": str(password), "RESTIC_CACHE_DIR": str(self.scratch / "cache")}

    def warm_up(self):
        return ["restic", "version"]

    def prepare(self, store):
        run("rm", "-rf", self.scratch / "cache")
        run("env", *(f"{key}={value}" for key, value in self.environment.items()), "restic", "init", "--quiet", "--repo", store)

    def backup(self, node, store):
        return ["bash", "-c", f"cd {shlex.quote(str(node))} && exec restic backup --quiet --repo {shlex.quote(str(store))} ."]

    def restore(self, node, store, place):
        return ["restic", "restore", "--quiet", "--repo", str(store), "--target", str(place), "latest"]


class Borg(Contender):
    name = "borg"
    note = "no encryption, its default compression (lz4), cache on another disk"

    def __init__(self, scratch):
        super().__init__(scratch)
        self.environment = {"BORG_BASE_DIR": str(self.scratch), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes", "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}

    def warm_up(self):
        return ["borg", "--version"]

    def prepare(self, store):
        run("rm", "-rf", self.scratch / ".cache", self.scratch / ".config")
        run("env", *(f"{key}={value}" for key, value in self.environment.items()), "borg", "init", "--encryption", "none", store)

    def backup(self, node, store):
        return ["bash", "-c", f"cd {shlex.quote(str(node))} && exec borg create {shlex.quote(str(store))}::node ."]

    def again(self, node, store):
        return ["bash", "-c", f"cd {shlex.quote(str(node))} && exec borg create {shlex.quote(str(store))}::again ."]

    def restore(self, node, store, place):
        place.mkdir()
        return ["bash", "-c", f"cd {shlex.quote(str(place))} && exec borg extract {shlex.quote(str(store))}::node"]


class Nodesnap(Contender):
    name = "nodesnap"
    note = "takes its own snapshot of the live subvolume; that is in its time"

    def __init__(self, scratch, program):
        super().__init__(scratch)
        self.program = str(program)
        self.state = ["--state-dir", str(self.scratch / "state")]

    def node(self, source, case):
        return source / case

    def warm_up(self):
        return [self.program, "--version"]

    def prepare(self, store):
        run("rm", "-rf", self.scratch / "state")
        run(self.program, "init", store, "--node", "bench")

    def backup(self, node, store):
        return [self.program, "backup", str(node), str(store), *self.state]

    def restore(self, node, store, place):
        return [self.program, "restore", str(store), "latest", str(place)]

    def forget(self, node):
        for snapshot in (node.parent / ".nodesnap").glob("*"):
            run("btrfs", "subvolume", "delete", snapshot)


class LostParent(Nodesnap):
    name = "nodesnap, parent lost"
    note = "the snapshot of the first backup was deleted by hand, so that all is read and compared"

    def changed(self, node, store):
        self.forget(node)


class Delta(Nodesnap):
    """Brings the node back to its first backup in place of making a second."""

    name = "nodesnap, delta"
    note = "restore --delta of the backup whose snapshot is still there: its clone is exchanged for the node, no data is fetched"
    options = []
    restores = True

    def again(self, node, store):
        return [self.program, "restore", str(store), "latest", str(node), "--delta", *self.options]


class DeltaOlder(Delta):
    name = "nodesnap, older"
    note = "the same after a second backup, whose snapshot is there instead: what differs between the two is fetched"

    def changed(self, node, store):
        self.first_id = json.loads(run(self.program, "list", store, "--json"))["backups"][0]["id"]
        run(*self.backup(node, store))

    def again(self, node, store):
        return [self.program, "restore", str(store), self.first_id, str(node), "--delta"]


class DeltaInPlace(Delta):
    name = "nodesnap, in place"
    note = "restore --delta --in-place: the whole node is read and compared with the stored checksums, and written to where it differs"
    options = ["--in-place"]


class DeltaCompared(Delta):
    name = "nodesnap, compared"
    note = "restore --delta --no-snapshot: the same in a clone of the node's files, which is exchanged for it"
    options = ["--no-snapshot"]


class RsyncBack(Rsync):
    name = "rsync, back"
    note = "rsync -a --inplace --no-whole-file --delete from a full copy"
    restores = True

    def again(self, node, store):
        return ["rsync", "-a", "--inplace", "--no-whole-file", "--delete", f"{store / 'node'}/", f"{node}/"]


BACKUPS = (Limit, Nodesnap, Copy, Rsync, Send, Restic, Borg)
# Of each case those that are measured in it, in the order of the table. Again: that can tell what has changed, or look for it; the second way of rsync is
# a row of its own. Back: the second backup, what it costs without a parent, and the ways back to the first.
OF_CASE = {
    "full": BACKUPS,
    "small": BACKUPS,
    "incremental": (Nodesnap, RsyncDelta, RsyncWhole, Send, Restic, Borg),
    "delta": (Nodesnap, LostParent, Delta, DeltaOlder, DeltaInPlace, DeltaCompared, RsyncBack),
    "chain": (Nodesnap,),
    "downtime": (Nodesnap,),
}


def _tool(kind):
    return kind.name.split(",")[0]


def tools_of(case):
    """The names of the tools that are measured in a case, each once."""
    return list(dict.fromkeys(_tool(kind) for kind in OF_CASE[case]))


def of(case, only, scratch, program):
    """The contenders of a case, of the tools named in `only` if there are any. `program` is None where nodesnap isn't to be measured."""
    kinds = [kind for kind in OF_CASE[case] if not only or _tool(kind) in only or issubclass(kind, Limit)]
    return [kind(scratch, program) if issubclass(kind, Nodesnap) else kind(scratch) for kind in kinds]


def distinct(several):
    """The first of each name."""
    found = {}
    for contender in several:
        found.setdefault(contender.name, contender)
    return list(found.values())
