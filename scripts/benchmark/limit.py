"""The limit of the storage: fio reads exactly the node's files and writes as many bytes at once, both in parallel and with O_DIRECT.

It keeps no names, no attributes and no checksums, and writes a few large files: nothing that makes a backup can be faster. Its reading of a node goes through a replay log,
so that every file is opened, read in blocks of up to 1 MiB and closed; a tail that doesn't fill a page of 4 KiB is left out (O_DIRECT in fio can't
ask for it), which only makes the limit harder to meet. The time is fio's own, from the first request to the last durable byte, without its start-up.
"""

import json
import os
from pathlib import Path

BLOCK = 1 << 20
PAGE = 4096
JOBS = 2  # writers, and readers of a few large files
FILES_PER_READER = 12500  # many small ones want more readers: opening a file waits for the disk
COMMON = ["direct=1", "ioengine=io_uring", "iodepth=16", f"bs={BLOCK}", "thread=1", "group_reporting=0", "randrepeat=1"]


def _files(node):
    found = []
    for folder, folders, names in os.walk(node):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            found.append((path, os.lstat(path).st_size))
    return found


def _write_replay_logs(node, directory):
    """One log for each reader; every reader gets the same share of the files' bytes and of the small files."""
    files = _files(node)
    readers = max(JOBS, len(files) // FILES_PER_READER)
    shares = [[] for _ in range(readers)]
    loads = [0] * readers
    for path, size in files:
        least = loads.index(min(loads))
        loads[least] += size + (64 << 10)  # opening a file costs about as much as reading this
        shares[least].append((path, size // PAGE * PAGE))
    logs = []
    for number, share in enumerate(shares):
        log = Path(directory) / f"replay.{number}"
        with open(log, "w", encoding="utf-8") as out:
            out.write("fio version 2 iolog\n")
            for path, _ in share:
                out.write(f"{path} add\n")
            for path, size in share:
                out.write(f"{path} open\n")
                for offset in range(0, size, BLOCK):
                    out.write(f"{path} read {offset} {min(BLOCK, size - offset)}\n")
                out.write(f"{path} close\n")
        logs.append(log)
    return logs


def prepare(node, store, scratch, total_bytes):
    """Writes fio's job file; `store` is where the bytes go. The caches that fio's start-up filled are dropped before its first request."""
    lines = ["[global]", *COMMON, "exec_prerun=sh -c 'echo 2 > /proc/sys/vm/drop_caches'"]
    for number, log in enumerate(_write_replay_logs(node, scratch)):
        lines += [f"[read{number}]", f"read_iolog={log}", "replay_no_stall=1"]
    job = Path(scratch) / "limit.fio"
    job.write_text("\n".join(lines + _writers(store, total_bytes)) + "\n")
    return job


def prepare_restore(store, destination, scratch, total_bytes):
    """The way back: reads what prepare()'s writers wrote."""
    lines = ["[global]", *COMMON, "exec_prerun=sh -c 'echo 2 > /proc/sys/vm/drop_caches'"]
    for number in range(JOBS):
        lines += [f"[read{number}]", "rw=read", f"filename={store}/limit.{number}"]
    job = Path(scratch) / "limit-restore.fio"
    job.write_text("\n".join(lines + _writers(destination, total_bytes)) + "\n")
    return job


def _writers(store, total_bytes):
    share = -(-total_bytes // JOBS // PAGE) * PAGE
    lines = []
    for number in range(JOBS):
        lines += [f"[write{number}]", "rw=write", f"filename={store}/limit.{number}", f"filesize={share}", "fallocate=none", "end_fsync=1", "refill_buffers=0"]
    return lines


def seconds(output):
    """From fio's JSON: the longest of its jobs."""
    text = Path(output).read_text(encoding="utf-8", errors="replace")
    jobs = json.loads(text[text.index("{\n"):])["jobs"]
    return max(max(job["read"]["runtime"], job["write"]["runtime"]) for job in jobs) / 1000
