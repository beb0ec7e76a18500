"""Many incremental backups in a row, and what comes of the repository: cost, size, restores, prune."""

import os
import random
import statistics
import time

from . import dataset, incremental
from .measure import measure
from .storage import drop_caches, run, sync_file_system

PAGES_PART = 400  # of the large file's pages, one in so many is rewritten before each backup
SMALL_FILES = 8
SMALL_BYTES = 16 << 10
KEEP = 30
RESTORES = 3  # of each state; the one of median time counts
WINDOW = 100  # backups at either end that are looked at


class Chain:
    """A node with a large file that is updated in place and small files; all by nodesnap."""

    def __init__(self, source, target, destination, contender, scratch, check):
        self.source, self.target, self.destination = source, target, destination
        self.contender = contender
        self.scratch = scratch
        self.check = check
        self.node = source.path / "chain"
        self.store = target.path / "store"
        self.random = random.Random(1000)
        self.result = {"steps": [], "sizes": {}, "restores": [], "prunes": []}

    def case(self, backups, deadline):
        """Returns {"steps": [(changed bytes, Cost)], "sizes": {backups in the chain: bytes of the repository}, "node_bytes", "restores": [(label, Cost)],
        "prunes": [(label, Cost, repository bytes before, after)], "large": (changed bytes, Cost, stored bytes), "lost": (changed bytes, Cost), "lost_stored": bytes}. No backup is begun after `deadline` once there are two."""
        try:
            self._begin()
            self._steps(backups, deadline)
            self._large_step()
            self.result["node_bytes"] = dataset.describe(self.node)[1]
            self._restores_and_prunes()
            self._lost_parent()
        finally:
            self._remove()
            self.destination.unmount()
            self.target.unmount()
        return self.result

    def _begin(self):
        self._remove()
        run("btrfs", "subvolume", "create", self.node)
        run("cp", "--reflink=always", self.source.path / "full.ro/pages.db", self.node / "pages.db")
        (self.node / "objects").mkdir()
        sync_file_system(self.node)
        self.target.format()
        self.target.mount()
        self.store.mkdir()
        self.contender.prepare(self.store)
        self._run(self.contender.backup(self.node, self.store), self.source, self.target)

    def _remove(self):
        self.contender.forget(self.node)
        if self.node.exists():
            run("btrfs", "subvolume", "delete", self.node)

    def _run(self, command, read_from, write_to):
        return measure(command, self.contender.environment, read_from, write_to, self.scratch / "chain.log", self.scratch)

    def _size(self):
        return dataset.describe(self.store)[1]

    def _change(self):
        """Rewrites pages at random, and a few small files of a hundred. Returns the bytes that changed."""
        path = self.node / "pages.db"
        changed = dataset.rewrite_pages(path, os.path.getsize(path) // dataset.PAGE // PAGES_PART, self.random)
        for name in self.random.sample(range(100), SMALL_FILES):
            (self.node / "objects" / f"{name:02d}").write_bytes(self.random.randbytes(SMALL_BYTES))
        sync_file_system(self.node)
        return changed + SMALL_FILES * SMALL_BYTES

    def _step(self):
        """One more backup after a change: (changed bytes, Cost)."""
        changed = self._change()
        return changed, self._run(self.contender.again(self.node, self.store), self.source, self.target)

    def _steps(self, backups, deadline):
        print(f"case chain, {backups} backups", flush=True)
        steps, sizes = self.result["steps"], self.result["sizes"]
        window = _window(backups)
        sizes[0] = self._size()
        while len(steps) < backups and (len(steps) < 2 or time.monotonic() < deadline):
            steps.append(self._step())
            if len(steps) in (1, window, backups - window, backups - 1):
                sizes[len(steps)] = self._size()
            if len(steps) % WINDOW == 0:
                print(f"  {len(steps):5} backups, the last {WINDOW} in {sum(cost.seconds for _, cost in steps[-WINDOW:]):.1f} s", flush=True)
        sizes[len(steps)] = self._size()

    def _large_step(self):
        """One more, after the change of the case incremental: of the same share of the node."""
        before = self._size()
        table = incremental.TABLE_BYTES * os.path.getsize(self.node / "pages.db") >> 30
        changed = incremental.change(self.node, table, self.random)
        self._cold(self.source, self.target)
        cost = self._run(self.contender.again(self.node, self.store), self.source, self.target)
        self.result["large"] = (changed, cost, self._size() - before)
        self._say("one more, after a larger change", cost)

    def _restores_and_prunes(self):
        self._restore("newest of all, unmerged", self.store)
        fresh = self.target.path / "fresh"
        state = self.scratch / "fresh-state"
        run(self.contender.program, "init", fresh, "--node", "fresh")
        run(self.contender.program, "backup", self.node, fresh, "--state-dir", state, "--drop-snapshot")
        self._restore("fresh backup of the same state", fresh)
        run("rm", "-rf", fresh)
        run(self.contender.program, "forget", self.store, "--keep-last", KEEP, "--allow-mass-expire")
        self._prune(f"prune --merge=no, {KEEP} backups kept", "--merge=no")
        self._restore("newest, after prune --merge=no", self.store)
        self._prune("prune --merge", "--merge")
        self._restore("newest, after prune --merge", self.store)
        self._prune("prune --merge, again", "--merge")

    def _cold(self, *volumes):
        for volume in volumes:
            volume.remount_cold()
        drop_caches()
        run(*self.contender.warm_up())

    def _restore(self, label, store):
        costs = []
        for _ in range(RESTORES):
            self.destination.format()
            self.destination.mount()
            self._cold(self.target, self.destination)
            place = self.destination.path / "node"
            costs.append(self._run(self.contender.restore(self.node, store, place), self.target, self.destination))
        dataset.compare(label, dataset.describe(self.node), self.node, place, self.check)
        cost = sorted(costs, key=lambda one: one.seconds)[RESTORES // 2]
        self.result["restores"].append((label, cost))
        self._say(label, cost)

    def _prune(self, label, *options):
        self._cold(self.target)
        before = self._size()
        cost = self._run([self.contender.program, "prune", str(self.store), *options], self.target, self.target)
        self.result["prunes"].append((label, cost, before, self._size()))
        self._say(label, cost)

    def _lost_parent(self):
        self.contender.forget(self.node)
        before = self._size()
        self.result["lost"] = self._step()
        self.result["lost_stored"] = self._size() - before
        self._say("backup, parent lost", self.result["lost"][1])

    @staticmethod
    def _say(label, cost):
        print(f"  {label:36} {cost.seconds:7.2f} s wall {cost.cpu_seconds:7.2f} s CPU {cost.peak_bytes >> 20:6} MiB "
              f"read {cost.read_bytes >> 20:6} MiB written {cost.written_bytes >> 20:6} MiB", flush=True)


def _window(backups):
    return max(1, min(WINDOW, backups // 2))


def _ends(count):
    """[(label, begin, end)] of the first backup, the first and last hundred (or halves, if there are fewer), the last."""
    window = _window(count)
    return [("the 1st", 0, 1), (f"the first {window}", 0, window), (f"the last {window}", count - window, count), (f"the last, number {count}", count - 1, count)]


def _stored(sizes, begin, end, unit):
    """By how much the repository grew; not known of all parts of a chain that the time cut off."""
    return f"{(sizes[end] - sizes[begin]) / unit:.2f}" if begin in sizes and end in sizes else "?"


def _steps_table(steps, sizes):
    lines = ["| backups | wall s together | CPU s | peak MiB | changed MiB | read MiB | read / changed | written MiB | written / changed | stored MiB | stored / changed |",
             "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |"]
    for label, begin, end in _ends(len(steps)):
        part = steps[begin:end]
        changed, read, written = (sum(values) for values in zip(*((changed, cost.read_bytes, cost.written_bytes) for changed, cost in part)))
        lines.append(f"| {label} | {sum(cost.seconds for _, cost in part):.2f} | {sum(cost.cpu_seconds for _, cost in part):.2f} | {max(cost.peak_bytes for _, cost in part) / 2**20:.0f} "
                     f"| {changed / 2**20:.1f} | {read / 2**20:.1f} | {read / changed:.2f} | {written / 2**20:.1f} | {written / changed:.2f} "
                     f"| {_stored(sizes, begin, end, 2**20)} | {_stored(sizes, begin, end, changed)} |")
    return lines


def _restores_table(result):
    lines = ["| restore | wall s | MiB/s | CPU s | peak MiB | read MiB | written MiB |", "| --- | --: | --: | --: | --: | --: | --: |"]
    for label, cost in result["restores"]:
        lines.append(f"| {label} | {cost.seconds:.2f} | {result['node_bytes'] / 2**20 / cost.seconds:.0f} | {cost.cpu_seconds:.2f} | {cost.peak_bytes / 2**20:.0f} "
                     f"| {cost.read_bytes / 2**20:.0f} | {cost.written_bytes / 2**20:.0f} |")
    return lines


def _prunes_table(result):
    lines = ["| prune | wall s | CPU s | peak MiB | read MiB | written MiB | repository before MiB | after MiB |", "| --- | --: | --: | --: | --: | --: | --: | --: |"]
    for label, cost, before, after in result["prunes"]:
        lines.append(f"| {label} | {cost.seconds:.2f} | {cost.cpu_seconds:.2f} | {cost.peak_bytes / 2**20:.0f} | {cost.read_bytes / 2**20:.0f} | {cost.written_bytes / 2**20:.0f} "
                     f"| {before / 2**20:.0f} | {after / 2**20:.0f} |")
    return lines


def ratios(result):
    """What matters of a chain, as a list of phrases."""
    steps = result["steps"]
    first, early, late, last = (steps[begin:end] for _, begin, end in _ends(len(steps)))
    grown, changed = result["sizes"][len(steps)] - result["sizes"][0], sum(changed for changed, _ in steps)
    fresh = next(cost for label, cost in result["restores"] if label.startswith("fresh")).seconds
    lost_changed, lost = result["lost"]
    large_changed, large, large_stored = result["large"]
    return [f"the last {len(late)} took {sum(cost.seconds for _, cost in late) / sum(cost.seconds for _, cost in early):.2f} times as long as the first {len(early)}",
            *(f"the {name} read {part[0][1].read_bytes / part[0][0]:.2f} and wrote {part[0][1].written_bytes / part[0][0]:.2f} of the bytes that changed"
              for name, part in (("1st", first), ("last", last))),
            f"one more, after the change of the case incremental, read {large.read_bytes / large_changed:.2f}, wrote {large.written_bytes / large_changed:.2f} "
            f"and stored {large_stored / large_changed:.2f} of it",
            f"the repository grew by {grown / changed:.2f} of them",
            *(f"restored at {fresh / cost.seconds:.2f} of the speed of a fresh backup ({label})" for label, cost in result["restores"] if not label.startswith("fresh")),
            f"without the parent's snapshot {lost.written_bytes / lost_changed:.2f} of the bytes that changed were written, {result['lost_stored'] / lost_changed:.2f} stored",
            f"{statistics.median(cost.peak_bytes for _, cost in late) / 2**20:.0f} MiB of memory"]


def table(result):
    """Lines of Markdown below the title."""
    steps, sizes = result["steps"], result["sizes"]
    before, after = sizes[0], sizes[len(steps)]
    changed = sum(changed for changed, _ in steps)
    lost_changed, lost = result["lost"]
    large_changed, large, large_stored = result["large"]
    return [f"{len(steps)} backups after the first; the repository grew from {before / 2**20:.0f} to {after / 2**20:.0f} MiB, by {(after - before) / 2**20:.0f} MiB "
            f"for {changed / 2**20:.0f} MiB that changed. A last backup, whose parent's snapshot was deleted by hand, took {lost.seconds:.2f} s, read {lost.read_bytes / 2**20:.0f} MiB and wrote "
            f"{lost.written_bytes / 2**20:.1f} MiB for {lost_changed / 2**20:.1f} MiB that changed. One more than these, after the change of the case incremental ({large_changed / 2**20:.1f} MiB), "
            f"took {large.seconds:.2f} s, read {large.read_bytes / 2**20:.1f} MiB ({large.read_bytes / large_changed:.2f} of the change), wrote {large.written_bytes / 2**20:.1f} MiB ({large.written_bytes / large_changed:.2f}) "
            f"and stored {large_stored / 2**20:.1f} MiB ({large_stored / large_changed:.2f}).", "",
            *_steps_table(steps, sizes), "", *_restores_table(result), "", *_prunes_table(result)]
