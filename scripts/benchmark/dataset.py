"""The node directories that are backed up: made once, from fixed seeds, and kept in the source's image between runs."""

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

from .storage import run, sync_file_system

RECIPE = 1  # counted up when the data set changes, so that a cached one is made anew
PAGE = 4096
# At a size factor of 1:
NODE_BYTES = 2.6 * (1 << 30)  # about, of the node "full"
PAGES_BYTES = 1 << 30  # of its file that is updated in place
SMALL_FILES = 100000


def ensure(source, size_factor):
    """Mounts `source` with the subvolumes full/ and small/ and a read-only snapshot of each (NAME.ro), making them if they aren't there."""
    wanted = {"recipe": RECIPE, "size_factor": size_factor}
    if not source.fresh_image:
        try:
            source.mount()
            if json.loads((source.path / "recipe.json").read_text()) == wanted:
                return
        except (OSError, RuntimeError, ValueError):
            pass
    print("Making the data set, once (kept in the work directory)", flush=True)
    source.format()
    source.mount()
    for name, fill in (("full", _fill_full), ("small", _fill_small)):
        run("btrfs", "subvolume", "create", source.path / name)
        fill(source.path / name, size_factor)
        sync_file_system(source.path)
        run("btrfs", "subvolume", "snapshot", "-r", source.path / name, source.path / f"{name}.ro")
    (source.path / "recipe.json").write_text(json.dumps(wanted))
    sync_file_system(source.path)


def describe(node):
    """(files, bytes) of a node directory."""
    files = total = 0
    for folder, _, names in os.walk(node):
        for name in names:
            files += 1
            total += os.lstat(os.path.join(folder, name)).st_size
    return files, total


def compare(name, expected, node, restored, every_byte):
    """Raises RuntimeError where `restored` hasn't got the files and bytes of `expected` (as describe() gives them), or something else than `node`, if asked for."""
    if describe(restored) != expected:
        raise RuntimeError(f"{name} restored {describe(restored)} (files, bytes) of {expected}")
    if not every_byte:
        return
    command = ["rsync", "-aHn", "--checksum", "--delete", "--itemize-changes", f"{node}/", f"{restored}/"]
    differences = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    # The times of the top directory aren't restored by every tool.
    differences = [line for line in differences.splitlines() if not line.startswith(".d..t")]
    if differences:
        raise RuntimeError(f"{name} restored something else: {differences[:5]}")


def rewrite_pages(path, count, source):
    """Rewrites `count` pages of a file, each once, chosen at random by `source`, in ascending order. Returns the bytes that changed."""
    chosen = sorted(source.sample(range(os.path.getsize(path) // PAGE), count))
    with open(path, "r+b") as file:
        for page in chosen:
            file.seek(page * PAGE)
            file.write(source.randbytes(PAGE))
    return count * PAGE


def _fill_full(node, factor):
    _fill_rocksdb(node / "store", factor)
    fill_updated_in_place(node / "pages.db", int(PAGES_BYTES * factor))
    _fill_files(node / "objects", int(20000 * factor), 200, 64 << 10, random.Random(20000))


def _fill_small(node, factor):
    _fill_files(node / "objects", int(SMALL_FILES * factor), PAGE, PAGE, random.Random(100000))


def _fill_rocksdb(store, factor):
    store.mkdir()
    run("db_bench", "--benchmarks=fillrandom", f"--db={store}", f"--num={int(1_200_000 * factor)}", "--value_size=1000", "--compression_ratio=1.0",
        "--compression_type=none", "--seed=7", "--threads=1", "--disable_wal=0")
    for left in store.glob("LOG.old*"):
        left.unlink()


def fill_updated_in_place(path, size):
    """A file as a B-tree engine leaves it: pages rewritten at random, in waves with a sync after each, so that it lies in very many extents."""
    source = random.Random(1 << 30)
    with open(path, "wb") as file:
        for _ in range(size >> 20):
            file.write(source.randbytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())
        pages = size // PAGE
        for _ in range(64):
            for _ in range(pages // 256):
                os.pwrite(file.fileno(), source.randbytes(PAGE), source.randrange(pages) * PAGE)
            os.fsync(file.fileno())


def _fill_files(folder, count, smallest, largest, source):
    shutil.rmtree(folder, ignore_errors=True)
    for number in range(count):
        place = Path(folder) / f"{number % 100:02d}"
        if number < 100:
            place.mkdir(parents=True)
        (place / f"{number:06d}").write_bytes(source.randbytes(source.randint(smallest, largest)))
