"""The second backup of a node of which little has changed: what it costs beside the change."""

import os
import random
import subprocess
import time

from .dataset import PAGE, rewrite_pages
from .measure import measure
from .storage import drop_caches, run, sync_file_system

TABLE_BYTES = 32 << 20
TABLES = 3


class Incremental:
    """Each contender backs a writable snapshot of the node up, which is then changed and backed up again; the second is measured."""

    name = "incremental"

    def __init__(self, source, target, contenders, scratch, size_factor):
        self.source, self.target = source, target
        self.contenders = contenders
        self.scratch = scratch
        self.size_factor = size_factor
        self.changed_bytes = 0

    def case(self, rounds, deadline):
        """Returns {"rounds": [{contender: Cost}], "changed_bytes": number}. No round is begun after `deadline` once there is one."""
        done = []
        while len(done) < rounds and (not done or time.monotonic() < deadline):
            print(f"case {self.name}, round {len(done) + 1}", flush=True)
            order = self.contenders[len(done) % len(self.contenders):] + self.contenders[:len(done) % len(self.contenders)]
            done.append({contender.name: self._one(contender) for contender in order})
        return {"rounds": done, "changed_bytes": self.changed_bytes}

    def _one(self, contender):
        node = self.source.path / "changing"
        self._remove(node)
        run("btrfs", "subvolume", "snapshot", self.source.path / "full.ro", node)
        self.target.format()
        self.target.mount()
        store = self.target.path / "store"
        store.mkdir()
        contender.prepare(store)
        try:
            log = self.scratch / "first.log"
            measure(contender.first(node, store), contender.environment, self.source, self.target, log, self.scratch)
            self._change(node)
            contender.changed(node, store)
            for volume in (self.source, self.target):
                volume.remount_cold()
            drop_caches()
            subprocess.run(contender.warm_up(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
            log = self.scratch / f"{contender.name.replace(' ', '-')}.log"
            cost = self._measured(contender, node, store, log)
        finally:
            contender.forget(node)
            self._remove(node)
            self.target.unmount()
        print(f"  {contender.name:21} {cost.seconds:7.2f} s wall {cost.cpu_seconds:7.2f} s CPU {cost.peak_bytes >> 20:6} MiB "
              f"read {cost.read_bytes >> 20:6} MiB written {cost.written_bytes >> 20:6} MiB", flush=True)
        return cost

    def _measured(self, contender, node, store, log):
        return measure(contender.again(node, store), contender.environment, self.source, self.target, log, self.scratch)

    @staticmethod
    def _remove(node):
        if node.exists():
            run("btrfs", "subvolume", "delete", node)

    def _change(self, node):
        """The same for all."""
        self.changed_bytes = change(node, int(TABLE_BYTES * self.size_factor), random.Random(1))


def change(node, table_bytes, source):
    """A hundredth of the pages of the file that is updated in place, and new tables of the store. Returns the bytes that changed."""
    path = node / "pages.db"
    changed = rewrite_pages(path, os.path.getsize(path) // PAGE // 100, source)
    (node / "store").mkdir(exist_ok=True)
    for number in range(TABLES):
        (node / "store" / f"90000{number}.sst").write_bytes(source.randbytes(table_bytes))
    sync_file_system(node)
    return changed + TABLES * table_bytes
