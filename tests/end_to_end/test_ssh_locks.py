"""The lock of a repository on another host: of clients that were killed, cut off, or whose host is gone."""

import os
import signal
from pathlib import Path

import harness
from ssh_host import SSHD, SshHost, servers_of
from torture import fill_with_files

# As on another host: other name, machine id and boot.
ELSEWHERE = """
mount --bind {0}/boot_id /proc/sys/kernel/random/boot_id
mount --bind {0}/machine_id /etc/machine-id
echo elsewhere > /proc/sys/kernel/hostname
exec "$@"
"""


def children_of(pid):
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and int((process / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(process.name))
        except OSError:  # it has ended
            continue
    return found


@harness.unittest.skipUnless(SSHD, "there is no sshd")
class SshLocks(harness.Case):
    def setUp(self):
        super().setUp()
        self.host = SshHost(self.stack, self.scratch / "sshd")
        mount = self.file_system("btrfs", 512)
        self.node = self.subvolume(mount / "node")
        fill_with_files(self.node, 50, 5000)
        (self.node / "large").write_bytes(os.urandom(20 << 20))
        self.local = self.repository()
        self.place = self.host.place(self.local)
        (self.scratch / "boot_id").write_text("01234567-89ab-cdef-0123-456789abcdef\n")
        (self.scratch / "machine_id").write_text("0123456789abcdef0123456789abcdef\n")

    def elsewhere(self, *options, step, number):
        """A backup from another host, to which a signal comes at a step."""
        program = self.scratch / "elsewhere"
        program.write_text("#!/bin/sh -e\nexec unshare --mount --uts sh -e -c '" + ELSEWHERE.format(self.scratch).replace("'", "'\\''") + f"' sh {harness.FAULTS} \"$@\"\n")
        program.chmod(0o755)
        return self.start_program("backup", self.node, self.place, "--adopt-node", *options, *self.host.options, program=program,
                                  environment={"NODESNAP_SIGNAL_AT": step, "NODESNAP_SIGNAL": str(int(number))})

    def backup(self, *options, expect):
        return self.run_program("backup", self.node, self.place, "--adopt-node", *options, *self.host.options, expect=expect)

    def lock(self):
        return (self.run_program("status", self.local, "--json").json.get("lock") or {}).get("state", "none")

    def test_of_a_killed_client_is_released_there(self):
        child = self.elsewhere(step="backup.before-publish", number=signal.SIGKILL)
        self.assertEqual(self.finish(child).status, -signal.SIGKILL)
        harness.wait_for(lambda: self.lock() == "none", "the lock to be released")
        self.backup(expect=harness.DONE)
        self.ok("verify", self.local, "--data")

    def test_of_a_client_that_is_cut_off_and_lives_is_released_and_it_publishes_nothing(self):
        child = self.elsewhere(step="backup.before-publish", number=signal.SIGSTOP)
        harness.wait_for(lambda: harness.is_stopped(child.pid), "the stop")
        self.assertNotEqual(self.lock(), "none")
        refused = self.backup(expect=harness.LOCKED)
        self.assertIn("on host elsewhere", refused.err)
        self.assertIn("its lock ends 300 s after its last sign of life", refused.err)
        for ssh in children_of(child.pid):
            os.kill(ssh, signal.SIGKILL)
        harness.wait_for(lambda: self.lock() == "none", "the lock to be released")
        self.backup(expect=harness.DONE)
        child.send_signal(signal.SIGCONT)
        result = self.finish(child)
        self.assertEqual(result.status, harness.FAILED, str(result))
        self.assertEqual(len(self.backups(self.local)), 1)
        self.ok("verify", self.local, "--data")

    def test_of_a_dead_host_is_waited_for(self):
        # A host whose power fails leaves the connection as it is.
        child = self.elsewhere("--lock-lease", "4s", step="backup.before-publish", number=signal.SIGSTOP)
        harness.wait_for(lambda: harness.is_stopped(child.pid), "the stop")
        result = self.backup("--wait-lock", "5m", expect=harness.DONE)
        self.assertIn("on host elsewhere", result.err)
        child.kill()
        self.finish(child)
        self.assertEqual(len(self.backups(self.local)), 1)
        self.ok("verify", self.local, "--data")

    def test_an_interrupt_ends_a_backup_whose_host_stands_still(self):
        child = self.start_program("backup", self.node, self.place, *self.host.options, program=harness.FAULTS,
                                   environment={"NODESNAP_SIGNAL_AT": "drain.begun", "NODESNAP_SIGNAL": str(int(signal.SIGSTOP))})
        harness.wait_for(lambda: harness.is_stopped(child.pid), "the stop")
        servers = servers_of(self.local)
        for server in servers:
            os.kill(server, signal.SIGSTOP)
        child.send_signal(signal.SIGCONT)
        child.send_signal(signal.SIGTERM)
        result = self.finish(child)
        self.assertEqual(result.status, harness.FAILED, str(result))
        for server in servers:
            os.kill(server, signal.SIGKILL)


if __name__ == "__main__":
    harness.main()
