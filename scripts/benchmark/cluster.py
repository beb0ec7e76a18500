"""A cluster in network namespaces, with a real sshd in each: how near to each other the snapshots are, and how long each node is held for them."""

import os
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/end_to_end"))
import cluster_case  # noqa: E402
import harness  # noqa: E402

NODES = 8


def measure(program, rounds, work):
    """A table of `rounds` backups, as text."""
    os.environ.update(TMPDIR=str(work), NODESNAP_TEST_IMAGES=str(work))
    harness.PROGRAM = str(program)

    class Cluster(cluster_case.ClusterCase):
        def runTest(self):
            """Only for its set-up."""

    Cluster.NODES = NODES
    cluster = Cluster()
    skews, beyond, held, rests = [], [], [], []
    try:
        cluster.setUp()
        cluster.start(database=False)
        file = cluster.cluster_file()
        cluster.taken(file)
        for _ in range(rounds):
            cluster.expect_progress()
            document = cluster.taken(file)
            nodes = document["nodes"]
            slowest = max(node["snapshot_ended_ns"] - node["snapshot_begun_ns"] for node in nodes)
            trip = max(node["round_trip_ns"] for node in nodes)
            begun = [node["snapshot_begun_ns"] for node in nodes]
            skews.append(document["skew_ns"] / 1e6)
            rests.append((max(begun) - min(begun)) / 1e6)
            for node in nodes:
                held.append(node["held_ns"] / 1e6)
                beyond.append((node["held_ns"] - slowest - 2 * trip) / 1e6)
    finally:
        cluster.doCleanups()
    lines = [f"{NODES} nodes, {rounds} backups of all of them, on {os.cpu_count()} CPUs; milliseconds", "", "| | median | p95 | most |", "| --- | --: | --: | --: |"]
    for name, values in (("from the first snapshot's beginning to the last one's", rests), ("to the last one's end", skews), ("held, each node", held),
                         ("held beyond the slowest snapshot and two round trips", beyond)):
        values.sort()
        lines.append(f"| {name} | {statistics.median(values):.1f} | {values[int(len(values) * 0.95)]:.1f} | {values[-1]:.1f} |")
    return "\n".join(lines)
