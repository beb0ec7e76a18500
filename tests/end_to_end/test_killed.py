"""SIGKILL at every step: earlier backups stay whole, no half-made one is seen, and the next one works and clears up."""

import itertools
import os

import compare
import harness
from torture import fill_with_files


class Killed(harness.Case):
    def node_of(self, mount):
        node = self.subvolume(mount / "node")
        fill_with_files(node / "files", 300, 5000)
        (node / "CURRENT").write_bytes(b"MANIFEST-1\n")
        with open(node / "large", "wb") as file:
            for _ in range(20):
                file.write(os.urandom(1 << 20))
        with open(node / "scattered", "wb") as file:
            for number in range(3000):
                file.seek(number * 8192)
                file.write(os.urandom(4096))
        return node

    @staticmethod
    def add_file(node):
        """Something to read and store: what is stored already isn't stored again."""
        (node / f"fresh{len(os.listdir(node))}").write_bytes(os.urandom(100_000))

    def killed(self, step, nth, name, *arguments):
        result = self.run_program(name, *arguments, program=harness.FAULTS, environment={"NODESNAP_SIGNAL_AT": f"{step}:{nth}"})
        # How often the lease is renewed differs from run to run, so a later passing of a step may not come.
        self.assertIn(result.status, (-9,) if nth == 1 else (-9, harness.DONE), f"was not killed at {step}: {result}")
        return result.status != harness.DONE

    def remains(self, mount, repository):
        """Snapshots of backups, sessions and unfinished packs that are still there."""
        found = [entry["name"] for entry in self.ok("snapshot", "list", mount / "node", "--json").json["snapshots"]]
        found += [path.name for path in (repository / "journal").glob("*")] if (repository / "journal").exists() else []
        return found

    def test_backup(self):
        mount = self.file_system("btrfs", 1024)
        node = self.node_of(mount)
        repository = self.repository()
        wanted_first = compare.snapshot_of(node)
        steps = self.steps_of("backup", node, repository, "--drop-snapshot")
        for wanted in ("backup.session-begun", "backup.snapshot-taken", "backup.before-publish", "backup.published", "backup.session-ended"):
            self.assertIn(wanted, steps)
        good = 1
        first = self.backups(repository)[0]["id"]
        points = 0
        for step, nth in self.kills(steps):
            with self.subTest(step=step, nth=nth):
                points += 1
                self.add_file(node)
                if step == "inventory.stored":
                    (repository / "inventory").unlink()  # only the first backup makes it as a rule
                if not self.killed(step, nth, "backup", node, repository, "--drop-snapshot"):
                    good += 1
                    continue
                seen = len(self.backups(repository))
                self.assertIn(seen, (good, good + 1))
                self.ok("verify", repository)
                # The next backup needs no help, although the dead one held the lock.
                self.ok("backup", node, repository, "--drop-snapshot")
                self.assertEqual(len(self.backups(repository)), seen + 1)
                self.assertEqual(self.remains(mount, repository), [])
                self.assertEqual(list((repository).rglob("*.part")), [])
                good = seen + 1
        self.ok("verify", repository, "--data")
        self.ok("restore", repository, first, mount / "restored")
        self.assertEqual(compare.differences(wanted_first, compare.snapshot_of(mount / "restored")), [])
        self.no_orphans(repository)
        print(f"killed at {points} points of {len(steps)} steps")

    def test_incremental_backup(self):
        """Whenever it is killed, the next one has a parent to build on, and no other snapshot is left."""
        mount = self.file_system("btrfs", 1024)
        node = self.node_of(mount)
        repository = self.repository()

        def change(number):
            with open(node / "scattered", "r+b") as file:
                for page in range(5):
                    file.seek((17 * number + page) * 8192)
                    file.write(os.urandom(4096))
            (node / f"new{number}").write_bytes(os.urandom(30_000))
            if number:
                os.rename(node / f"new{number - 1}", node / f"renamed{number - 1}")

        self.ok("backup", node, repository)
        change(0)
        steps = self.steps_of("backup", node, repository)
        self.assertIn("backup.parents-removed", steps)
        for number, (step, nth) in enumerate(self.kills(steps), 1):
            with self.subTest(step=step, nth=nth):
                change(number)
                self.killed(step, nth, "backup", node, repository)
                self.ok("verify", repository)
                result = self.ok("backup", node, repository, "--json").json["backup"]
                self.assertIsNotNone(result["parent"])
                (left,) = self.remains(mount, repository)
                self.assertTrue(left.startswith(result["id"]), f"{left} is left")
                self.no_orphans(repository)
        self.ok("verify", repository, "--data")
        self.ok("restore", repository, "latest", mount / "restored")
        self.assertEqual(compare.differences(compare.snapshot_of(node), compare.snapshot_of(mount / "restored")), [])

    CLEARING = ("session.void-created", "session.packs-removed", "snapshot.deleted", "session.snapshot-removed", "session.cleared")

    def clears_up(self, mount, node, repository, before):
        """The next backup needs no help, and nothing is left of the dead ones."""
        self.assertEqual(len(self.backups(repository)), before)
        self.ok("verify", repository)
        self.ok("backup", node, repository, "--drop-snapshot")
        self.assertEqual(len(self.backups(repository)), before + 1)
        self.assertEqual(self.remains(mount, repository), [])
        self.assertEqual(list(repository.rglob("*.part")), [])
        self.no_orphans(repository)

    def test_clearing_up_after_a_dead_backup(self):
        mount = self.file_system("btrfs", 1024)
        node = self.node_of(mount)
        repository = self.repository()
        for number, (died_at, step) in enumerate(itertools.product(("backup.snapshot-taken", "backup.before-publish"), self.CLEARING)):
            with self.subTest(died_at=died_at, step=step):
                self.assertTrue(self.killed(died_at, 1, "backup", node, repository, "--drop-snapshot"))
                self.assertEqual(len(self.remains(mount, repository)), 2)
                self.assertTrue(self.killed(step, 1, "backup", node, repository, "--drop-snapshot"))
                self.clears_up(mount, node, repository, number)
        self.ok("verify", repository, "--data")

    def test_clearing_up_after_itself(self):
        mount = self.file_system("btrfs", 1024)
        node = self.node_of(mount)
        repository = self.repository()
        for number, (failed_at, step) in enumerate(itertools.product(("backup.snapshot-taken", "drain.range-read"), self.CLEARING)):
            with self.subTest(failed_at=failed_at, step=step):
                self.add_file(node)
                result = self.run_program("backup", node, repository, "--drop-snapshot", program=harness.FAULTS,
                                          environment={"NODESNAP_INTERRUPT_AT": failed_at, "NODESNAP_SIGNAL_AT": step})
                self.assertEqual(result.status, -9, f"was not killed at {step}: {result}")
                if step in ("session.void-created", "session.packs-removed"):
                    self.assertEqual(len(self.remains(mount, repository)), 2)
                self.clears_up(mount, node, repository, number)

    def no_orphans(self, repository):
        """After the clearing every pack belongs to a backup."""
        sessions = {backup["id"] for backup in self.backups(repository)}
        for kind in ("packs", "nodes"):
            for pack in (repository / kind).rglob("*.pack"):
                self.assertIn(pack.name[2:24], sessions, f"{pack} belongs to no backup")

    def test_restore(self):
        mount = self.file_system("btrfs", 1024)
        node = self.node_of(mount)
        repository = self.repository()
        self.ok("backup", node, repository, "--drop-snapshot")
        steps = self.steps_of("restore", repository, "latest", mount / "first")
        self.assertTrue(steps, "restore passes no steps")
        wanted = compare.snapshot_of(node)
        for number, (step, nth) in enumerate(self.kills(steps)):
            with self.subTest(step=step, nth=nth):
                place = mount / f"place{number}"
                if not self.killed(step, nth, "restore", repository, "latest", place):
                    continue
                if place.exists() and (place / "CURRENT").exists():
                    # It is there only when all of it is.
                    self.assertEqual(compare.differences(wanted, compare.snapshot_of(place)), [])
                result = self.run_program("restore", repository, "latest", place)
                if result.status != harness.DONE:
                    # Refused since the restore had been finished before the kill.
                    self.assertEqual(result.status, harness.REFUSED, str(result))
                self.assertEqual(compare.differences(wanted, compare.snapshot_of(place)), [])
                left = [name for name in os.listdir(mount) if name.startswith(".") and f"place{number}" in name]
                self.assertEqual(left, [])
                if place.exists():
                    harness.tool("btrfs", "subvolume", "delete", place)

    def test_interrupt_leaves_nothing(self):
        mount = self.file_system("btrfs", 1024)
        node = self.node_of(mount)
        repository = self.repository()
        for signal_number in (2, 15):
            result = self.run_program("backup", node, repository, "--drop-snapshot", program=harness.FAULTS,
                                      environment={"NODESNAP_SIGNAL_AT": "backup.snapshot-recorded", "NODESNAP_SIGNAL": str(signal_number)})
            self.assertEqual(result.status, harness.FAILED, str(result))
            self.assertEqual(self.remains(mount, repository), [])
            self.assertEqual(self.backups(repository), [])
        self.ok("backup", node, repository, "--drop-snapshot")

    def test_repair(self):
        mount = self.file_system("btrfs", 1024)
        node = self.node_of(mount)
        repository = self.repository()
        self.ok("backup", node, repository, "--drop-snapshot")
        objects = [path for path in repository.rglob("*") if path.is_file() and (path.parent.name == "backups" or path.suffix == ".pack")]

        def damage():
            for path in [path for path in repository.rglob("*") if path.is_file() and (path.parent.name == "backups" or path.suffix == ".pack")]:
                with open(path, "r+b") as file:
                    file.seek(-100 if path.suffix == ".pack" else 140, os.SEEK_END if path.suffix == ".pack" else os.SEEK_SET)
                    byte = file.read(1)
                    file.seek(-1, os.SEEK_CUR)
                    file.write(bytes([byte[0] ^ 1]))

        self.assertTrue(objects)
        damage()
        self.run_program("verify", repository, expect=harness.DAMAGED)
        steps = self.steps_of("repair", repository)
        self.ok("verify", repository, "--data")
        for step, nth in self.kills(steps):
            with self.subTest(step=step, nth=nth):
                damage()
                result = self.run_program("repair", repository, program=harness.FAULTS, environment={"NODESNAP_SIGNAL_AT": f"{step}:{nth}"})
                self.assertIn(result.status, (-9, harness.DONE), str(result))
                self.run_program("show", repository, "latest", expect=(harness.DONE, harness.WARNINGS))
                self.ok("repair", repository)
                self.ok("verify", repository, "--data")


if __name__ == "__main__":
    harness.main()
