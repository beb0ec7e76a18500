"""What the tests of holding share: a daemon that writes all the time, in a cgroup of its own, and what must be true of it and of its backups."""

import os
import signal
import subprocess
import time
from pathlib import Path

import harness


def cgroup_mount():
    with open("/proc/mounts", encoding="utf-8") as mounts:
        for line in mounts:
            fields = line.split()
            if fields[2] == "cgroup2":
                return Path(fields[1])
    return None


def why_no_cgroups():
    """Why none can be made here; None if they can."""
    mount = cgroup_mount()
    if mount is None:
        return "needs cgroup v2"
    try:
        probe = mount / f"nodesnap-probe.{os.getpid()}"
        probe.mkdir()
        frozen = (probe / "cgroup.freeze").exists()
        probe.rmdir()
        return None if frozen else "needs a kernel with cgroup.freeze"
    except OSError as error:
        return f"cannot make a cgroup: {error}"


def contents(repository):
    """All but the locks, which even who is refused takes, and gives back."""
    return {path.relative_to(repository): path.read_bytes() for path in repository.rglob("*") if path.is_file() and path.parent.name != "locks"}


class Cgroup:
    """One at the top of the tree; removed with all that is in it."""

    count = 0

    def __init__(self):
        Cgroup.count += 1
        self.directory = cgroup_mount() / f"nodesnap-test.{os.getpid()}.{Cgroup.count}"
        self.directory.mkdir()

    def enter(self):
        """For preexec_fn."""
        (self.directory / "cgroup.procs").write_text("0")

    def pids(self):
        return [int(pid) for pid in (self.directory / "cgroup.procs").read_text().split()]

    def frozen(self):
        return "frozen 1" in (self.directory / "cgroup.events").read_text()

    def asked_to_freeze(self):
        return (self.directory / "cgroup.freeze").read_text().strip() == "1"

    def remove(self):
        if not self.directory.exists():
            return
        (self.directory / "cgroup.freeze").write_text("0")
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        for _ in range(1000):
            try:
                self.directory.rmdir()
                return
            except OSError:
                time.sleep(0.01)


class HoldCase(harness.Case):
    def setUp(self):
        super().setUp()
        self.mount_point = self.file_system("btrfs", 1024)
        self.node = self.subvolume(self.mount_point / "node")

    # --- the daemon

    def daemon(self, pause_us=1000):
        """Writes records in a cgroup of its own until the test ends."""
        cgroup = Cgroup()
        self.stack.callback(cgroup.remove)
        child = subprocess.Popen([harness.RECORDS, "write", str(self.node), "", str(pause_us)], stdin=subprocess.DEVNULL, preexec_fn=cgroup.enter)
        self.stack.callback(self.end, child)
        self.expect_running()
        self.assertIsNone(child.poll(), "the daemon ended")
        return cgroup, child

    @staticmethod
    def end(child):
        """Before its files' file system is unmounted."""
        child.kill()
        child.wait()

    def written(self):
        log = self.node / "log3"
        return log.stat().st_size if log.exists() else 0

    def expect_running(self):
        before = self.written()
        harness.wait_for(lambda: self.written() > before, "the daemon to write")

    def expect_standing(self, cgroup):
        self.assertTrue(cgroup.frozen())
        before = self.written()
        for _ in range(1000):
            os.sched_yield()
        self.assertEqual(self.written(), before)

    def outsider(self, name="other"):
        """A process of no cgroup that is held, with a file of the node open for writing."""
        child = subprocess.Popen(["/bin/sh", "-c", "exec sleep 1000 3>>\"$0\"", str(self.node / name)], stdin=subprocess.DEVNULL)
        self.stack.callback(self.end, child)
        harness.wait_for((self.node / name).exists, "the other writer's file")
        return child

    def unit(self, **files):
        """A stand-in for systemctl that knows qdbd.service, which is active; `files`: what is beside it, as "properties". The environment for it."""
        units = self.scratch / "units"
        units.mkdir()
        (units / "systemctl").symlink_to(Path(__file__).resolve().parent.parent / "hold" / "systemctl.sh")
        (units / "qdbd.service").write_text("active\n")
        for name, text in files.items():
            (units / f"qdbd.service.{name}").write_text(text)
        return {"PATH": f"{units}:{os.environ['PATH']}", "STAND_IN_UNITS": str(units)}

    # --- backups

    def freezing(self, child):
        return ("--hold", "freeze", "--pid", child.pid, "--max-downtime", "60s")

    def held(self, repository, *arguments, program=None, environment=None, point_in_time=True):
        """A backup with --hold. Where the guard can't have all that it wants (in a container) there is a warning."""
        result = self.run_program("backup", self.node, repository, *arguments, "--json", program=program, environment=environment,
                                  expect=(harness.DONE, harness.WARNINGS))
        document = result.json
        if point_in_time:
            for warning in document["warnings"]:
                self.assertIn("guard", warning)
            self.assertEqual(document["backup"]["consistency"], "point-in-time", str(result))
            self.assertEqual(document["hold_doubt"], "")
        else:
            self.assertEqual(document["backup"]["consistency"], "crash-consistent", str(result))
        return document

    def killed_at(self, step, *arguments, number=signal.SIGKILL):
        return self.run_program("backup", self.node, *arguments, program=harness.FAULTS,
                                environment={"NODESNAP_SIGNAL_AT": step, "NODESNAP_SIGNAL": str(int(number))})

    def stopped_at_hold(self, repository, *arguments):
        """A backup that has stopped itself when all is held."""
        backup = self.start_program("backup", self.node, repository, *arguments, program=harness.FAULTS,
                                    environment={"NODESNAP_SIGNAL_AT": "hold.held", "NODESNAP_SIGNAL": str(int(signal.SIGSTOP))})
        harness.wait_for(lambda: backup.poll() is not None or harness.is_stopped(backup.pid), "the hold")
        self.assertIsNone(backup.poll(), "the backup ended before it held anything")
        return backup

    def order_of(self, repository, backup):
        """What the checker says of a restored backup: the last number, or how it is out of order."""
        place = self.scratch / f"restored-{backup[:12]}"
        self.ok("restore", repository, backup, place)
        done = subprocess.run([harness.RECORDS, "check", str(place)], stdout=subprocess.PIPE, timeout=harness.DEADLINE, check=False)
        harness.tool("rm", "-rf", place)
        self.assertIn(done.returncode, (0, 1))
        return done.returncode == 0, done.stdout.decode()

    def intents(self):
        directory = self.state / "hold"
        return sorted(path.name for path in directory.iterdir()) if directory.exists() else []

    def nothing_is_left(self):
        """No intent, and no cgroup of a guard of ours: those of other tests don't count, but all of ours are named by intents."""
        self.assertEqual(self.intents(), [])
        self.assertEqual(self.ok("release", "--state-dir", self.state).out, "nothing is held\n")
