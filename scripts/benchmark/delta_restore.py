"""The way back after a small change: what restore --delta costs beside the backup of the same change, and beside rsync from a full copy."""

import statistics

from . import dataset
from .incremental import Incremental
from .measure import measure
from .storage import Together

WAYS = ("nodesnap, delta", "nodesnap, older", "nodesnap, in place", "nodesnap, compared")


class DeltaRestore(Incremental):
    """As the incremental case; but some of the contenders bring the changed node back to its first backup in place of making a second."""

    name = "delta"

    def __init__(self, source, target, contenders, scratch, size_factor, check):
        super().__init__(source, target, contenders, scratch, size_factor)
        self.check = check

    def _measured(self, contender, node, store, log):
        if not contender.restores:
            return super()._measured(contender, node, store, log)
        # The node lies on the source, which is written to, and is read as the repository is.
        cost = measure(contender.again(node, store), contender.environment, Together(self.source, self.target), self.source, log, self.scratch)
        original = self.source.path / "full.ro"
        dataset.compare(contender.name, dataset.describe(original), original, node, self.check)
        return cost


def ratios(costs, changed_bytes):
    """What matters, from {contender: [Cost of each round]}."""
    seconds = {name: statistics.median(cost.seconds for cost in measured) for name, measured in costs.items()}
    said = []
    if "nodesnap" in seconds:
        times = [f"{seconds[name] / seconds['nodesnap']:.2f} ({name.removeprefix('nodesnap, ')})" for name in WAYS if name in seconds]
        said.append(f"{', '.join(times)} times the time of the backup of the same change")
    if "nodesnap, older" in seconds and "rsync, back" in seconds:
        said.append(f"{seconds['rsync, back'] / seconds['nodesnap, older']:.1f} times as fast as rsync (older)")
    if "nodesnap, parent lost" in costs:
        written = statistics.median(cost.written_bytes for cost in costs["nodesnap, parent lost"])
        said.append(f"a backup whose parent's snapshot was lost wrote {written / changed_bytes:.2f} of the bytes that changed")
    return said
