"""What the end-to-end tests share: file systems on loop devices, running the program, RocksDB stores.

Each test file is a program of its own that ctest runs; the programs to test come in the environment (NODESNAP, NODESNAP_FAULTS, ROCKSDB_WRITER,
SYNTHETIC_MAP, RECORD_WRITER).
"""

import collections
import contextlib
import ctypes
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True

PROGRAM = os.environ.get("NODESNAP", "nodesnap")
FAULTS = os.environ.get("NODESNAP_FAULTS", "nodesnap_faults")
SYNTHETIC_MAP = os.environ.get("SYNTHETIC_MAP", "synthetic_map")
WRITER = os.environ.get("ROCKSDB_WRITER", "rocksdb_writer")
RECORDS = os.environ.get("RECORD_WRITER", "record_writer")
SKIPPED = 77  # ctest's SKIP_RETURN_CODE

DONE, FAILED, USAGE, REFUSED, WARNINGS, DAMAGED, LOCKED = range(7)
DEADLINE = 300  # seconds that any one command of a test may take before it counts as hung


def tool(*command, check=True, **options):
    """Runs a tool that isn't under test and returns its output."""
    done = subprocess.run([os.fspath(part) if not isinstance(part, int) else str(part) for part in command], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=DEADLINE, **options)
    if check and done.returncode != 0:
        raise RuntimeError(f"{command}: exit status {done.returncode}\n{done.stdout.decode(errors='replace')[-3000:]}")
    return done.stdout.decode(errors="surrogateescape")


def is_subvolume(path):
    """Inode 256 may be anything on another file system."""
    return os.stat(path).st_ino == 256 and tool("stat", "--file-system", "--format=%T", path).strip() == "btrfs"


class Result:
    def __init__(self, command, status, out, err):
        self.command, self.status, self.out, self.err = command, status, out, err

    @property
    def json(self):
        return json.loads(self.out)

    def __str__(self):
        return f"{' '.join(map(str, self.command))}\nexit status {self.status}\n--- stdout\n{self.out[-3000:]}\n--- stderr\n{self.err[-3000:]}"


def no_io_uring():
    """For preexec_fn: io_uring_setup(2) fails with EPERM from here on, as under a container's seccomp filter (x86-64 and arm64 share its number)."""
    io_uring_setup, allow, refuse = 425, 0x7FFF0000, 0x00050000 | 1
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in (
        (0x20, 0, 0, 0),  # load the system call's number
        (0x15, 0, 1, io_uring_setup),
        (0x06, 0, 0, refuse),
        (0x06, 0, 0, allow)))
    buffer = ctypes.create_string_buffer(program)
    filter_program = struct.pack("HxxxxxxQ", 4, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, ctypes.create_string_buffer(filter_program)) != 0:
        os._exit(126)


class Case(unittest.TestCase):
    """A test with a scratch directory, and with file systems that are unmounted and loop devices that are detached however it ends."""

    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.scratch = Path(tempfile.mkdtemp(prefix=f"nodesnap-{type(self).__name__}."))
        self.stack.callback(self._remove, self.scratch)
        self.state = self.scratch / "state"
        self.children = []
        self.file_systems = 0
        self.images = {}  # by the name of the mount
        self.stack.callback(self._end_children)

    def _end_children(self):
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGCONT)
                child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe:
                    pipe.close()

    @staticmethod
    def _remove(path):
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            tool("chattr", "-R", "-f", "-i", "-a", path, check=False)
            tool("rm", "-rf", path, check=False)

    # --- file systems

    def image_directory(self, size_bytes):
        """In memory where there is ample room: freeing a fragmented image on a disk that is mounted with `discard` takes half a minute."""
        memory = Path(os.environ.get("NODESNAP_TEST_IMAGES", "/dev/shm"))
        if not memory.is_dir() or shutil.disk_usage(memory).free < 4 * size_bytes:
            return self.scratch
        place = Path(tempfile.mkdtemp(prefix="nodesnap-tests.", dir=memory))
        self.stack.callback(self._remove, place)
        return place

    def file_system(self, kind="btrfs", mib=512, name=None, options="noatime", make_options=()):
        """Makes and mounts one on a sparse image; returns the mount point."""
        self.file_systems += 1
        name = name or f"{kind}{self.file_systems}"
        image = self.image_directory(mib << 20) / f"{name}.img"
        self.images[name] = image
        with open(image, "wb") as file:
            file.truncate(mib << 20)
        quiet = {"btrfs": ["-q"], "ext4": ["-q", "-F"], "xfs": ["-q"]}[kind]
        tool(f"mkfs.{kind}", *quiet, *make_options, image)
        return self.mount(image, name, options)

    def mount(self, image, name, options="noatime"):
        device = tool("losetup", "--find", "--show", "--direct-io=on", image).strip()
        self.stack.callback(tool, "losetup", "--detach", device, check=False)
        point = self.scratch / name
        point.mkdir(exist_ok=True)
        tool("mount", "-o", options, device, point)
        self.stack.callback(self._unmount, point)
        return point

    def mount_anew(self, point, options="noatime"):
        """What a killed process has written without a name, its rings may hold for a while, and the journal until its next commit: now it is free."""
        device = tool("findmnt", "--noheadings", "--output", "SOURCE", point).strip()
        self._unmount(point)
        tool("mount", "-o", options, device, point)

    @staticmethod
    def _unmount(point):
        for _ in range(50):
            if subprocess.run(["umount", str(point)], stderr=subprocess.DEVNULL, check=False).returncode == 0 or not os.path.ismount(point):
                return
            time.sleep(0.1)
        tool("umount", "--lazy", point, check=False)

    def subvolume(self, path):
        tool("btrfs", "subvolume", "create", path)
        return Path(path)

    # --- the program

    def command(self, name, *arguments, program=None):
        extra = []
        if name == "backup":
            extra = ["--state-dir", self.state]
        return [os.fspath(program or PROGRAM), name, *(part if isinstance(part, bytes) else str(part) for part in [*arguments, *extra])]

    def run_program(self, name, *arguments, expect=None, program=None, environment=None, preexec_fn=None, out_bytes=False, cwd=None):
        command = self.command(name, *arguments, program=program)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=DEADLINE, cwd=cwd,
                              env={**os.environ, **(environment or {})}, preexec_fn=preexec_fn, check=False)
        out = done.stdout if out_bytes else done.stdout.decode(errors="surrogateescape")
        result = Result(command, done.returncode, out, done.stderr.decode(errors="surrogateescape"))
        if expect is not None:
            self.assertIn(result.status, expect if isinstance(expect, tuple) else (expect,), str(result))
        return result

    def ok(self, name, *arguments, **options):
        return self.run_program(name, *arguments, expect=DONE, **options)

    def start_program(self, name, *arguments, program=None, environment=None):
        child = subprocess.Popen(self.command(name, *arguments, program=program), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env={**os.environ, **(environment or {})})
        self.children.append(child)
        return child

    def finish(self, child):
        out, err = child.communicate(timeout=DEADLINE)
        return Result(child.args, child.returncode, out.decode(errors="surrogateescape"), err.decode(errors="surrogateescape"))

    def steps_of(self, name, *arguments):
        """The steps that a run passes, in order, with the number of times each."""
        listing = self.scratch / "steps"
        listing.unlink(missing_ok=True)
        self.ok(name, *arguments, program=FAULTS, environment={"NODESNAP_LIST_STEPS": str(listing)})
        return collections.Counter(listing.read_text().split())

    @staticmethod
    def kills(steps):
        """Each step at its first, a middle and its last time."""
        for step, times in steps.items():
            for nth in sorted({1, (times + 1) // 2, times}):
                yield step, nth

    def repository(self, name="repository", node="node1"):
        path = self.scratch / name
        self.ok("init", path, "--node", node)
        return path

    def backups(self, repository):
        return self.ok("list", repository, "--json").json["backups"]


def main():
    """Runs the tests of the calling file; where the machine can't run them, says why and ends with the status that means skipped."""
    reason = None
    if os.geteuid() != 0:
        reason = "needs root, for loop devices and mounts"
    elif not os.path.exists("/dev/loop-control"):
        reason = "needs loop devices"
    elif subprocess.run(["grep", "-qw", "btrfs", "/proc/filesystems"], check=False).returncode != 0 and \
            subprocess.run(["modprobe", "btrfs"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        reason = "needs a kernel with btrfs"
    if reason:
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)
    # A test that is ended cleans up too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    unittest.main(module="__main__", verbosity=2, failfast=False)


def is_stopped(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rsplit(")", 1)[1].split()[0] in ("T", "t")


def wait_for(condition, what):
    """Polls until the condition holds; the deadline only keeps a broken program from hanging the tests."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.01)
