"""Compaction: many backups, most of them forgotten; killed at every step, beside a restore, on a full target."""

import os
import random
import signal

import harness

PAGE = 4096


class Prune(harness.Case):
    def setUp(self):
        super().setUp()
        seed = int(os.environ.get("NODESNAP_SEED", random.SystemRandom().randrange(1 << 32)))
        print(f"seed {seed}")
        self.random = random.Random(seed)
        self.place = self.file_system("btrfs", 1024)
        self.node = self.subvolume(self.place / "node")
        self.contents = {}  # of the file, by backup

    def aged(self, count, mib=8, pages=40):
        """A repository of so many backups, each with some pages of one file rewritten, and another file replaced. The attributes of most of
        many small files change once."""
        repository = self.repository()
        many = self.node / "many"
        many.mkdir()
        for number in range(3000):
            (many / str(number)).write_bytes(b"x")
        path = self.node / "pages"
        path.write_bytes(self.random.randbytes(mib << 20))
        for number in range(count):
            if number == count // 2:
                for file in sorted(many.iterdir(), key=lambda file: file.stat().st_ino)[:2600]:
                    file.chmod(0o600)
            with open(path, "r+b") as file:
                for page in self.random.sample(range((mib << 20) // PAGE), pages):
                    file.seek(page * PAGE)
                    file.write(self.random.randbytes(PAGE))
            (self.node / "replaced").write_bytes(self.random.randbytes(300_000))
            self.back_up(repository)
        return repository

    def back_up(self, repository):
        made = self.ok("backup", self.node, repository, "--json").json["backup"]["id"]
        self.contents[made] = ((self.node / "pages").read_bytes(), (self.node / "replaced").read_bytes())

    def keep(self, repository, count):
        self.ok("forget", repository, "--keep-last", str(count), "--allow-mass-expire")
        return [backup["id"] for backup in self.backups(repository)]

    def assert_whole(self, repository, backups):
        self.ok("verify", repository, "--data")
        for number, backup in enumerate(sorted({backups[0], backups[-1]})):
            place = self.place / f"restored{number}"
            self.ok("restore", repository, backup, place)
            self.assertEqual(((place / "pages").read_bytes(), (place / "replaced").read_bytes()), self.contents[backup])
            harness.tool("btrfs", "subvolume", "delete", place)

    @staticmethod
    def stored(repository):
        return sum(path.stat().st_size for folder in ("packs", "nodes") for path in (repository / folder).rglob("*.pack"))

    def test_thirty_backups_of_which_few_are_kept(self):
        repository = self.aged(30)
        kept = self.keep(repository, 3)
        before = self.stored(repository)
        told = self.ok("prune", repository, "--merge=no", "--dry-run", "--json").json
        self.assertEqual(self.stored(repository), before)
        done = self.ok("prune", repository, "--merge=no", "--json").json
        self.assertEqual({**told, "dry_run": False}, done)
        self.assertGreater(done["rewritten_packs"], 5)
        self.assertEqual(before - self.stored(repository), done["removed_bytes"] + done["rewriting_freed_bytes"])
        self.assertEqual(self.stored(repository), done["kept_bytes"])
        for folder in ("packs", "nodes"):
            self.assertTrue(list((repository / folder).rglob("*.1.pack")), f"nothing in {folder} was rewritten")
        self.assert_whole(repository, kept)
        self.assertEqual(self.ok("prune", repository, "--merge=no", "--json").json["rewritten_packs"], 0)
        # To the last byte, again and again, with backups that build on what was rewritten.
        for _ in range(2):
            (self.node / "replaced").write_bytes(self.random.randbytes(100_000))
            made = self.ok("backup", self.node, repository, "--json").json["backup"]["id"]
            self.contents[made] = ((self.node / "pages").read_bytes(), (self.node / "replaced").read_bytes())
            kept = self.keep(repository, 2)
            done = self.ok("prune", repository, "--merge=no", "--max-unused", "0", "--json").json
            self.assertEqual(self.ok("prune", repository, "--merge=no", "--max-unused", "0%", "--json").json["rewritten_packs"], 0)
            self.assert_whole(repository, kept)

    def test_killed_at_every_step(self):
        repository = self.aged(30, mib=4)
        listing = self.scratch / "steps"
        count = 24
        # Each run finds what the one before it has left, and a backup fewer.
        for step in ("prune.marked:1", "prune.removed:1", "prune.removed:2", "prune.swept:1", "target.part-durable:1", "target.part-durable:2",
                     "compaction.written:1", "compaction.written:2", "compaction.removed:1", "compaction.removed:2"):
            with self.subTest(step=step):
                kept = self.keep(repository, count)
                count -= 2
                result = self.run_program("prune", repository, "--merge=no", "--max-unused", "5", program=harness.FAULTS,
                                          environment={"NODESNAP_SIGNAL_AT": step, "NODESNAP_LIST_STEPS": str(listing)})
                self.assertEqual(result.status, -9, str(result))
                self.assert_whole(repository, kept)
        self.ok("prune", repository, "--merge=no", "--max-unused", "5")
        self.assert_whole(repository, kept)
        self.assertEqual(self.ok("prune", repository, "--merge=no", "--max-unused", "5", "--json").json["rewriting_freed_bytes"], 0)
        generations = {}
        for path in (*(repository / "packs").rglob("*.pack"), *(repository / "nodes").rglob("*.pack")):
            generations.setdefault(path.name.split(".")[0], []).append(path.name)
        self.assertEqual([names for names in generations.values() if len(names) != 1], [])
        self.assertEqual(list((repository / "journal").glob("*")), [])

    def test_what_a_killed_rewriting_left_goes_with_the_next_prune(self):
        repository = self.aged(6)
        self.keep(repository, 2)
        result = self.run_program("prune", repository, "--merge=no", "--max-unused", "5", program=harness.FAULTS,
                                  environment={"NODESNAP_SIGNAL_AT": "target.part-durable"})
        self.assertEqual(result.status, -9, str(result))
        self.assertEqual(len(list((repository / "journal").glob("*.part"))), 1)
        self.ok("prune", repository, "--merge=no", "--max-unused", "100")  # which rewrites nothing
        self.assertEqual(list((repository / "journal").glob("*.part")), [])

    def test_a_restore_that_runs_meanwhile(self):
        """It has read its plan and some packs' footers when all that it needs moves to the next generation."""
        repository = self.aged(20)
        kept = self.keep(repository, 1)
        place = self.place / "meanwhile"
        opened = rewritten = 0
        for nth, max_unused in ((4, 60), (12, 0)):
            child = self.start_program("restore", repository, kept[0], place, "--no-io-uring", "--workers", "1", program=harness.FAULTS,
                                       environment={"NODESNAP_STOP_AT": f"target.open:{nth}"})
            harness.wait_for(lambda: harness.is_stopped(child.pid) or child.poll() is not None, "the restore to stop")
            opened += child.poll() is None
            rewritten += self.ok("prune", repository, "--max-unused", str(max_unused), "--json").json["rewritten_packs"] > 0
            child.send_signal(signal.SIGCONT)
            self.assertEqual(self.finish(child).status, harness.DONE)
            self.assertEqual(((place / "pages").read_bytes(), (place / "replaced").read_bytes()), self.contents[kept[0]])
            harness.tool("btrfs", "subvolume", "delete", place)
        self.assertEqual((opened, rewritten), (2, 2))

    def test_a_restore_of_what_is_forgotten_and_pruned_meanwhile(self):
        """That isn't damage, and mending the repository wouldn't help: it says what became of the backup."""
        repository = self.aged(2)
        refused = begun = 0
        for nth in range(4, 30):
            self.ok("forget", repository, "--keep-last", "1", "--allow-mass-expire", "--prune")
            made = self.ok("backup", self.node, repository, "--full", "--json").json["backup"]["id"]
            self.ok("backup", self.node, repository, "--full")
            place = self.place / f"restored{nth}"
            child = self.start_program("restore", repository, made, place, "--no-io-uring", "--workers", "1", program=harness.FAULTS,
                                       environment={"NODESNAP_STOP_AT": f"target.open:{nth}"})
            harness.wait_for(lambda: harness.is_stopped(child.pid) or child.poll() is not None, "the restore to stop")
            if child.poll() is not None:
                break
            self.ok("forget", repository, made, "--prune")
            child.send_signal(signal.SIGCONT)
            result = self.finish(child)
            if result.status == harness.DONE:
                continue  # it had all open that it needs
            self.assertEqual(result.status, harness.REFUSED, str(result))
            if f"has no backup {made}" in result.err:
                continue  # it hadn't found it yet
            self.assertIn(f"backup {made} was forgotten while it was read", result.err)
            self.assertNotIn("once the repository is repaired", result.err)
            self.assertFalse(place.exists())
            refused += 1
            begun += "which nothing can go on with" in result.err
        self.assertGreater(refused, begun)
        self.assertGreater(begun, 0)
        self.ok("verify", repository, "--data")

    def test_merging(self):
        repository = self.aged(30, mib=4, pages=300)
        before = self.keep(repository, 10)
        self.assertEqual(self.ok("prune", repository, "--merge=no", "--json").json["merged_files"], 0)
        size = self.stored(repository)
        told = self.ok("prune", repository, "--dry-run", "--json").json
        self.assertEqual(self.stored(repository), size)
        done = self.ok("prune", repository, "--json").json
        self.assertEqual((told["merged_files"], told["merged_bytes"]), (1, 4 << 20))
        self.assertEqual((done["merged_files"], done["merged_bytes"]), (1, 4 << 20))
        self.assert_whole(repository, before)
        again = self.ok("prune", repository, "--json").json
        self.assertEqual(again["merged_files"], 0)
        self.assertEqual(len(list((repository / "backups").iterdir())), len(before))
        self.assertEqual(list((repository / "journal").iterdir()), [])
        # The next backup takes the merged segments over, and needs nothing else.
        size = self.stored(repository)
        (self.node / "replaced").write_bytes(b"small")
        made = self.ok("backup", self.node, repository, "--json").json["backup"]["id"]
        self.contents[made] = ((self.node / "pages").read_bytes(), b"small")
        self.assertLess(self.stored(repository), size + 300_000)
        self.keep(repository, 1)
        self.ok("prune", repository, "--max-unused", "0")
        self.assertLess(self.stored(repository), (4 << 20) + 700_000)
        self.assert_whole(repository, [made])

    def test_merging_killed_at_every_step(self):
        repository = self.aged(12, mib=2, pages=300)
        kept = self.keep(repository, 6)
        for step in ("session.begun:1", "target.part-durable:1", "merge.data-durable:1", "target.part-durable:2", "merge.packs-durable:1",
                     "publish.revision-checked:1", "revision.written:1", "revision.removed:1", "merge.published:1", "prune.marked:1"):
            with self.subTest(step=step):
                result = self.run_program("prune", repository, "--merge", program=harness.FAULTS, environment={"NODESNAP_SIGNAL_AT": step})
                self.assertEqual(result.status, -9, str(result))
                self.assert_whole(repository, kept)
                if step in ("revision.written:1", "revision.removed:1", "merge.published:1"):
                    # It is merged: what the next ones are to work on is made anew.
                    self.assertEqual(self.ok("prune", repository, "--json").json["merged_files"], 0)
                    self.assert_whole(repository, kept)
                    kept = self.more(repository, 12)
        self.ok("prune", repository, "--merge", "--max-unused", "0")
        self.assert_whole(repository, kept)
        self.ok("prune", repository)  # what was superseded
        self.assertEqual(list((repository / "journal").iterdir()), [])
        again = self.ok("prune", repository, "--merge", "--max-unused", "0", "--json").json
        self.assertEqual([again[name] for name in ("merged_files", "removed_packs", "rewritten_packs", "cleared_sessions")], [0, 0, 0, 0])

    def more(self, repository, count):
        path = self.node / "pages"
        for _ in range(count):
            with open(path, "r+b") as file:
                for page in self.random.sample(range(path.stat().st_size // PAGE), 300):
                    file.seek(page * PAGE)
                    file.write(self.random.randbytes(PAGE))
            made = self.ok("backup", self.node, repository, "--json").json["backup"]["id"]
            self.contents[made] = (path.read_bytes(), (self.node / "replaced").read_bytes())
        return self.keep(repository, 6)

    def a_merge_that_slept(self, merges, left):
        """Stopped after it looked at its lease for the last time; meanwhile another prune takes its packs for a dead one's."""
        repository = self.aged(12, mib=2, pages=300)
        kept = self.keep(repository, 2)
        child = self.start_program("prune", repository, "--merge", "--lock-lease", "1s", program=harness.FAULTS,
                                   environment={"NODESNAP_SIGNAL_AT": "publish.revision-checked", "NODESNAP_SIGNAL": str(int(signal.SIGSTOP))})
        harness.wait_for(lambda: harness.is_stopped(child.pid), "the merge to stop")
        self.assertEqual(self.ok("prune", repository, merges, "--wait-lock", "2m", "--json").json["cleared_sessions"], 1)
        child.send_signal(signal.SIGCONT)
        self.assertEqual(self.finish(child).status, harness.LOCKED)
        self.assert_whole(repository, kept)
        self.assertEqual(self.ok("prune", repository, "--json").json["merged_files"], left)
        self.assert_whole(repository, kept)

    def test_a_merge_that_slept_publishes_nothing(self):
        self.a_merge_that_slept("--merge=no", left=1)

    def test_a_merge_that_slept_publishes_nothing_over_another(self):
        self.a_merge_that_slept("--merge", left=0)

    def test_a_restore_of_what_is_merged_meanwhile(self):
        repository = self.aged(12, mib=2, pages=300)
        kept = self.keep(repository, 1)
        place = self.place / "meanwhile"
        child = self.start_program("restore", repository, kept[0], place, "--no-io-uring", "--workers", "1", program=harness.FAULTS,
                                   environment={"NODESNAP_STOP_AT": "target.open:8"})
        harness.wait_for(lambda: harness.is_stopped(child.pid), "the restore to stop")
        self.assertEqual(self.ok("prune", repository, "--json").json["merged_files"], 1)
        child.send_signal(signal.SIGCONT)
        self.assertEqual(self.finish(child).status, harness.DONE)
        self.assertEqual(((place / "pages").read_bytes(), (place / "replaced").read_bytes()), self.contents[kept[0]])

    def test_a_full_target(self):
        target = self.file_system("ext4", 96)
        # Half of each pack of these is in use: more than what is free, and than what removing other packs gives back.
        bulk = [self.node / f"bulk{number}" for number in range(64)]
        for path in bulk:
            path.write_bytes(self.random.randbytes(256 << 10))
        repository = self.aged(20)
        for path in bulk[::2]:
            path.unlink()
        for _ in range(2):
            self.back_up(repository)
        kept = self.keep(repository, 2)
        full = target / "repository"
        harness.tool("cp", "-a", repository, full)
        harness.tool("sync", "-f", target)  # what is written later is counted too high
        room = os.statvfs(target)
        (target / "ballast").write_bytes(bytes(room.f_bfree * room.f_frsize - (2 << 20)))  # f_bavail leaves out what root may use
        result = self.run_program("prune", full, "--max-unused", "0", "--json", expect=harness.WARNINGS)
        self.assertGreater(result.json["removed_packs"], 0)
        self.assertIn("too little space", "".join(result.json["warnings"]))
        self.assertGreater(result.json["left_packs_for_space"], 0)
        self.assert_whole(full, kept)
        (target / "ballast").unlink()
        self.ok("prune", full, "--max-unused", "0")
        self.assert_whole(full, kept)


if __name__ == "__main__":
    harness.main()
