"""One writer at a time: waiting, refusing, taking over, and a backup that slept through its lease publishes nothing."""

import os
import signal

import harness
from torture import fill_with_files


class Locks(harness.Case):
    def setUp(self):
        super().setUp()
        mount = self.file_system("btrfs", 512)
        self.node = self.subvolume(mount / "node")
        fill_with_files(self.node, 50, 5000)
        self.repo = self.repository()

    def stopped_backup(self, *options, step="backup.before-publish"):
        """A backup that stands still at a step, while it holds the lock."""
        child = self.start_program("backup", self.node, self.repo, *options, program=harness.FAULTS,
                                   environment={"NODESNAP_SIGNAL_AT": step, "NODESNAP_SIGNAL": str(int(signal.SIGSTOP))})
        harness.wait_for(lambda: harness.is_stopped(child.pid), "the backup to stop")
        return child

    def test_a_second_backup_is_turned_away_and_says_by_whom(self):
        child = self.stopped_backup()
        result = self.run_program("backup", self.node, self.repo, expect=harness.LOCKED)
        self.assertIn(str(child.pid), result.err)
        result = self.run_program("backup", self.node, self.repo, "--wait-lock", "1s", expect=harness.LOCKED)
        self.assertRegex(result.err, r"waiting up to 1\.0 s: .* is locked by")
        child.send_signal(signal.SIGCONT)
        self.assertEqual(self.finish(child).status, harness.DONE)

    def test_waiting_for_the_lock(self):
        first = self.stopped_backup()
        second = self.start_program("backup", self.node, self.repo, "--wait-lock", "10m")
        first.send_signal(signal.SIGCONT)
        self.assertEqual(self.finish(first).status, harness.DONE)
        self.assertEqual(self.finish(second).status, harness.DONE)
        self.assertEqual(len(self.backups(self.repo)), 2)

    def test_unlock_refuses_while_the_holder_lives(self):
        child = self.stopped_backup()
        result = self.run_program("unlock", self.repo, expect=harness.REFUSED)
        self.assertIn(str(child.pid), result.err)
        child.kill()
        child.wait()
        self.ok("unlock", self.repo)
        self.ok("unlock", self.repo)
        self.ok("backup", self.node, self.repo)

    def test_a_backup_that_slept_through_its_lease_publishes_nothing(self):
        for step in ("backup.snapshot-recorded", "backup.before-publish"):
            with self.subTest(step=step):
                before = len(self.backups(self.repo))
                child = self.stopped_backup("--lock-lease", "1s", step=step)
                # The other waits until the lease has run out.
                self.ok("backup", self.node, self.repo, "--wait-lock", "2m")
                child.send_signal(signal.SIGCONT)
                result = self.finish(child)
                self.assertEqual(result.status, harness.LOCKED, str(result))
                self.assertEqual(len(self.backups(self.repo)), before + 1)
                self.ok("verify", self.repo, "--data")
                self.ok("backup", self.node, self.repo)
                self.assertEqual(len(self.backups(self.repo)), before + 2)
                self.assertEqual(list((self.repo / "journal").glob("*")), [])

    def test_a_backup_that_slept_while_the_repository_was_repaired_publishes_nothing(self):
        self.ok("backup", self.node, self.repo)
        # The second stands between its last look at the lease and the manifest: only the mark stops it.
        for step in ("backup.before-publish", "publish.checked"):
            with self.subTest(step=step):
                before = len(self.backups(self.repo))
                child = self.stopped_backup("--lock-lease", "1s", step=step)
                self.ok("repair", self.repo, "--wait-lock", "2m")
                child.send_signal(signal.SIGCONT)
                result = self.finish(child)
                self.assertEqual(result.status, harness.LOCKED, str(result))
                self.assertEqual(len(self.backups(self.repo)), before)
                self.ok("verify", self.repo, "--data")
                self.ok("backup", self.node, self.repo)
                self.assertEqual(list((self.repo / "journal").glob("*")), [])
                (snapshot,) = self.ok("snapshot", "list", self.node, "--json").json["snapshots"]
                self.assertTrue(snapshot["name"].startswith(self.backups(self.repo)[-1]["id"]), "not the last backup's")

    def test_a_backup_that_slept_while_what_it_builds_on_was_pruned_publishes_nothing(self):
        for step in ("backup.before-publish", "publish.checked"):
            with self.subTest(step=step):
                self.ok("backup", self.node, self.repo)
                child = self.stopped_backup("--lock-lease", "1s", step=step)
                for backup in self.backups(self.repo):
                    self.ok("forget", self.repo, backup["id"], "--allow-newest", "--allow-mass-expire", "--wait-lock", "2m")
                refused = self.run_program("prune", self.repo, expect=harness.REFUSED)
                self.assertIn("--allow-no-backup", refused.err)
                self.ok("prune", self.repo, "--allow-no-backup")
                child.send_signal(signal.SIGCONT)
                result = self.finish(child)
                self.assertEqual(result.status, harness.LOCKED, str(result))
                self.assertEqual(self.backups(self.repo), [])
                self.assertEqual([path for path in self.repo.rglob("*.pack")], [])
                self.ok("backup", self.node, self.repo)
                self.ok("verify", self.repo, "--data")

    def test_reading_needs_no_lock(self):
        self.ok("backup", self.node, self.repo)
        self.stopped_backup()
        for command in (("list",), ("show", "latest"), ("verify", "--data"), ("status",)):
            self.ok(command[0], self.repo, *command[1:])
        place = self.scratch / "restored"
        self.ok("restore", self.repo, "latest", place, "--numeric-ids")
        self.assertEqual(len(os.listdir(place)), len(os.listdir(self.node)))


if __name__ == "__main__":
    harness.main()
