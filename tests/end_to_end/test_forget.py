"""Removing backups: what is kept restores, a kill at any step leaves whole backups, and the next run goes on."""

import os
import signal

import harness
from torture import fill_with_files


class Forget(harness.Case):
    def setUp(self):
        super().setUp()
        mount = self.file_system("btrfs", 512)
        self.node = self.subvolume(mount / "node")
        fill_with_files(self.node, 50, 5000)
        self.repo = self.repository()

    def backups_made(self, count):
        for number in range(count):
            (self.node / "changing").write_bytes(os.urandom(10000 + number))
            self.ok("backup", self.node, self.repo)
        return [backup["id"] for backup in self.backups(self.repo)]

    def ids(self):
        return [backup["id"] for backup in self.backups(self.repo)]

    def test_what_is_kept_is_whole(self):
        made = self.backups_made(4)
        self.ok("pin", self.repo, made[0], "--reason", "the first one")
        self.ok("forget", self.repo, "--keep-last", "2")
        self.assertEqual(self.ids(), [made[0], made[2], made[3]])
        self.ok("verify", self.repo, "--data")
        for number, backup in enumerate(self.ids()):
            place = self.scratch / f"restored{number}"
            self.ok("restore", self.repo, backup, place, "--numeric-ids")
            self.assertEqual(sorted(os.listdir(place)), sorted(os.listdir(self.node)))
        self.assertEqual((self.scratch / "restored2" / "changing").read_bytes(), (self.node / "changing").read_bytes())
        # And backups go on.
        self.ok("backup", self.node, self.repo)
        self.assertEqual(len(self.ids()), 4)

    def test_killed_at_every_step(self):
        for step in ("forget.removed:1", "forget.removed:2", "forget.removed:3", "revision.removed:1", "revision.removed:3"):
            with self.subTest(step=step):
                made = self.backups_made(4)[-4:]
                result = self.run_program("forget", self.repo, "--keep-last", "1", "--allow-mass-expire", program=harness.FAULTS,
                                          environment={"NODESNAP_SIGNAL_AT": step})
                self.assertEqual(result.status, -9, str(result))
                self.assertEqual(self.ids()[-1], made[-1])
                self.ok("verify", self.repo, "--data")
                self.ok("forget", self.repo, "--keep-last", "1", "--allow-mass-expire")
                self.assertEqual(self.ids(), [made[-1]])

    def test_a_prune_that_is_killed_goes_on(self):
        for step in ("prune.marked:1", "prune.removed:1", "prune.removed:2"):
            with self.subTest(step=step):
                self.backups_made(3)
                self.ok("forget", self.repo, "--keep-last", "1", "--allow-mass-expire")
                result = self.run_program("prune", self.repo, program=harness.FAULTS, environment={"NODESNAP_SIGNAL_AT": step})
                self.assertEqual(result.status, -9, str(result))
                self.ok("verify", self.repo, "--data")
                self.ok("prune", self.repo)
                self.assertEqual(self.ok("prune", self.repo, "--json").json["removed_packs"], 0)
                self.ok("verify", self.repo, "--data")

    def test_a_pin_that_is_killed_leaves_the_backup(self):
        made = self.backups_made(1)
        for step in ("revision.written", "revision.removed"):
            with self.subTest(step=step):
                result = self.run_program("pin", self.repo, "latest", program=harness.FAULTS, environment={"NODESNAP_SIGNAL_AT": step})
                self.assertEqual(result.status, -9, str(result))
                self.assertEqual(self.ids(), made)
                self.assertTrue(self.backups(self.repo)[0]["pinned"])
                self.ok("verify", self.repo)
                self.ok("unpin", self.repo, "latest")
                self.assertFalse(self.backups(self.repo)[0]["pinned"])
                self.assertEqual(len(list((self.repo / "backups").iterdir())), 1)

    # A backup whose session is left, because it was killed after it had published, keeps its manifest: without it, who clears up next would
    # take it for one that died, and remove its packs.
    def test_a_backup_killed_after_it_published_is_kept(self):
        result = self.run_program("backup", self.node, self.repo, "--drop-snapshot", program=harness.FAULTS,
                                  environment={"NODESNAP_SIGNAL_AT": "backup.published"})
        self.assertEqual(result.status, -9, str(result))
        first = self.ids()[0]
        result = self.run_program("forget", self.repo, first, "--allow-newest", "--allow-mass-expire", expect=harness.WARNINGS)
        self.assertEqual(self.ids(), [first])
        self.ok("backup", self.node, self.repo)
        self.ok("forget", self.repo, first)
        self.assertEqual(len(self.ids()), 1)
        self.assertNotIn(first, self.ids())

    def test_forget_waits_for_a_backup_and_one_that_slept_publishes_nothing(self):
        made = self.backups_made(2)
        child = self.start_program("backup", self.node, self.repo, "--lock-lease", "1s", program=harness.FAULTS,
                                   environment={"NODESNAP_SIGNAL_AT": "backup.before-publish", "NODESNAP_SIGNAL": str(int(signal.SIGSTOP))})
        harness.wait_for(lambda: harness.is_stopped(child.pid), "the backup to stop")
        self.ok("forget", self.repo, "--keep-last", "1", "--wait-lock", "2m")
        child.send_signal(signal.SIGCONT)
        self.assertEqual(self.finish(child).status, harness.LOCKED)
        self.assertEqual(self.ids(), made[1:])
        self.ok("verify", self.repo, "--data")
        self.ok("backup", self.node, self.repo)

    def test_a_dry_run_tells_what_a_prune_would_give_back_then(self):
        for number in range(4):
            (self.node / "file").write_bytes(os.urandom((number + 1) << 20))
            (self.node / f"kept {number}").write_bytes(os.urandom(100_000 << number))
            self.ok("backup", self.node, self.repo)
        command = ("forget", self.repo, "--keep-last", "1", "--allow-mass-expire", "--prune", "--json")
        before = sorted((path, path.stat().st_size) for path in self.repo.rglob("*") if path.is_file())
        told = self.ok(*command, "--dry-run").json
        self.assertEqual(sorted((path, path.stat().st_size) for path in self.repo.rglob("*") if path.is_file()), before)
        self.assertIn("would", self.ok(*command[:-1], "--dry-run").out.splitlines()[-2])
        done = self.ok(*command).json
        self.assertGreater(told["pruned"]["removed_bytes"] + told["pruned"]["rewriting_freed_bytes"], 5 << 20)
        self.assertEqual(told["pruned"], done["pruned"])

    def test_status_tells_what_is_stored_now(self):
        node, repository = self.node, self.repo

        def stored():
            status = self.ok("status", repository, "--json").json
            packs = [path for folder in ("packs", "nodes") for path in (repository / folder).rglob("*.pack")]
            self.assertEqual(status["stored_bytes"], sum(path.stat().st_size for path in packs))
            return status

        for _ in range(3):
            (node / "file").write_bytes(os.urandom(8 << 20))
            self.ok("backup", node, repository)
        before = stored()
        self.assertGreater(before["stored_bytes"], 24 << 20)
        self.ok("forget", repository, "--keep-last", "1", "--allow-mass-expire")
        forgotten = stored()
        self.assertEqual(forgotten["stored_bytes"], before["stored_bytes"])
        self.assertLess(forgotten["made_stored_bytes"], 10 << 20)
        self.ok("prune", repository)
        self.assertLess(stored()["stored_bytes"], 10 << 20)


if __name__ == "__main__":
    harness.main()
