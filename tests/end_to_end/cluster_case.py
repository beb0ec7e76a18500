"""What the tests of clusters share: hosts in network namespaces, each with a real sshd and a node of its own whose daemons write all the time.

The nodes' daemons are told numbers by one client, who tells the next only when the one before has answered: number n goes to the first node, then
to the second, and so on, then n + 1 to the first. So each log holds effects of what the others hold: a set of snapshots is of one moment only if no
log is ahead of what caused it.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import harness
from hold_case import Cgroup, why_no_cgroups
from ssh_host import SSHD, SshHost

WIDTH = 16  # bytes of a number in a log


def why_not():
    if not SSHD:
        return "there is no sshd"
    if not harness.shutil.which("ip"):
        return "there is no ip(8)"
    return why_no_cgroups()


class Network:
    """A hub with a bridge, and a link to each host. The coordinator's commands run in the hub."""

    def __init__(self, stack, name):
        self.stack, self.name, self.hub = stack, name, f"{name}h"
        self.namespaces = []
        self._namespace(self.hub)
        self.ip(self.hub, "link", "add", "bridge", "type", "bridge")
        self.ip(self.hub, "addr", "add", "10.99.0.254/24", "dev", "bridge")
        self.ip(self.hub, "link", "set", "bridge", "up")

    def _namespace(self, name):
        harness.tool("ip", "netns", "add", name)
        self.stack.callback(harness.tool, "ip", "netns", "del", name, check=False)
        self.ip(name, "link", "set", "lo", "up")

    @staticmethod
    def ip(namespace, *arguments):
        harness.tool("ip", "-n", namespace, *arguments)

    def host(self, number):
        """Its namespace and address."""
        namespace, inside = f"{self.name}n{number}", f"to{number}"
        self._namespace(namespace)
        self.ip(self.hub, "link", "add", inside, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        self.ip(self.hub, "link", "set", inside, "master", "bridge", "up")
        self.ip(namespace, "addr", "add", f"10.99.0.{number}/24", "dev", "eth0")
        self.ip(namespace, "link", "set", "eth0", "up")
        return namespace, f"10.99.0.{number}"

    def cut(self, number):
        self.ip(self.hub, "link", "set", f"to{number}", "down")

    def mend(self, number):
        self.ip(self.hub, "link", "set", f"to{number}", "up")


class Node:
    def __init__(self, case, number):
        self.case, self.number, self.name = case, number, f"db{number}"
        self.directory = case.subvolume(case.mount_point / self.name)
        self.repository = case.scratch / f"repository{number}"
        self.state = case.scratch / f"state{number}"
        case.ok("init", self.repository, "--node", self.name)
        namespace, address = case.network.host(number)
        self.host = SshHost(case.stack, case.scratch / f"host{number}", address, namespace, key=case.key)
        self.cgroup = None
        self.daemons = []
        self.socket = case.scratch / f"socket{number}"
        self.acks = case.scratch / f"acks{number}"

    def start(self, database=True):
        self.cgroup = Cgroup()
        self.socket.unlink(missing_ok=True)
        commands = [[sys.executable, str(Path(__file__).with_name("causal_node.py")), str(self.directory), str(self.socket)]]
        if database:
            commands.append([harness.WRITER, "write", str(self.directory / "store"), str(self.acks)])
        for command in commands:
            self.daemons.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=self.cgroup.enter))
        harness.wait_for(self.socket.exists, "a node's daemon")

    def stop(self):
        for daemon in self.daemons:
            daemon.kill()
            daemon.wait()
        self.daemons = []
        if self.cgroup:
            self.cgroup.remove()
            self.cgroup = None

    @property
    def pid(self):
        return self.daemons[0].pid

    def log(self):
        return self.directory / "log"

    def running(self):
        return not self.cgroup.frozen() and not self.cgroup.asked_to_freeze()


class Client(threading.Thread):
    """Tells the nodes numbers, one after the other, until it is told to stop."""

    def __init__(self, nodes):
        super().__init__(daemon=True)
        self.nodes, self.told, self.stopping = nodes, 0, False

    def run(self):
        sockets = []
        for node in self.nodes:
            sockets.append(socket.socket(socket.AF_UNIX))
            sockets[-1].connect(str(node.socket))
        try:
            while not self.stopping:
                for connection in sockets:
                    connection.sendall(f"{self.told:{WIDTH}}".encode())
                    if connection.recv(1) != b".":
                        return
                self.told += 1
        except OSError:
            pass  # a daemon was ended
        finally:
            for connection in sockets:
                connection.close()

    def stop(self):
        self.stopping = True
        self.join(harness.DEADLINE)


def out_of_order(lengths):
    """Of how many numbers each log has, in the order in which they are told: what is wrong, or None."""
    for before, after in zip(lengths, lengths[1:]):
        if after > before:
            return f"an effect without its cause: {lengths}"
    return f"an effect without its cause: {lengths}" if lengths[0] > lengths[-1] + 1 else None


class ClusterCase(harness.Case):
    NODES = 4

    def setUp(self):
        super().setUp()
        self.mount_point = self.file_system("btrfs", 4096)
        self.network = Network(self.stack, f"ns{os.getpid()}")
        self.key = self.scratch / "key"
        harness.tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key)
        # Which program an agent is, and with which faults, is decided on its host.
        self.agent = self.scratch / "agent"
        self.agent.write_text(f"""#!/bin/sh
address=$(echo $SSH_CONNECTION | cut -d' ' -f3)
[ -f "{self.scratch}/faults-$address" ] || exec "{harness.PROGRAM}" "$@"
. "{self.scratch}/faults-$address"
exec "{harness.FAULTS}" "$@"
""")
        self.agent.chmod(0o755)
        self.nodes = [self.node(number) for number in range(1, self.NODES + 1)]
        self.client = None

    def node(self, number):
        node = Node(self, number)
        self.stack.callback(node.stop)
        return node

    def start(self, database=True):
        for node in self.nodes:
            node.start(database)
        self.start_client()

    def start_client(self):
        self.client = Client(self.nodes)
        self.client.start()
        self.stack.callback(self.client.stop)
        self.expect_progress()

    def stop(self):
        if self.client:
            self.client.stop()
        for node in self.nodes:
            node.stop()

    def expect_progress(self):
        before = self.client.told
        harness.wait_for(lambda: self.client.told > before + 3, "all daemons to write")

    def expect_all_free(self):
        """Nothing is held any more, and nobody is going to hold anything."""
        harness.wait_for(lambda: all(node.running() for node in self.nodes), "all daemons to be let go")
        self.expect_progress()
        for node in self.nodes:
            directory = node.state / "hold"
            harness.wait_for(lambda d=directory: not d.exists() or not list(d.iterdir()), "the guards to end")

    def fault(self, node, **settings):
        text = "".join(f"export {name}='{value}'\n" for name, value in settings.items())
        (self.scratch / f"faults-{node.host.address}").write_text(text)

    def no_faults(self):
        for path in self.scratch.glob("faults-*"):
            path.unlink()

    def cluster_file(self, nodes=None, hold=True, name="cluster", extra=""):
        text = "[cluster]\nname = orders\n"
        for node in nodes if nodes is not None else self.nodes:
            text += f"[node {node.name}]\naddress = ssh://root@{node.host.address}\ndirectory = {node.directory}\n"
            text += f"repository = {node.repository}\nstate-dir = {node.state}\n"
            if hold and node.daemons:
                text += f"hold = freeze\npid = {node.pid}\nmax-downtime = 30s\n"
        path = self.scratch / f"{name}.cluster"
        path.write_text(text + extra)
        return path

    @property
    def ssh(self):
        return (f"ssh -F none -i {self.key} -oIdentitiesOnly=yes -oStrictHostKeyChecking=no -oUserKnownHostsFile=/dev/null "
                "-oGlobalKnownHostsFile=none -oLogLevel=ERROR")

    def cluster_command(self, action, *arguments, program=None):
        return ["nsenter", f"--net=/run/netns/{self.network.hub}", str(program or harness.PROGRAM), "cluster", action, *map(str, arguments), "--ssh", self.ssh,
                "--remote-program", str(self.agent)]

    def cluster(self, action, *arguments, expect=None, program=None, environment=None):
        command = self.cluster_command(action, *arguments, program=program)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=harness.DEADLINE,
                              env={**os.environ, **(environment or {})}, check=False)
        result = harness.Result(command, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
        if expect is not None:
            self.assertIn(result.status, expect if isinstance(expect, tuple) else (expect,), str(result))
        return result

    def start_cluster(self, action, *arguments, program=None, environment=None):
        child = subprocess.Popen(self.cluster_command(action, *arguments, program=program), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, env={**os.environ, **(environment or {})})
        self.children.append(child)
        return child

    def taken(self, file, *arguments, **options):
        """A backup that is complete and of one moment; its document."""
        result = self.cluster("backup", file, "--json", *arguments, expect=(harness.DONE, harness.WARNINGS), **options)
        document = result.json
        self.assertTrue(document["complete"], str(result))
        self.assertTrue(document["one_moment"], str(result))
        return document

    def log_lengths(self, document):
        """How many numbers each node's log has in a backup, by its document."""
        backups = {entry["name"]: entry["backup"] for entry in document["nodes"]}
        lengths = []
        for node in self.nodes:
            content = self.run_program("dump", node.repository, backups[node.name], "log", expect=harness.DONE, out_bytes=True).out
            self.assertEqual(len(content) % WIDTH, 0)
            numbers = [int(content[at:at + WIDTH]) for at in range(0, len(content), WIDTH)]
            self.assertEqual(numbers, list(range(len(numbers))))
            lengths.append(len(numbers))
        return lengths

    def killed_coordinator(self, step, file, number=signal.SIGKILL):
        return self.cluster("backup", file, program=harness.FAULTS, environment={"NODESNAP_SIGNAL_AT": step, "NODESNAP_SIGNAL": str(int(number))})
