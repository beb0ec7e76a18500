"""Loop devices with a file system on preallocated image files, so that every contender gets the same storage in the same state."""

import ctypes
import os
import subprocess
import time
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)


def run(*command, **options):
    """Runs a tool; what it said is part of the error if it fails."""
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout[-2000:]}")
    return done.stdout


def sync_file_system(path):
    """Everything written to the file system that holds `path` is durable afterwards."""
    fd = os.open(path, os.O_RDONLY)
    try:
        if _libc.syncfs(fd) != 0:
            raise OSError(ctypes.get_errno(), "syncfs", str(path))
    finally:
        os.close(fd)


def drop_caches():
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def detach_stale(image):
    """Undoes what an earlier run that was killed outright left: mounts and loop devices of this image."""
    for line in run("losetup", "--noheadings", "--output", "NAME", "--associated", image).split():
        for mount in Path("/proc/self/mounts").read_text().splitlines():
            device, point = mount.split()[:2]
            if device == line:
                subprocess.run(["umount", point], check=False)
        subprocess.run(["losetup", "--detach", line], check=False)


class Volume:
    """One image file on a loop device with direct I/O, holding a file system, a btrfs where nothing else is said, that is mounted at `path`.

    Discards are off everywhere (mkfs -K, mount nodiscard): they would punch holes into the image, and the allocation that follows would be
    charged to whoever runs next.
    """

    MAKE = {"btrfs": ("mkfs.btrfs", "--quiet", "--force", "--nodiscard"), "xfs": ("mkfs.xfs", "-q", "-f", "-K"), "ext4": ("mkfs.ext4", "-q", "-F", "-E", "nodiscard")}

    def __init__(self, image, size_bytes, path, kind="btrfs"):
        self.kind = kind
        self.image = Path(image)
        self.path = Path(path)
        self.size_bytes = size_bytes
        self.device = None
        self.mounted = False

    def __enter__(self):
        self.path.mkdir(parents=True, exist_ok=True)
        detach_stale(self.image)
        self.fresh_image = not self.image.exists() or self.image.stat().st_size != self.size_bytes
        if self.fresh_image:
            self._preallocate()
        self.device = run("losetup", "--find", "--show", "--direct-io=on", self.image).strip()
        return self

    def __exit__(self, *_):
        self.unmount()
        if self.device:
            run("losetup", "--detach", self.device)
            self.device = None

    def _preallocate(self):
        # Written once in full, not only fallocated: a first write to an unwritten extent of the host's file system is slower than the second.
        partial = self.image.with_suffix(".partial")
        run("fallocate", "--length", self.size_bytes, partial)
        run("dd", "if=/dev/zero", f"of={partial}", "bs=4M", f"count={self.size_bytes >> 22}", "oflag=direct", "conv=notrunc,fsync", "status=none")
        partial.rename(self.image)

    def format(self):
        self.unmount()
        run(*self.MAKE[self.kind], self.device)

    def mount(self):
        run("mount", "-o", "noatime,nodiscard", "-t", self.kind, self.device, self.path)
        self.mounted = True

    def unmount(self):
        if not self.mounted:
            return
        for attempt in range(20):  # a process that was ended a moment ago may still hold a file
            done = subprocess.run(["umount", str(self.path)], stderr=subprocess.PIPE, text=True, check=False)
            if done.returncode == 0:
                self.mounted = False
                return
            time.sleep(0.1 * attempt)
        raise RuntimeError(f"cannot unmount {self.path}: {done.stderr}")

    def remount_cold(self):
        """Nothing of it is cached afterwards. Snapshots that were removed are cleaned up first, so that this isn't charged to the next run."""
        if self.mounted:
            subprocess.run(["btrfs", "subvolume", "sync", str(self.path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            sync_file_system(self.path)
        self.unmount()
        self.mount()

    def transferred(self):
        """Bytes read from and written to the device since it was attached."""
        fields = Path(f"/sys/block/{Path(self.device).name}/stat").read_text().split()
        return int(fields[2]) * 512, int(fields[6]) * 512


class Together:
    """Volumes that are read side by side."""

    def __init__(self, *volumes):
        self.volumes = volumes

    def transferred(self):
        """As a volume's, of all of them."""
        return tuple(sum(part) for part in zip(*(volume.transferred() for volume in self.volumes)))
