"""Tables of medians and ratios, and docs/benchmarks.md."""

import os
import platform
import statistics
from pathlib import Path

from . import chain, dataset, delta_restore, downtime, over_ssh

BEGIN_ANALYSIS = "<!-- analysis: scripts/bench keeps what stands between these two lines -->"
END_ANALYSIS = "<!-- end of analysis -->"
PEERS = ("cp", "rsync", "send", "restic", "borg")
NAMES = {"send": "send, receive", "cp": "cp -a", "rsync": "rsync -aW"}


def _size(size_bytes):
    unit, name = (2**30, "GiB") if size_bytes >= 2**30 else (2**20, "MiB")
    return f"{round(size_bytes / unit, 1):g} {name}"


def _titles(size_factor):
    node = f"The node of {_size(dataset.NODE_BYTES * size_factor)}"
    return {"full": node, "small": f"{int(dataset.SMALL_FILES * size_factor):,} files of 4 KiB", "incremental": f"{node}, backed up again after a small change",
            "delta": f"{node}, brought back after a small change",
            "chain": f"A file of {_size(dataset.PAGES_BYTES * size_factor)}, updated in place and backed up very often",
            "ssh": f"{node}, to another host over ssh",
            "ssh-far": f"{node}, to a host over ssh that is further away",
            "downtime": "A database that is written to at 20 MiB/s, held for its snapshot"}


def _median(costs, field):
    return statistics.median(getattr(cost, field) for cost in costs)


def _collect(case, operation):
    """{contender: [Cost of each round]}; both measurements of the limit count."""
    costs = {}
    for result in case["rounds"]:
        for label, cost in result.get(operation, {}).items():
            costs.setdefault(label.replace(" again", ""), []).append(cost)
    return costs


def _table(costs):
    limit = _median(costs["limit"], "seconds")
    lines = ["| | wall s | spread s | / limit | CPU s | machine busy s | peak MiB | read MiB | written MiB |", "| --- | --: | --: | --: | --: | --: | --: | --: | --: |"]
    for name, measured in costs.items():
        seconds = [cost.seconds for cost in measured]
        lines.append(f"| {NAMES.get(name, name)} | {statistics.median(seconds):.2f} | {min(seconds):.2f} to {max(seconds):.2f} | {statistics.median(seconds) / limit:.2f} "
                     f"| {_median(measured, 'cpu_seconds'):.2f} | {_median(measured, 'busy_seconds'):.2f} | {_median(measured, 'peak_bytes') / 2**20:.0f} "
                     f"| {_median(measured, 'read_bytes') / 2**20:.0f} | {_median(measured, 'written_bytes') / 2**20:.0f} |")
    return lines


def _ratios(costs):
    """What matters, as ratios of medians: "1.08 times the limit; 2.3 times as fast as the fastest peer (rsync)"."""
    if "nodesnap" not in costs:
        return []
    own, limit = _median(costs["nodesnap"], "seconds"), _median(costs["limit"], "seconds")
    said = [f"{own / limit:.2f} times the limit"]
    peers = {name: _median(costs[name], "seconds") for name in PEERS if name in costs}
    if peers:
        fastest = min(peers, key=peers.get)
        said.append(f"{peers[fastest] / own:.2f} times as fast as the fastest peer ({NAMES.get(fastest, fastest)})")
    if "rsync" in costs:
        said.append(f"{peers['rsync'] / own:.2f} times as fast as rsync, with {_median(costs['nodesnap'], 'cpu_seconds') / _median(costs['rsync'], 'cpu_seconds'):.2f} of its CPU time")
    said.append(f"{_median(costs['nodesnap'], 'peak_bytes') / 2**20:.0f} MiB of memory")
    return said


def _incremental_ratios(costs, changed):
    said = []
    if "nodesnap" in costs:
        own = _median(costs["nodesnap"], "seconds")
        if "send" in costs:
            said.append(f"{own / _median(costs['send'], 'seconds'):.2f} times the time of send -p, receive")
        said += [f"{_median(costs[name], 'seconds') / own:.1f} times as fast as {name}" for name in ("rsync, delta", "rsync, whole", "restic", "borg") if name in costs]
        said.append(f"read {_median(costs['nodesnap'], 'read_bytes') / changed:.2f} and wrote {_median(costs['nodesnap'], 'written_bytes') / changed:.2f} of the bytes that changed")
        said.append(f"{_median(costs['nodesnap'], 'peak_bytes') / 2**20:.0f} MiB of memory")
    return said


def _after_change(name, case, title):
    """(ratios, table) of the second backup, or of the way back to the first."""
    costs = {}
    for result in case["rounds"]:
        for contender, cost in result.items():
            costs.setdefault(contender, []).append(cost)
    changed = case["changed_bytes"]
    lines = ["| | wall s | spread s | CPU s | machine busy s | peak MiB | read MiB | read / changed | written MiB | written / changed |",
             "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |"]
    for contender, measured in costs.items():
        seconds = [cost.seconds for cost in measured]
        read, written = _median(measured, "read_bytes"), _median(measured, "written_bytes")
        lines.append(f"| {'send -p, receive' if contender == 'send' else contender} | {statistics.median(seconds):.2f} | {min(seconds):.2f} to {max(seconds):.2f} | {_median(measured, 'cpu_seconds'):.2f} "
                     f"| {_median(measured, 'busy_seconds'):.2f} | {_median(measured, 'peak_bytes') / 2**20:.0f} | {read / 2**20:.0f} | {read / changed:.2f} "
                     f"| {written / 2**20:.0f} | {written / changed:.2f} |")
    said = delta_restore.ratios(costs, changed) if name == "delta" else _incremental_ratios(costs, changed)
    ratios = [f"- {title}: {'; '.join(said)}."] if said else []
    return ratios, [f"### {title}", "", f"{changed / 2**20:.0f} MiB changed; {len(case['rounds'])} rounds.", ""] + lines + [""]


def tables(results, size_factor):
    """All that was measured, ratios first, in Markdown."""
    ratios, parts = [], []
    titles = _titles(size_factor)
    for name, case in results.items():
        title = titles[name]
        if name == "chain":
            ratios.append(f"- {title}: {'; '.join(chain.ratios(case))}.")
            parts += [f"### {title}", ""] + chain.table(case) + [""]
            continue
        if name == "downtime":
            ratios.append(f"- {title}: {'; '.join(downtime.ratios(case))}.")
            parts += [f"### {title}", ""] + downtime.table(case) + [""]
            continue
        if name in ("incremental", "delta"):
            said, table = _after_change(name, case, title)
            ratios += said
            parts += table
            continue
        for operation in ("backup", "restore"):
            costs = _collect(case, operation)
            if not costs:
                continue
            said = over_ssh.ratios(costs) if name.startswith("ssh") else _ratios(costs)
            if said:
                ratios.append(f"- {title}, {operation}: {'; '.join(said)}.")
            void = f", {case['void']} void" if case["void"] else ""
            unsteady = "" if case["steady"] else " The machine was not steady: in most rounds the limit moved by more than is allowed; they are counted all the same."
            parts += [f"### {title}: {operation}", "", f"{case['files']:,} files, {case['bytes'] / 2**30:.2f} GiB; {len(case['rounds'])} rounds{void}.{unsteady}", ""]
            parts += _table(costs) + [""]
    return "\n".join((["## Ratios", ""] + ratios + [""] if ratios else []) + ["## Tables", ""] + parts)


def _machine():
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} CPUs ({model}, virtual), {memory:.0f} GiB of memory, Linux {platform.release().split('-')[0]}, one virtual disk with ext4 under all images"


METHOD = """## Method

- Three image files, allocated and written in full beforehand, each on a loop device with direct I/O (nothing is cached by the host's file system), each with btrfs in its default settings, mounted
  `noatime,nodiscard`: the node's file system, the target with the repository, and the destination of restores. Target and destination are made anew for each measurement.
- Cold: all file systems mounted anew and the caches dropped before each measurement; then the program itself is brought back into memory by asking for its version.
- Durable: the time ends when `syncfs` of the file system that was written to has returned.
- Interleaved: each round runs every contender once, in a rotated order, with the limit before and after all of them. A round in which the two limits differ by more than 10 % is
  void and repeated. Shown are medians over the rounds, and the smallest and largest wall time.
- The other tools read a read-only snapshot that exists already; nodesnap takes and removes its own within its time.
- CPU is the user and system time of the process and its descendants; "machine busy" is that of the whole machine meanwhile, which includes the kernel's own threads (write-back, checksums, the loop
  devices), and whatever else ran. Peak is the resident memory of the largest process. Read and written are the bytes that the devices moved.
- The node: a RocksDB store filled by `db_bench` (values of 1,000 incompressible bytes, no compression), a file of 1 GiB with 65,536 pages rewritten at random in 64 synced waves (about 100,000 extents), and 20,000 files of 200 bytes to
  64 KiB. The other case is 100,000 files of 4 KiB in 100 directories. Files and pages are random bytes; `db_bench` draws its values from one mebibyte, so that restic's compression
  removes half of the store: it writes less than the others.
- Backed up again: a hundredth of the file's pages rewritten at random, and three new tables of 32 MiB. The first backup isn't measured. `send` has its first snapshot, which it needs as `-p`; the second is taken within its time,
  as nodesnap's is.
- Brought back: the same change; then, each from the same state, the second backup, the second backup without the first's snapshot, and the restore of the first backup into the changed node. Read is then
  what source and target moved together; written, what the node's device was given.
- Updated in place and backed up very often: before each backup one in 400 of the pages of the file of 1 GiB is rewritten at random, and 8 of 100 files of 16 KiB. Nothing is remounted between the backups, each of which is
  measured until it is durable; what the devices moved includes the file systems' own metadata, which btrfs writes twice, and the audit's sample. Stored is what the objects of the repository grew by. The restores begin cold; of three the one of median time is shown.
"""


def write(path, text, results, chosen, size_factor):
    analysis = "\n## What bounds each case\n\nNot written yet.\n"
    if path.exists() and BEGIN_ANALYSIS in path.read_text():
        analysis = path.read_text().split(BEGIN_ANALYSIS)[1].split(END_ANALYSIS)[0]
    used = "\n".join(f"- {NAMES.get(contender.name, contender.name)}: {contender.note}" for contender in chosen)
    resized = "" if size_factor == 1 else f" The data set was {size_factor:g} times as large as the method tells."
    ratios, _, detail = text.partition("## Tables")
    path.write_text(f"""# Benchmarks

Made by `scripts/bench`, which measures everything in one run on one machine: {_machine()}. Figures of another machine differ; the ratios carry over better.{resized}

{ratios}{BEGIN_ANALYSIS}{analysis}{END_ANALYSIS}

## Tables{detail}
{METHOD}
The contenders:
{used}
""")
