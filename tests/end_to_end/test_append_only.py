"""A repository that a key may only append to: a node's backups work as ever, and whoever has its key can neither remove nor alter nor expire them."""

import os
import shutil
import signal

import compare
import harness
from ssh_host import SSHD, SshHost
from torture import fill_with_files


@harness.unittest.skipUnless(SSHD, "there is no sshd")
class AppendOnly(harness.Case):
    def setUp(self):
        super().setUp()
        self.host = SshHost(self.stack, self.scratch / "sshd")
        self.mount = self.file_system("btrfs", 3072)
        self.node = self.subvolume(self.mount / "node")
        fill_with_files(self.node / "files", 100, 3000)
        (self.node / "large").write_bytes(os.urandom(20 << 20))
        self.local = self.scratch / "repository"
        self.ok("init", self.local, "--node", "node1")
        self.host.allow(f"{harness.PROGRAM} serve --root {self.local} --append-only")
        self.place = self.host.place(self.local)

    def far(self, command, *arguments, **options):
        return self.run_program(command, *arguments, *self.host.options, **options)

    def far_ok(self, command, *arguments, **options):
        return self.far(command, *arguments, expect=harness.DONE, **options)

    def restored(self, backup="latest"):
        place = self.mount / "restored"
        self.ok("restore", self.local, backup, place)
        found = compare.snapshot_of(place)
        harness.tool("btrfs", "subvolume", "delete", place)
        return found

    def assert_stays(self, before, what):
        """Nothing that was there is gone or another, but for the lock."""
        after = compare.snapshot_of(self.local)
        for path, entry in before.items():
            name = os.fsdecode(path)
            if name.startswith(("locks", "receipts/lease")):
                continue
            self.assertIn(path, after, f"{name} after {what}")
            for fact in ("content", "size", "mode", "type"):
                self.assertEqual(after[path].get(fact), entry.get(fact), f"{name} after {what}") if "content" in entry else None

    def test_backups_work_as_ever(self):
        result = self.far_ok("backup", self.node, self.place, "--json").json
        self.assertEqual(result["warnings"], [])
        wanted = compare.snapshot_of(self.node)
        self.assertEqual(compare.differences(wanted, self.restored()), [])
        # An incremental one: what hasn't changed isn't read again.
        (self.node / "files" / "new").write_bytes(os.urandom(100_000))
        second = self.far_ok("backup", self.node, self.place, "--json").json
        self.assertEqual(second["warnings"], [])
        self.assertEqual(second["backup"]["parent"], result["backup"]["id"])
        self.assertLess(second["backup"]["read_bytes"], 2 << 20)
        self.assertEqual(compare.differences(compare.snapshot_of(self.node), self.restored()), [])
        self.assertEqual(list((self.local / "journal").iterdir()), [])
        self.assertEqual(len(list((self.local / "receipts").glob("0*"))), 2)
        # What reads works; verify runs there.
        self.far_ok("list", self.place)
        self.far_ok("status", self.place, "--max-age", "26h")
        self.far_ok("verify", self.place, "--data")
        self.ok("verify", self.local, "--data")

    def test_a_cut_off_backup_is_gone_on_with(self):
        (self.node / "huge").write_bytes(os.urandom(300 << 20))
        wanted = compare.snapshot_of(self.node)
        for number in (signal.SIGKILL, signal.SIGTERM):
            with self.subTest(number):
                child = self.start_program("backup", self.node, self.place, "--workers", "1", "--connections", "2", *self.host.options,
                                           program=harness.FAULTS, environment={"NODESNAP_SIGNAL_AT": "drain.pack-logged:1", "NODESNAP_SIGNAL": str(int(number))})
                result = self.finish(child)
                self.assertEqual(result.status, -9 if number == signal.SIGKILL else harness.FAILED, str(result))
                self.assertNotIn("may only append", result.err)
                (self.node / "later").write_bytes(os.urandom(1 << 20))
                result = self.far_ok("backup", self.node, self.place, "--json").json
                self.assertTrue(result["resumed"])
                self.assertGreater(result["resumed_bytes"], 0)
                self.assertEqual(list((self.local / "journal").iterdir()), [])
                self.assertEqual(compare.differences(wanted, self.restored()), [])
                self.ok("verify", self.local, "--data")
                (self.node / "huge").write_bytes(os.urandom(300 << 20))
                wanted = compare.snapshot_of(self.node)

    def test_a_backup_that_failed_is_cleared_up(self):
        self.far_ok("backup", self.node, self.place)
        (self.node / "more").write_bytes(os.urandom(5 << 20))
        for step in ("backup.session-begun", "backup.snapshot-recorded", "backup.before-publish", "backup.published"):
            with self.subTest(step):
                child = self.start_program("backup", self.node, self.place, *self.host.options, program=harness.FAULTS,
                                           environment={"NODESNAP_SIGNAL_AT": f"{step}:1", "NODESNAP_SIGNAL": str(int(signal.SIGKILL))})
                self.assertEqual(self.finish(child).status, -9)
                result = self.far_ok("backup", self.node, self.place, "--json").json
                self.assertEqual(result["warnings"], [])
                self.assertEqual(list((self.local / "journal").iterdir()), [])
                self.assertEqual(compare.differences(compare.snapshot_of(self.node), self.restored()), [])
        # What they have left is for the host to remove.
        self.ok("prune", self.local)
        self.ok("verify", self.local, "--data")

    def test_what_changes_something_is_refused_over_the_wire(self):
        first = self.far_ok("backup", self.node, self.place, "--json").json["backup"]["id"]
        (self.node / "large").write_bytes(os.urandom(3 << 20))
        self.far_ok("backup", self.node, self.place)
        before = compare.snapshot_of(self.local)
        for command in (("forget", "--keep-last", "1"), ("forget", first), ("prune",), ("repair",), ("pin", "latest"), ("unpin", "latest")):
            with self.subTest(command):
                result = self.far(command[0], self.place, *command[1:], expect=harness.REFUSED if command[0] != "unpin" else None)
                if command[0] != "unpin":  # there is no pin to take away
                    self.assertIn("may only append", result.err)
                self.assert_stays(before, command)
        self.far("backup", self.node, self.place, "--lock-lease", "1h", expect=harness.REFUSED)

    def a_thief(self, name="thief"):
        """What whoever has stolen the key backs up, on a host of their own: another state directory, and the node's identity."""
        state = self.state
        self.state = self.scratch / name
        try:
            stolen = self.scratch / f"{name}'s node"
            stolen.mkdir(exist_ok=True)
            (stolen / "lie").write_bytes(os.urandom(2 << 20))
            return self.far("backup", stolen, self.place, "--snapshot", "none", "--adopt-node", "--json")
        finally:
            self.state = state

    def test_the_host_forgets_by_receipts(self):
        made = []
        for _ in range(2):
            (self.node / "large").write_bytes(os.urandom(1 << 20))
            made.append(self.far_ok("backup", self.node, self.place, "--json").json["backup"]["id"])
        listed = self.ok("list", self.local, "--json").json["backups"]
        self.assertTrue(all(backup["received_time"] for backup in listed))
        self.assertIn("RECEIVED", self.ok("list", self.local).out)
        self.assertIn("received", self.ok("status", self.local).out)
        # What came lately stays, whatever the rule.
        result = self.ok("forget", self.local, "--keep-last", "1", "--json").json
        self.assertEqual(result["removed_count"], 0)
        self.assertIn("received", [reason["rule"] for reason in result["backups"][0]["reasons"]])
        result = self.ok("forget", self.local, "--keep-last", "1", "--keep-received", "0", "--prune", "--json").json
        self.assertEqual(result["removed_count"], 1)
        self.assertEqual([backup["id"] for backup in self.backups(self.local)], made[1:])
        self.assertEqual(len(list((self.local / "receipts").glob("0*"))), 1)
        self.ok("verify", self.local, "--data")
        # And the next one goes on as ever.
        self.assertEqual(self.far_ok("backup", self.node, self.place, "--json").json["backup"]["parent"], made[1])

    def test_a_thief_poisons_nothing(self):
        first = self.far_ok("backup", self.node, self.place, "--json").json["backup"]["id"]
        before = compare.snapshot_of(self.local)
        # The node's own identity can't be moved by who may only append.
        self.assertEqual(self.a_thief().status, harness.REFUSED)
        self.assert_stays(before, "the thief")
        # A thief who says to be the node, at its path, on a host of their own.
        shutil.copytree(self.state, self.scratch / "forged")
        shutil.rmtree(self.scratch / "forged" / "made")
        state, self.state = self.state, self.scratch / "forged"
        lie = self.node / "lie"
        lie.write_bytes(os.urandom(1 << 20))
        result = self.far("backup", self.node, self.place, "--drop-snapshot", "--json", expect=harness.WARNINGS)
        self.assertIn("doesn't remember having made", result.err + result.out)
        self.assertIsNone(result.json["backup"]["parent"])
        self.state = state
        self.assert_stays(before, "the forged backup")
        lie.unlink()
        # The node's next one builds on its own, not on the newest.
        result = self.far("backup", self.node, self.place, "--json", expect=harness.WARNINGS).json
        self.assertIn("passed over", result["warnings"][0])
        self.assertEqual(result["backup"]["parent"], first)
        self.assertEqual(compare.differences(compare.snapshot_of(self.node), self.restored()), [])
        self.ok("verify", self.local, "--data")

    def test_a_lost_state_directory_costs_a_whole_backup(self):
        self.far_ok("backup", self.node, self.place)
        shutil.rmtree(self.state)
        result = self.far("backup", self.node, self.place, "--adopt-node", "--json", expect=harness.WARNINGS)
        self.assertIn("doesn't remember having made", result.err + result.out)
        self.assertGreater(result.json["backup"]["stored_bytes"], 20 << 20)
        self.assertEqual(compare.differences(compare.snapshot_of(self.node), self.restored()), [])
        (self.node / "new").write_bytes(b"new")
        self.assertLess(self.far_ok("backup", self.node, self.place, "--json").json["backup"]["read_bytes"], 2 << 20)

    def test_a_receipt_without_its_backup_says_nothing(self):
        """The server is killed between the two."""
        self.far_ok("backup", self.node, self.place)
        serve = f"serve --root {self.local} --append-only"
        self.host.allow(f"env NODESNAP_SIGNAL_AT=receipt.stored:1 NODESNAP_SIGNAL=9 {harness.FAULTS} {serve}")
        (self.node / "new").write_bytes(os.urandom(1 << 20))
        self.far("backup", self.node, self.place, expect=harness.FAILED)
        self.assertEqual(len(list((self.local / "receipts").glob("0*"))), 2)
        self.assertEqual(len(self.backups(self.local)), 1)
        self.host.allow(f"{harness.PROGRAM} {serve}")
        self.far_ok("backup", self.node, self.place)
        self.assertEqual(len(self.backups(self.local)), 2)
        self.assertEqual(compare.differences(compare.snapshot_of(self.node), self.restored()), [])
        self.ok("verify", self.local, "--data")

    def test_the_lock_of_the_host_is_not_broken(self):
        self.far_ok("backup", self.node, self.place)
        child = self.start_program("prune", self.local, program=harness.FAULTS, environment={"NODESNAP_SIGNAL_AT": "prune.marked:1", "NODESNAP_SIGNAL": str(int(signal.SIGSTOP))})
        harness.wait_for(lambda: harness.is_stopped(child.pid) or child.poll() is not None, "the stop")
        self.assertTrue(child.poll() is None, "the prune passes that step")
        self.far("backup", self.node, self.place, expect=harness.LOCKED)
        self.assertIn(self.far("unlock", self.place).status, (harness.REFUSED, harness.LOCKED))
        child.send_signal(signal.SIGCONT)
        self.assertEqual(self.finish(child).status, harness.DONE)
        self.far_ok("backup", self.node, self.place)


if __name__ == "__main__":
    harness.main()
