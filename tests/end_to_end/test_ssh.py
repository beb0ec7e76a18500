"""A repository on another host: every command works on it as on a local one, and what is wrong is told with the host's name."""

import os
import signal
import subprocess

import compare
import harness
from ssh_host import SSHD, SshHost, servers_of
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

    def test_reading_much_is_done_there(self):
        mount = self.file_system("btrfs", 512)
        node = self.node_of(mount, 40)
        local = self.scratch / "repository"
        place = self.host.place(local)
        self.far_ok("init", place, "--node", "node1")
        self.far_ok("backup", node, place)
        # What it prints is what it prints there, as text and as a document.
        self.assertIn("whole", self.far_ok("verify", place, "--data").out)
        self.assertEqual(self.far_ok("verify", place, "--data", "--json").json["warnings"], [])
        pack = max(local.glob("packs/*/*"), key=lambda path: path.stat().st_size)
        with open(pack, "r+b") as file:
            file.seek(pack.stat().st_size // 2)
            file.write(b"damaged!" * 100)
        result = self.far("verify", place, "--data", expect=harness.DAMAGED)
        self.assertIn("damage", result.out + result.err)
        # Options of the other host aren't for this one to say.
        (self.scratch / "elsewhere").mkdir()
        self.far("verify", place, "--no-such-option", expect=harness.USAGE)
        self.far("verify", place, "ffff", expect=harness.REFUSED)

    def test_what_is_done_there_shows_its_progress_here(self):
        mount = self.file_system("btrfs", 512)
        node = self.node_of(mount, 40)
        place = self.host.place(self.scratch / "repository")
        self.far_ok("init", place, "--node", "node1")
        self.far_ok("backup", node, place)
        slowly = ("--data", "--limit", "20M")  # so that there is something to be shown
        self.assertEqual(self.far_ok("verify", place, *slowly).err, "")
        controller, terminal = os.openpty()
        with open(controller, "rb", buffering=0) as screen, open(terminal, "wb", buffering=0) as stream:
            child = subprocess.Popen(self.command("verify", place, *slowly, *self.host.options), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=stream, start_new_session=True)
            self.children.append(child)
            out = child.communicate(timeout=harness.DEADLINE)[0].decode()
            self.assertEqual(child.returncode, harness.DONE)
            shown = os.read(screen.fileno(), 1 << 16).decode()
        self.assertIn("whole", out)
        self.assertRegex(shown, r"\d+ MiB of \d+")
        self.assertTrue(shown.endswith("\r\033[K"), repr(shown))

    def test_a_pinned_key_reaches_nothing_else(self):
        mount = self.file_system("btrfs", 512)
        node = self.node_of(mount)
        root = self.scratch / "backups"
        root.mkdir()
        self.host.allow(f"{harness.PROGRAM} serve --root {root}")
        place = self.host.place(root / "node1")
        self.far_ok("init", place, "--node", "node1")
        self.far_ok("backup", node, place)
        self.far("init", self.host.place(root / "node1" / "inside"), "--node", "node2", expect=harness.REFUSED)
        # Outside, by another name, through a symlink.
        outside = self.scratch / "outside"
        self.ok("init", outside, "--node", "node3")
        (root / "link").symlink_to(outside)
        for path in (outside, root / ".." / "outside", root / "link"):
            result = self.far("list", self.host.place(path), expect=(harness.REFUSED, harness.FAILED))
            self.assertEqual(result.out, "", str(result))
        self.assertEqual(list(outside.glob("backups/*")), [])
        # The root by the name that it is given.
        (self.scratch / "named").symlink_to(root)
        self.host.allow(f"{harness.PROGRAM} serve --root {self.scratch}/named/")
        self.far_ok("list", self.host.place(self.scratch / "named" / "node1"))
        # Not a shell either.
        harness.tool(*self.host.command.split(), "-p", self.host.port, "127.0.0.1", f"touch {self.scratch}/touched", check=False)
        self.assertFalse((self.scratch / "touched").exists())

    def test_a_key_that_may_only_read(self):
        mount = self.file_system("btrfs", 512)
        node = self.node_of(mount)
        local = self.repository()
        self.ok("backup", node, local)
        before = compare.snapshot_of(local)
        self.host.allow(f"{harness.PROGRAM} serve --root {local} --read-only")
        place = self.host.place(local)
        self.far_ok("list", place)
        self.far_ok("verify", place, "--data")
        self.far_ok("restore", place, "latest", mount / "restored")
        self.assertEqual(compare.differences(compare.snapshot_of(node), compare.snapshot_of(mount / "restored")), [])
        self.far("backup", node, place, expect=harness.REFUSED)
        self.far("forget", place, "--keep-last", "1", "--prune", expect=harness.REFUSED)
        self.far("prune", place, expect=harness.REFUSED)
        self.assertEqual(compare.differences(before, compare.snapshot_of(local)), [])

    def test_what_is_wrong_is_told_with_the_host(self):
        node = self.scratch / "node"
        node.mkdir()
        place = self.host.place(self.scratch / "repository")
        result = self.far("list", place, expect=harness.REFUSED)
        self.assertIn("127.0.0.1: cannot open the repository", result.err)
        self.far("init", self.host.place("/no/such/parent"), "--node", "node1", expect=harness.REFUSED)
        self.far("list", "ssh://-oProxyCommand=x/y", expect=harness.USAGE)
        self.far("list", "ftp://host/y", expect=harness.USAGE)
        # No such program there, or another one that answers.
        options = ("--ssh", self.host.command, "--remote-program")
        result = self.run_program("list", place, *options, "/no/such/nodesnap", expect=harness.FAILED)
        self.assertIn("/no/such/nodesnap", result.err)
        result = self.run_program("list", place, *options, "echo hello;true", expect=harness.FAILED)
        self.assertIn("hello", result.err)
        # A key that isn't known, and a host that isn't.
        authorized = self.host.directory / "authorized_keys"
        authorized.write_text("")
        self.assertRegex(self.far("list", place, expect=harness.FAILED).err, "(?i)permission denied")
        self.host.allow()
        (self.host.directory / "known_hosts").write_text("")
        self.assertRegex(self.far("list", place, expect=harness.FAILED).err, "(?i)host key")
        self.host.stop()
        self.assertRegex(self.far("list", place, expect=harness.FAILED).err, "(?i)refused")

    def test_a_full_host(self):
        mount = self.file_system("btrfs", 512)
        node = self.node_of(mount, 150)
        target = self.file_system("ext4", 100)
        place = self.host.place(target / "repository")
        self.far_ok("init", place, "--node", "node1")
        result = self.far("backup", node, place, expect=harness.FAILED)
        self.assertRegex(result.err, "(?i)no space left")
        self.assertIn("127.0.0.1", result.err)
        self.assertEqual(self.far_ok("list", place, "--json").json["backups"], [])
        (node / "large").write_bytes(os.urandom(30 << 20))
        self.far_ok("backup", node, place, "--no-resume")  # the other one would be too large still
        self.far_ok("verify", place, "--data")

    def test_a_repository_inside_the_node_directory_is_told_by_the_way_over_ssh_too(self):
        node = self.scratch / "node"
        node.mkdir()
        place = self.host.place(node / "repository")
        self.far_ok("init", place, "--node", "node1")
        result = self.far("backup", node, place, expect=harness.REFUSED)
        self.assertIn("lies inside the node directory", result.err)

    def test_what_is_cut_off_is_gone_on_with(self):
        mount = self.file_system("btrfs", 2048)
        node = self.node_of(mount, 300)
        for way in ("the client is killed", "the server is killed", "the client is interrupted"):
            with self.subTest(way):
                local = self.scratch / way.replace(" ", "-")
                place = self.host.place(local)
                self.far_ok("init", place, "--node", "node1")
                wanted = compare.snapshot_of(node)
                number = {"the client is killed": signal.SIGKILL, "the server is killed": signal.SIGSTOP, "the client is interrupted": signal.SIGTERM}[way]
                child = self.start_program("backup", node, place, "--workers", "1", "--connections", "2", *self.host.options, program=harness.FAULTS,
                                           environment={"NODESNAP_SIGNAL_AT": "drain.pack-logged:1", "NODESNAP_SIGNAL": str(int(number))})
                if number == signal.SIGSTOP:
                    harness.wait_for(lambda pid=child.pid: harness.is_stopped(pid), "the stop")
                    for server in servers_of(local):
                        os.kill(server, signal.SIGKILL)
                    child.send_signal(signal.SIGCONT)
                result = self.finish(child)
                if number == signal.SIGKILL:
                    self.assertEqual(result.status, -9)
                else:
                    self.assertEqual(result.status, harness.FAILED, str(result))
                if number == signal.SIGSTOP:
                    self.assertIn("the connection to root@127.0.0.1 has ended", result.err)
                self.assertEqual(self.far_ok("list", place, "--json").json["backups"], [])
                (node / "later").write_bytes(os.urandom(1 << 20))  # what is gone on with is of the time of its snapshot
                result = self.far_ok("backup", node, place, "--json").json
                self.assertTrue(result["resumed"])
                self.assertGreater(result["resumed_bytes"], 0)
                harness.wait_for(lambda path=local: servers_of(path) == [], "the servers' end")
                self.assertEqual(list((local / "journal").iterdir()), [])
                self.ok("verify", local, "--data")
                self.far_ok("restore", place, "latest", mount / "restored")
                self.assertEqual(compare.differences(wanted, compare.snapshot_of(mount / "restored")), [])
                harness.tool("btrfs", "subvolume", "delete", mount / "restored")


if __name__ == "__main__":
    harness.main()
