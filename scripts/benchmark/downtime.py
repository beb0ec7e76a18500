"""How long a daemon that writes is held by each way of taking its snapshot, beside stopping it for the copy; and how long a rollback takes."""

import contextlib
import json
import shlex
import signal
import statistics
import subprocess
import time

from . import dataset
from .daemon import Cgroup, Database, Pages, wait_for
from .storage import Volume, run, sync_file_system

COUNT = 20
COPIES = 3  # of stop, copy, start: each takes as long as the store is large
WARM_UP_S = 3
STORES = {
    # name: keys, options of db_bench
    "2 GiB": (2_000_000, ()),
    "500 tables": (2_000_000, (f"--target_file_size_base={4 << 20}",)),
    "20,000 tables": (2_000_000, (f"--target_file_size_base={96 << 10}", f"--write_buffer_size={16 << 20}", f"--max_bytes_for_level_base={64 << 20}")),
}
COMMON = ("--value_size=1000", "--compression_ratio=1.0", "--compression_type=none", "--seed=7")
# way: file system, options of nodesnap, stores
PAGES = "a file of 1 GiB"
WAYS = {
    "btrfs": ("btrfs", ("--snapshot", "btrfs"), ("2 GiB", "20,000 tables", PAGES)),
    "reflink": ("xfs", ("--snapshot", "reflink"), ("2 GiB", "20,000 tables", PAGES)),
    "hardlink": ("ext4", ("--snapshot", "hardlink", "--profile", "rocksdb"), ("500 tables",)),
    "pre-copy": ("ext4", ("--snapshot", "none"), ("2 GiB",)),
}
STOP_COPY_START = "stop, cp -a, start"
ROLLBACK = "rollback on btrfs"
RELEASE = "released after SIGKILL"
KILLED = ("reflink", PAGES)  # where the hold is long enough to be met


def percentile(values, part):
    """The smallest value that at least `part` of them don't exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(part * 100) // 100) - 1)]


def ratios(held):
    """What matters, from {way: {store: [milliseconds]}}."""
    said = [f"{statistics.median(times):.0f} ms ({way}, {store}; p95 {percentile(times, 0.95):.0f})" for way, stores in held.items() for store, times in stores.items()]
    copied, passes = (held.get(way, {}).get("2 GiB") for way in (STOP_COPY_START, "pre-copy"))
    if copied and passes:
        said.append(f"stopping it for a copy takes {statistics.median(copied) / statistics.median(passes):.0f} times as long as pre-copy holds it")
    return said


def table(held):
    lines = ["| way | store | times | median ms | p95 ms | max ms |", "| --- | --- | --: | --: | --: | --: |"]
    for way, stores in held.items():
        for store, times in stores.items():
            lines.append(f"| {way} | {store} | {len(times)} | {statistics.median(times):.1f} | {percentile(times, 0.95):.1f} | {max(times):.1f} |")
    return lines


class Downtime:
    def __init__(self, work, target, program, scratch, size_factor):
        self.work, self.target, self.program, self.scratch = work, target, program, scratch
        self.size_factor = size_factor

    def case(self, deadline):
        """Returns {way: {store: [milliseconds]}}. No way is begun after `deadline`, once there is one."""
        self.held = {}
        with Volume(self.work / "stores.img", 8 << 30, self.work / "stores", "xfs") as stores:
            self._make_stores(stores)
            for way, (kind, options, names) in WAYS.items():
                for name in names:
                    if not self.held or time.monotonic() < deadline:
                        with self._node(kind, stores.path / name) as node:
                            self._held(way, options, name, node)
            with self._node("ext4", stores.path / "2 GiB") as node:
                self._copied(node)
            with self._node("btrfs", stores.path / "2 GiB") as node:
                self._rolled_back(node)
        return self.held

    # --- the stores

    def _make_stores(self, stores):
        mark = stores.path / "recipe.json"
        wanted = json.dumps([STORES, COMMON, self.size_factor])
        if not stores.fresh_image:
            with contextlib.suppress(OSError, RuntimeError):
                stores.mount()
                if mark.read_text() == wanted:
                    return
        print("Making the stores, once (kept in the work directory)", flush=True)
        stores.format()
        stores.mount()
        for name in STORES:
            run("db_bench", "--benchmarks=filluniquerandom", f"--db={stores.path / name}", "--threads=1", "--disable_wal=1", f"--num={self._keys(name)}", *self._options(name))
        (stores.path / PAGES).mkdir()
        dataset.fill_updated_in_place(stores.path / PAGES / "pages.db", int(dataset.PAGES_BYTES * self.size_factor))
        sync_file_system(stores.path)
        mark.write_text(wanted)
        sync_file_system(stores.path)

    def _keys(self, name):
        return int(STORES[name][0] * self.size_factor)

    @staticmethod
    def _options(name):
        return [*COMMON, *STORES[name][1]]

    @contextlib.contextmanager
    def _node(self, kind, store):
        """A node of its own with a copy of the store, and an empty target."""
        with Volume(self.work / "node.img", 8 << 30, self.work / "node", kind) as volume:
            volume.format()
            volume.mount()
            node = volume.path / "db"
            if kind == "btrfs":
                run("btrfs", "subvolume", "create", node)
            else:
                node.mkdir()
            run("cp", "-a", f"{store}/.", node)
            sync_file_system(volume.path)
            self.target.format()
            self.target.mount()
            try:
                yield node
            finally:
                self.target.unmount()

    # --- what is measured

    def _say(self, way, name, milliseconds):
        self.held.setdefault(way, {})[name] = milliseconds
        print(f"  {way:31} {name:15} median {statistics.median(milliseconds):8.1f} ms   p95 {percentile(milliseconds, 0.95):8.1f}   max {max(milliseconds):8.1f}"
              f"   ({len(milliseconds)} times)", flush=True)

    def _writer(self, node, name):
        log = self.scratch / "daemon.log"
        return Pages(node, log) if name == PAGES else Database(node, self._options(name), self._keys(name), log)

    def _held(self, way, options, name, node):
        store = self.target.path / "store"
        run(self.program, "init", store, "--node", "bench")
        writer = self._writer(node, name)
        held, snapshots = [], []
        with Cgroup() as cgroup:
            writer.start(cgroup)
            command = [self.program, "backup", node, store, *options, "--hold", "freeze", "--pid", writer.process.pid, "--max-downtime", "60s",
                       "--state-dir", self.scratch / "state", "--json"]
            try:
                time.sleep(WARM_UP_S)
                self._backup(command)  # the first stores all
                for number in range(COUNT):
                    if number % 4 == 3:  # the target would fill
                        run(self.program, "forget", store, "--keep-last", 1, "--allow-mass-expire")
                        run(self.program, "prune", store, "--merge=no")
                    time.sleep(WARM_UP_S)
                    backup = self._backup(command)
                    held.append(backup["downtime_ms"])
                    snapshots.append(backup["snapshot_ms"])
                released = self._killed(command, cgroup) if (way, name) == KILLED else []
            finally:
                writer.stop()
        self._say(way, name, held)
        self._say(f"{way}, the snapshot itself", name, snapshots)
        if released:
            self._say(RELEASE, name, released)

    def _backup(self, command):
        done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode not in (0, 4):
            raise RuntimeError(f"{shlex.join(map(str, command))}: exit status {done.returncode}\n{done.stderr[-2000:]}")
        document = json.loads(done.stdout)
        if document["backup"]["consistency"] != "point-in-time":
            raise RuntimeError(f"not a point in time: {document['hold_doubt']}")
        return document["backup"]

    def _killed(self, command, cgroup):
        """How long the daemon stays frozen after nodesnap, which had it frozen, was killed."""
        released = []
        for _ in range(COUNT):
            process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_for(lambda process=process: cgroup.frozen() or process.poll() is not None, "the hold", pause_s=0)
            process.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            wait_for(lambda: not cgroup.frozen(), "the release", pause_s=0)
            released.append((time.monotonic() - killed) * 1000)
            process.wait()
        return released

    def _copied(self, node):
        """Stopped, copied with cp -a until that is durable, started: what is done without a snapshot."""
        writer = self._writer(node, "2 GiB")
        held = []
        copy = self.target.path / "copy"
        try:
            for _ in range(COPIES):
                writer.start()
                time.sleep(WARM_UP_S)
                run("rm", "-rf", copy)
                begin = time.monotonic()
                writer.process.terminate()
                writer.process.wait()
                run("cp", "-a", node, copy)
                sync_file_system(self.target.path)
                writer.start()
                held.append((time.monotonic() - begin) * 1000)
                writer.stop()
        finally:
            writer.stop()
        self._say(STOP_COPY_START, "2 GiB", held)

    def _rolled_back(self, node):
        """The wall time of the command, which nobody runs beside."""
        took = []
        for number in range(COUNT):
            writer = self._writer(node, "2 GiB")
            snapshot = json.loads(run(self.program, "snapshot", "create", node, "--json"))["name"]
            writer.start()
            time.sleep(1)
            writer.stop()
            begin = time.monotonic()
            run(self.program, "rollback", node, snapshot)
            took.append((time.monotonic() - begin) * 1000)
            if number % 5 == 4:
                for kept in (node.parent / ".nodesnap").glob("*"):
                    run("btrfs", "subvolume", "delete", kept)
        self._say(ROLLBACK, "2 GiB", took)
