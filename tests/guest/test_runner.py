"""The guest runner itself: it relays output and exit status, and whatever ends it, nothing of the guest goes on running on this machine."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import guest

DEADLINE = 120


def start(*command, limit=DEADLINE):
    return subprocess.Popen([sys.executable, "-B", Path(__file__).parent / "guest.py", "--disk", "64M", "--limit", str(limit), *command],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=os.environ)


def namespace_of(run_directory):
    """The PID namespace of the guest that has that directory; None if there is none."""
    for entry in list(os.scandir("/proc")):
        try:
            if entry.name.isdigit() and f"uml_dir={run_directory}" in Path(entry.path, "cmdline").read_text(errors="replace"):
                return os.readlink(f"{entry.path}/ns/pid")
        except OSError:
            pass
    return None


def processes_in(namespace):
    found = []
    for entry in os.scandir("/proc"):
        try:
            if entry.name.isdigit() and os.readlink(f"{entry.path}/ns/pid") == namespace:
                found.append(int(entry.name))
        except OSError:
            pass
    return found


class Runner(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.TemporaryDirectory(prefix="nodesnap-runner.")
        self.addCleanup(self.place.cleanup)
        before = tempfile.tempdir, os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = self.place.name
        self.addCleanup(lambda: os.environ.update(TMPDIR=before[1]) if before[1] else os.environ.pop("TMPDIR"))

    def test_output_and_status_are_relayed_and_the_root_is_not_written_to(self):
        mark = Path(self.place.name) / "mark"
        child = start("bash", "-c", f"id -u; echo to stderr >&2; mkdir -p {mark.parent}; touch {mark} && ls {mark}; test -b /dev/ubda && exit 7")
        output = child.communicate(timeout=DEADLINE)[0]
        self.assertEqual(child.returncode, 7, output)
        self.assertEqual(output.split("\n")[:3], ["0", "to stderr", str(mark)], output)
        self.assertFalse(mark.exists())
        self.assertEqual(os.listdir(self.place.name), [])

    def test_whatever_ends_it_the_guest_ends_too(self):
        for number in (signal.SIGKILL, signal.SIGTERM):
            with self.subTest(number):
                child = start("bash", "-c", "echo running; while :; do :; done & sleep 1000")
                self.assertEqual(child.stdout.readline(), "running\n")
                run_directory = next(Path(self.place.name).glob("nodesnap-guest.*"))
                namespace = namespace_of(run_directory)
                self.assertIsNotNone(namespace)
                self.assertGreater(len(processes_in(namespace)), 2)
                child.send_signal(number)
                child.wait(timeout=DEADLINE)
                child.stdout.close()
                deadline = time.monotonic() + DEADLINE
                while processes_in(namespace):
                    self.assertLess(time.monotonic(), deadline, "processes of the guest go on running")
                    time.sleep(0.05)
                if number == signal.SIGTERM:
                    self.assertFalse(run_directory.exists())
                else:
                    guest.shutil.rmtree(run_directory)

    def test_one_that_takes_too_long_is_ended(self):
        child = start("sleep", "1000", limit=20)
        output = child.communicate(timeout=DEADLINE)[0]
        self.assertEqual(child.returncode, guest.DIED, output)
        self.assertIn("longer than", output)


if __name__ == "__main__":
    reason = guest.why_not()
    if reason:
        print(f"skipped: {reason}")
        sys.exit(guest.SKIPPED)
    unittest.main(verbosity=2)
