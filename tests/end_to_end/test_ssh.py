"""A repository on another host: every command works on it as on a local one, and what is wrong is told with the host's name."""

import os
import shutil

import compare
import harness
from ssh_host import SSHD, SshHost
from torture import fill_with_files


@harness.unittest.skipUnless(SSHD, "there is no sshd")
class Ssh(harness.Case):
    def setUp(self):
        super().setUp()
        self.host = SshHost(self.stack, self.scratch / "sshd")

    def far(self, command, *arguments, **options):
        return self.run_program(command, *arguments, *self.host.options, **options)

    def far_ok(self, command, *arguments, **options):
        return self.far(command, *arguments, expect=harness.DONE, **options)

    def node_of(self, mount, mib=20):
        node = self.subvolume(mount / "node")
        fill_with_files(node / "files", 100, 3000)
        (node / "large").write_bytes(os.urandom(mib << 20))
        return node

    def test_all_commands_work_as_on_a_local_one(self):
        mount = self.file_system("btrfs", 512)
        node = self.node_of(mount)
        local = self.scratch / "repository with 'quotes'"
        place = self.host.place(local)
        self.far_ok("init", place, "--node", "node1")
        first = self.far_ok("backup", node, place, "--json").json
        (node / "large").write_bytes(os.urandom(3 << 20))
        second = self.far_ok("backup", node, place, "--json").json
        self.assertEqual(len(self.far_ok("list", place, "--json").json["backups"]), 2)
        self.far_ok("show", place, "latest")
        self.far_ok("find", place, "large")
        self.far_ok("status", place, "--max-age", "26h")
        self.far_ok("diff", place, first["backup"]["id"], "latest")
        self.assertEqual(self.far_ok("dump", place, "latest", "large", out_bytes=True).out, (node / "large").read_bytes())
        self.far_ok("restore", place, "latest", mount / "restored")
        self.assertEqual(compare.differences(compare.snapshot_of(node), compare.snapshot_of(mount / "restored")), [])
        self.far_ok("verify", place, "--data")
        self.far_ok("pin", place, "latest")
        self.far_ok("unpin", place, "latest")
        self.far_ok("forget", place, "--keep-last", "1", "--prune")
        self.far_ok("prune", place)
        self.far_ok("unlock", place)
        self.far_ok("repair", place)
        # What came there is a repository like any other.
        self.assertEqual([backup["id"] for backup in self.ok("list", local, "--json").json["backups"]], [second["backup"]["id"]])
        self.ok("verify", local, "--data")


if __name__ == "__main__":
    harness.main()
