"""Daemons that write at random, at a fixed rate, in a cgroup of their own: a RocksDB, and a file that is updated in place."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

BYTES_PER_SECOND = 20 << 20
TIMEOUT_S = 120


def _cgroup_mount():
    for line in Path("/proc/mounts").read_text().splitlines():
        fields = line.split()
        if fields[2] == "cgroup2":
            return Path(fields[1])
    raise RuntimeError("the case downtime freezes a daemon, and needs cgroup v2")


class Cgroup:
    def __enter__(self):
        self.directory = _cgroup_mount() / f"nodesnap-bench.{os.getpid()}"
        self.directory.mkdir()
        return self

    def __exit__(self, *_):
        (self.directory / "cgroup.freeze").write_text("0")
        for pid in (self.directory / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        wait_for(self._removed, "the end of the daemon")

    def _removed(self):
        with contextlib.suppress(OSError):
            self.directory.rmdir()
        return not self.directory.exists()

    def frozen(self):
        return "frozen 1" in (self.directory / "cgroup.events").read_text()


def wait_for(true, what, timeout_s=TIMEOUT_S, pause_s=0.01):
    end = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {timeout_s} s for {what}")
        time.sleep(pause_s)


class Writer:
    """A command that writes below `directory`."""

    def __init__(self, command, directory, log):
        self.command, self.directory, self.log = command, directory, log
        self.process = None

    def start(self, cgroup=None):
        """Returns when it writes."""
        before = self._written()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=None if cgroup is None else lambda: (cgroup.directory / "cgroup.procs").write_text("0"))
        wait_for(lambda: self._written() != before and self._runs(), f"{self.command[0]} to write")

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _runs(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.command[0]} has ended: see {self.log}")
        return True

    def _written(self):
        raise NotImplementedError


class Database(Writer):
    """db_bench that overwrites random keys of a store; `options` are those that the store was made with."""

    def __init__(self, directory, options, keys, log):
        super().__init__(["db_bench", "--benchmarks=overwrite", f"--db={directory}", "--use_existing_db=1", f"--num={keys}", "--duration=1000000", "--threads=1", "--open_files=5000",
                          f"--benchmark_write_rate_limit={BYTES_PER_SECOND}", *options], directory, log)

    def _written(self):
        """The log that is written to, once it has a mebibyte."""
        newest = max(self.directory.glob("*.log"), default=None)
        return newest is not None and newest.stat().st_size > 1 << 20 and newest.name


class Pages(Writer):
    """Pages of a file that are overwritten in place, never synced."""

    def __init__(self, directory, log):
        super().__init__([sys.executable, "-B", __file__, str(directory / "pages.db"), str(BYTES_PER_SECOND)], directory, log)

    def _written(self):
        return (self.directory / "pages.db").stat().st_mtime_ns


def write_pages(path, bytes_per_second):
    page = 4096
    file = os.open(path, os.O_WRONLY)
    pages = os.fstat(file).st_size // page
    source = random.Random(1)
    begin, written = time.monotonic(), 0
    while True:
        os.pwrite(file, source.randbytes(page), source.randrange(pages) * page)
        written += page
        ahead = written / bytes_per_second - (time.monotonic() - begin)
        if ahead > 0.01:
            time.sleep(ahead)
        elif ahead < -0.5:  # it was held: nothing is made up for
            begin -= ahead


if __name__ == "__main__":
    write_pages(sys.argv[1], int(sys.argv[2]))
