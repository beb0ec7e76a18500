"""A real sshd of the test's own, on a loopback address, in the place of another host."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import harness

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def servers_of(repository):
    """Processes that serve it."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if process.name.isdigit() and b"serve" in words[1:2] and os.fsencode(repository) in words:
            found.append(int(process.name))
    return found


class SshHost:
    """`stack` ends it. What `key` may do is for the test to write: see allow()."""

    def __init__(self, stack, directory, address="127.0.0.1", namespace=None, key=None):
        self.directory = Path(directory)
        self.directory.mkdir(mode=0o700)
        self.address = address
        self.key = key or self.directory / "key"
        for path in (self.directory / "host_key", self.key):
            if not path.exists():
                harness.tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)
        self.allow()
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        # Not ip(8): it mounts /sys anew, without the cgroups.
        self.namespace = ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []
        self.port = 22 if namespace else self._free_port()
        (self.directory / "sshd_config").write_text(f"""
ListenAddress {address}:{self.port}
HostKey {self.directory}/host_key
AuthorizedKeysFile {self.directory}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
MaxStartups 100
LogLevel ERROR
""")
        self.trust(self.port)
        self.log = open(self.directory / "log", "wb")
        stack.callback(self.log.close)
        stack.callback(self.stop)
        self.sshd = None
        self.start()

    def trust(self, port):
        """The host is known by this port, too."""
        key = " ".join((self.directory / "host_key.pub").read_text().split()[:2])
        host = self.address if port == 22 else f"[{self.address}]:{port}"
        with open(self.directory / "known_hosts", "a", encoding="ascii") as known:
            known.write(f"{host} {key}\n")

    def _free_port(self):
        with socket.socket() as probe:
            probe.bind((self.address, 0))
            return probe.getsockname()[1]

    def start(self):
        self.sshd = subprocess.Popen([*self.namespace, SSHD, "-D", "-e", "-f", str(self.directory / "sshd_config")], stdin=subprocess.DEVNULL,
                                     stdout=self.log, stderr=self.log, start_new_session=True)
        deadline = time.monotonic() + harness.DEADLINE
        while self.namespace == [] and not self._answers():
            if self.sshd.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"sshd doesn't start: {(self.directory / 'log').read_text()}")

    def _answers(self):
        try:
            with socket.create_connection((self.address, self.port), timeout=5) as connection:
                return connection.recv(3) == b"SSH"
        except OSError:
            time.sleep(0.01)  # polling, bounded by the deadline
            return False

    def stop(self):
        """The listener; sessions go on."""
        if self.sshd:
            self.sshd.kill()
            self.sshd.wait()
            self.sshd = None

    def allow(self, command=None):
        """What the key may do: a command that it is pinned to, or anything."""
        options = f'command="{command}",restrict ' if command else ""
        (self.directory / "authorized_keys").write_text(options + Path(f"{self.key}.pub").read_text())

    @property
    def command(self):
        """For --ssh."""
        return (f"ssh -F none -i {self.key} -oIdentitiesOnly=yes -oUserKnownHostsFile={self.directory}/known_hosts "
                f"-oGlobalKnownHostsFile=none -oLogLevel=ERROR")

    def place(self, path):
        return f"ssh://{getpass.getuser()}@{self.address}:{self.port}{path}"

    @property
    def options(self):
        return ("--ssh", self.command, "--remote-program", harness.PROGRAM)
