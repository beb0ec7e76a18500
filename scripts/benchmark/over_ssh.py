"""To another host over ssh, for which a real sshd on the loopback stands in: both ends share the CPUs, and encryption is what bounds all of them.

In the case ssh-far the same goes through a relay that holds everything back for a while (far), or does nothing of the kind (near).
"""

import shlex
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/end_to_end"))
from ssh_host import SshHost  # noqa: E402

from .contenders import OF_CASE, Borg, Limit, Nodesnap, Restic, Rsync, Send
from .relay import Relay
from .storage import run

_ways = {}


class _Way:
    """How contenders reach the host."""

    def __init__(self, host, port):
        self.command = f"{host.command} -p {port}"  # of ssh
        self.login = f"root@{host.address}"
        self.url = f"ssh://{self.login}:{port}"


def start(stack, directory, round_trip_ms):
    """The host, as it is and, if there is a round trip to be added, through relays."""
    host = SshHost(stack, directory)
    _ways["direct"] = _Way(host, host.port)
    for name, delay_ms in (("near", 0), ("far", round_trip_ms / 2)) if round_trip_ms else ():
        relay = Relay(stack, host.port, delay_ms)
        host.trust(relay.port)
        _ways[name] = _Way(host, relay.port)


class _OverSsh:
    way_name = "direct"

    @property
    def way(self):
        return _ways[self.way_name]

    def node(self, source, case):
        return source / "full.ro"

    def _ssh(self, *command):
        return f"{self.way.command} {self.way.login} {' '.join(command)}"


class SshLimit(_OverSsh, Limit):
    note = "cat of all files | ssh 'cat >/dev/null': one connection, and nothing is written"

    def warm_up(self):
        return ["ssh", "-V"]

    def backup(self, node, store):
        return ["bash", "-c", f"set -o pipefail; find {shlex.quote(str(node))} -type f -print0 | xargs -0 cat | {self._ssh(shlex.quote('cat >/dev/null'))}"]

    def seconds(self, log, wall_seconds):
        return wall_seconds


class SshNodesnap(_OverSsh, Nodesnap):
    name = "nodesnap"
    note = "four connections at most"
    connections = 4

    def node(self, source, case):
        return source / "full"

    def _options(self):
        return ["--ssh", self.way.command, "--remote-program", self.program]

    def prepare(self, store):
        run("rm", "-rf", self.scratch / "state")
        run(self.program, "init", f"{self.way.url}{store}/repository", "--node", "bench", *self._options())

    def backup(self, node, store):
        return [self.program, "backup", str(node), f"{self.way.url}{store}/repository", *self.state, *self._options(), "--connections", str(self.connections)]


class SshNodesnapAlone(SshNodesnap):
    name = "nodesnap, one connection"
    note = "--connections 1"
    connections = 1


class SshRsync(_OverSsh, Rsync):
    note = "rsync -aW -e ssh"

    def backup(self, node, store):
        return ["rsync", "-aW", "-e", self.way.command, f"{node}/", f"{self.way.login}:{store / 'node'}/"]


class SshSend(_OverSsh, Send):
    note = "btrfs send | ssh btrfs receive"

    def backup(self, node, store):
        return ["bash", "-c", f"set -o pipefail; btrfs send -q {shlex.quote(str(node))} | {self._ssh('btrfs', 'receive', '-q', shlex.quote(str(store)))}"]


class SshRestic(_OverSsh, Restic):
    note = "over sftp; repository version 2, its default compression, cache on another disk"

    def _command(self, *arguments):
        return ["restic", "-o", f"sftp.command={self._ssh('-s sftp')}", "--quiet", *arguments]

    def prepare(self, store):
        run("rm", "-rf", self.scratch / "cache")
        run("env", *(f"{key}={value}" for key, value in self.environment.items()), *self._command("--repo", f"sftp::{store}/repository", "init"))

    def backup(self, node, store):
        words = " ".join(map(shlex.quote, self._command("--repo", f"sftp::{store}/repository", "backup", ".")))
        return ["bash", "-c", f"cd {shlex.quote(str(node))} && exec {words}"]


class SshBorg(_OverSsh, Borg):
    note = "over ssh; no encryption of its own, its default compression (lz4), cache on another disk"

    def __init__(self, scratch):
        super().__init__(scratch)
        self.environment = {**self.environment, "BORG_RSH": self.way.command if _ways else ""}

    def _repository(self, store):
        return f"{self.way.url}{store}/repository"

    def prepare(self, store):
        run("rm", "-rf", self.scratch / ".cache", self.scratch / ".config")
        run("env", *(f"{key}={value}" for key, value in self.environment.items()), "borg", "init", "--encryption", "none", self._repository(store))

    def backup(self, node, store):
        return ["bash", "-c", f"cd {shlex.quote(str(node))} && exec borg create {self._repository(store)}::node ."]


OF_CASE["ssh"] = (SshLimit, SshNodesnap, SshNodesnapAlone, SshRsync, SshSend, SshRestic, SshBorg)


def _by(way_name, kinds, suffix=""):
    return tuple(type(kind.__name__, (kind,), {"way_name": way_name, "name": kind.name + suffix}) for kind in kinds)


NEAR = ", near"
OF_CASE["ssh-far"] = _by("far", OF_CASE["ssh"]) + _by("near", OF_CASE["ssh"][:3], NEAR)


def ratios(costs):
    """What the marks are about, from {contender: [Cost of each round]}: of the limit for each connection, beside the fastest peer, and of what there is without
    the longer way."""
    seconds = {name: statistics.median(cost.seconds for cost in measured) for name, measured in costs.items()}
    alone = "nodesnap, one connection"
    said = []
    if "limit" in seconds and alone in seconds:
        said.append(f"{seconds['limit'] / seconds[alone]:.2f} of the limit with one connection")
    peers = {name: time for name, time in seconds.items() if not name.startswith(("nodesnap", "limit"))}
    if peers and "nodesnap" in seconds:
        fastest = min(peers, key=peers.get)
        said.append(f"{peers[fastest] / seconds['nodesnap']:.2f} times as fast as {fastest}, the fastest peer, with several")
    said += [f"{seconds[name + NEAR] / seconds[name]:.2f} of what it is near ({name})" for name in ("nodesnap", alone, "limit") if name + NEAR in seconds]
    return said
