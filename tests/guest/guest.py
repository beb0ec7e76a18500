"""Runs a command as root in User-Mode Linux, which has what the machine's own kernel may lack: device mapper, with disks of its own.

    guest.py [--disk SIZE]... [--memory SIZE] [--limit SECONDS] COMMAND [ARGUMENT]...

The guest sees the machine's root as it is, read-only below a scratch overlay, so that it needs no image: the programs to test lie where they were
built. /dev/ubda, /dev/ubdb ... are empty disks. What the command prints is relayed, and its exit status is this program's; 77 where the machine
can't boot it, with the reason; 125 where the guest died, with what its kernel said last. Needs root, and no terminal.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
SKIPPED, DIED = 77, 125
PROGRAMS = {"linux.uml": "user-mode-linux", "busybox": "busybox-static", "lvcreate": "lvm2", "dmsetup": "dmsetup", "thin_delta": "thin-provisioning-tools",
            "mkfs.ext4": "e2fsprogs", "mkfs.xfs": "xfsprogs", "unshare": "util-linux", "setpriv": "util-linux"}
SCRATCH = (Path("/tmp"), Path("/var/tmp"))  # others in the guest
PASSED_ON = ("NODESNAP", "NODESNAP_FAULTS", "RECORD_WRITER", "ROCKSDB_WRITER", "SYNTHETIC_MAP")
SETTINGS = ("NODESNAP_SEED", "NODESNAP_MODEL_ROUNDS", "NODESNAP_POWER_CUTS")


def why_not():
    """Why this machine can't run a guest; None if it may."""
    if os.geteuid() != 0:
        return "needs root, for namespaces"
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = sorted({package for program, package in PROGRAMS.items() if not shutil.which(program, path=path)})
    if missing:
        return f"needs the packages {' '.join(missing)} (scripts/setup-packages test)"
    done = subprocess.run(["unshare", "-m", "-p", "-n", "-i", "-f", "true"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    return f"needs namespaces of its own ({done.stderr.strip()})" if done.returncode != 0 else None


def relay(source):
    for line in source:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


class Guest:
    def __init__(self, options):
        self.options = options
        self.process = None
        # Not below /dev, which is another one in the namespace.
        self.run = Path(tempfile.mkdtemp(prefix="nodesnap-guest."))

    def end(self):
        if self.process.poll() is None:
            self.process.kill()  # the namespace ends with it
            self.process.wait()

    def close(self):
        shutil.rmtree(self.run, ignore_errors=True)

    def prepare(self):
        disks = []
        for number, size in enumerate(self.options.disk):
            disks.append(self.run / f"disk{number}")
            subprocess.run(["truncate", "--size", size, disks[-1]], check=True)
        for name, script in (("init", "init.sh"), ("start", "start.sh")):
            shutil.copy(HERE / script, self.run / name)
            (self.run / name).chmod(0o755)
        wanted = {HERE.parent.parent, *(Path(os.path.realpath(os.environ[name])).parent for name in PASSED_ON if name in os.environ)}
        hidden = sorted(str(directory) for directory in wanted if any(directory.is_relative_to(scratch) for scratch in SCRATCH))
        (self.run / "visible").write_text("".join(f"{directory}\n" for directory in hidden))
        lines = [f"export {name}={shlex.quote(os.path.realpath(os.environ[name]))}" for name in PASSED_ON if name in os.environ]
        lines += [f"export {name}={shlex.quote(os.environ[name])}" for name in SETTINGS if name in os.environ]
        lines += [f"cd {shlex.quote(os.getcwd())} || exit 1", f"run() {{ {shlex.join(self.options.command)}; }}"]
        (self.run / "command").write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")
        return disks

    def boot(self):
        """Returns the command's exit status; None where the guest said nothing at all."""
        disks = self.prepare()
        # UML makes the descriptors that it is given non-blocking, so that it gets a pipe of its own. Should this program be killed, everything
        # in the namespace goes with it.
        read, write = os.pipe()
        os.set_inheritable(write, True)
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "-m", "-p", "-n", "-i", "-f", "--kill-child", "--mount-proc", "--",
                   "bash", "-c", 'exec 3>&"$0" && exec "$@"', str(write), "bash", HERE / "namespace.sh", self.run, self.options.memory, *disks]
        with open(self.run / "kernel-log", "wb") as log, os.fdopen(read, "rb") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[write])
            os.close(write)
            relaying = threading.Thread(target=relay, args=[output])
            relaying.start()
            try:
                self.process.wait(timeout=self.options.limit)
            except subprocess.TimeoutExpired:
                print(f"guest: it runs for longer than {self.options.limit} s, and is ended", flush=True)
            finally:
                self.end()
                relaying.join()
        status = self.run / "status"
        if status.exists() and status.read_text().strip():
            return int(status.read_text())
        cannot = self.run / "cannot"
        if cannot.exists():
            print(f"skipped: {cannot.read_text().strip()}")
            return SKIPPED
        if (self.run / "booted").exists():
            self.tell_log("it died")
            return DIED
        return None

    def tell_log(self, what):
        lines = (self.run / "kernel-log").read_text(errors="replace").splitlines()
        print(f"guest: {what}; UML ended with {self.process.returncode}, and its kernel said last:\n" + "\n".join(lines[-40:]), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--disk", action="append", default=[])
    parser.add_argument("--memory", default="1G")
    parser.add_argument("--limit", type=float, default=600)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    reason = why_not()
    if reason:
        print(f"skipped: {reason}")
        return SKIPPED
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for attempt in (1, 2):
        guest = Guest(options)
        try:
            status = guest.boot()
            if status is None:
                guest.tell_log("it didn't boot" + (", and is booted once more" if attempt == 1 else ""))
        finally:
            guest.close()
        if status is not None:
            return status
    return DIED


if __name__ == "__main__":
    sys.exit(main())
