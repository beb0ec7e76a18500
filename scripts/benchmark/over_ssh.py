"""To another host over ssh, for which a real sshd on the loopback stands in: both ends share the CPUs, and encryption is what bounds all of them."""

import shlex
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/end_to_end"))
from ssh_host import SshHost  # noqa: E402

from .contenders import OF_CASE, Borg, Limit, Nodesnap, Restic, Rsync, Send
from .storage import run

host = None  # the one that all contenders reach


def start(stack, directory):
    global host
    host = SshHost(stack, directory)


def _ssh(*command):
    return f"{host.command} -p {host.port} root@{host.address} {' '.join(command)}"


class _OfFull:
    def node(self, source, case):
        return source / "full.ro"


class SshLimit(_OfFull, Limit):
    note = "cat of all files | ssh 'cat >/dev/null': one connection, and nothing is written"

    def warm_up(self):
        return ["ssh", "-V"]

    def backup(self, node, store):
        return ["bash", "-c", f"set -o pipefail; find {shlex.quote(str(node))} -type f -print0 | xargs -0 cat | {_ssh(shlex.quote('cat >/dev/null'))}"]

    def seconds(self, log, wall_seconds):
        return wall_seconds


class SshNodesnap(Nodesnap):
    name = "nodesnap"
    note = "four connections at most"
    connections = 4

    def node(self, source, case):
        return source / "full"

    def _options(self):
        return ["--ssh", host.command, "--remote-program", self.program]

    def prepare(self, store):
        run("rm", "-rf", self.scratch / "state")
        run(self.program, "init", host.place(store / "repository"), "--node", "bench", *self._options())

    def backup(self, node, store):
        return [self.program, "backup", str(node), host.place(store / "repository"), *self.state, *self._options(), "--connections", str(self.connections)]


class SshNodesnapAlone(SshNodesnap):
    name = "nodesnap, one connection"
    note = "--connections 1"
    connections = 1


class SshRsync(_OfFull, Rsync):
    note = "rsync -aW -e ssh"

    def backup(self, node, store):
        return ["rsync", "-aW", "-e", f"{host.command} -p {host.port}", f"{node}/", f"root@{host.address}:{store / 'node'}/"]


class SshSend(_OfFull, Send):
    note = "btrfs send | ssh btrfs receive"

    def backup(self, node, store):
        return ["bash", "-c", f"set -o pipefail; btrfs send -q {shlex.quote(str(node))} | {_ssh('btrfs', 'receive', '-q', shlex.quote(str(store)))}"]


class SshRestic(_OfFull, Restic):
    note = "over sftp; repository version 2, its default compression, cache on another disk"

    def _command(self, *arguments):
        return ["restic", "-o", f"sftp.command={host.command} -p {host.port} root@{host.address} -s sftp", "--quiet", *arguments]

    def prepare(self, store):
        run("rm", "-rf", self.scratch / "cache")
        run("env", *(f"{key}={value}" for key, value in self.environment.items()), *self._command("--repo", f"sftp::{store}/repository", "init"))

    def backup(self, node, store):
        words = " ".join(map(shlex.quote, self._command("--repo", f"sftp::{store}/repository", "backup", ".")))
        return ["bash", "-c", f"cd {shlex.quote(str(node))} && exec {words}"]


class SshBorg(_OfFull, Borg):
    note = "over ssh; no encryption of its own, its default compression (lz4), cache on another disk"

    def __init__(self, scratch):
        super().__init__(scratch)
        self.environment = {**self.environment, "BORG_RSH": f"{host.command} -p {host.port}" if host else ""}

    def _repository(self, store):
        return f"ssh://root@{host.address}:{host.port}{store}/repository"

    def prepare(self, store):
        run("rm", "-rf", self.scratch / ".cache", self.scratch / ".config")
        run("env", *(f"{key}={value}" for key, value in self.environment.items()), "borg", "init", "--encryption", "none", self._repository(store))

    def backup(self, node, store):
        return ["bash", "-c", f"cd {shlex.quote(str(node))} && exec borg create {self._repository(store)}::node ."]


OF_CASE["ssh"] = (SshLimit, SshNodesnap, SshNodesnapAlone, SshRsync, SshSend, SshRestic, SshBorg)


def ratios(costs):
    """What the marks are about, from {contender: [Cost of each round]}: of the limit for each connection, and beside the fastest peer."""
    seconds = {name: statistics.median(cost.seconds for cost in measured) for name, measured in costs.items()}
    limit = seconds.get("limit")
    said = []
    if limit and "nodesnap, one connection" in seconds:
        said.append(f"{limit / seconds['nodesnap, one connection']:.2f} of the limit with one connection")
    peers = {name: time for name, time in seconds.items() if not name.startswith(("nodesnap", "limit"))}
    if peers and "nodesnap" in seconds:
        fastest = min(peers, key=peers.get)
        said.append(f"{peers[fastest] / seconds['nodesnap']:.2f} times as fast as {fastest}, the fastest peer, with several")
    return said
