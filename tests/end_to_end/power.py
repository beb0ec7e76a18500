"""Cuts the power of a file system on a loop device."""

import subprocess
from pathlib import Path

import harness
from harness import tool


def cut(case, point, *children):
    """What the device of a mounted file system holds at this moment is all that is left: the children, which use it, are killed, and it is mounted
    anew from that.

    So what only the kernel knew is lost: dirty pages, and transactions that were not committed. What the device has been given without being told to
    flush it is not lost, as it may be with a real power cut. Mount with a long `commit=`, or the kernel commits by itself meanwhile."""
    image = case.images[point.name]
    device, options = tool("findmnt", "--noheadings", "--raw", "--output", "SOURCE,OPTIONS", point).split()
    left = image.with_suffix(".left")
    harness.wait_for(lambda: _copied_between_writes(image, left, device), f"a moment without writes to {device}")
    for child in children:
        child.kill()
        child.communicate()
    # What a ring held open is let go only some time after its process has gone.
    harness.wait_for(lambda: subprocess.run(["umount", point], stderr=subprocess.DEVNULL, check=False).returncode == 0, f"{point} to be unused")
    tool("btrfs", "device", "scan", "--forget", device, check=False)  # a kernel that remembers a later generation refuses to mount an earlier one
    tool("blockdev", "--flushbufs", device)
    tool("cp", "--sparse=always", left, image)  # under the loop device, which stays attached
    tool("blockdev", "--flushbufs", device)
    left.unlink()
    tool("mount", "-o", options, device, point)
    tool("fstrim", point)  # or the image would grow from cut to cut


def _copied_between_writes(image, copy, device):
    statistics = Path("/sys/block") / Path(device).name / "stat"
    before = statistics.read_text().split()
    tool("cp", "--sparse=always", image, copy)
    in_flight = 8
    return before[in_flight] == "0" and statistics.read_text().split() == before
