"""Everything at once: random changes, backups, forgets, prunes and restores, killed and failed at random points. Whatever happened, the next command
goes on without help, each backup is what the node was when its snapshot was taken, and nothing is left behind."""

import collections
import itertools
import os
import random

import compare
import harness
from changes import Changes

ROUNDS = int(os.environ.get("NODESNAP_MODEL_ROUNDS", "10"))
PAGE = 4096


class Model(harness.Case):
    def setUp(self):
        super().setUp()
        self.seed = int(os.environ.get("NODESNAP_SEED", random.SystemRandom().randrange(1 << 32)))
        print(f"seed {self.seed}", flush=True)
        self.random = random.Random(self.seed)
        self.log = []  # what was done, for whoever plays it again
        self.steps = collections.defaultdict(set)  # that each command was seen to pass
        self.harmed = collections.Counter()
        self.numbers = itertools.count()
        self.place = self.file_system("btrfs", 3072)
        layout = self.random.choice(("subvolume", "folder"))
        self.node = self.subvolume(self.place / "node") if layout == "subvolume" else self.place / "node"
        self.node.mkdir(exist_ok=True)
        outside = self.place / "outside" if layout == "folder" else None  # names move over a border only within a subvolume
        if outside:
            outside.mkdir()
        self.excludes = self.random.choice(((), ("--exclude", "*.skip")))
        self.repository_path = self.repository()
        self.changes = Changes(str(self.node), str(outside) if outside else None, self.seed + 1)
        self.snapshots = {}  # pictures of the node by the number of a snapshot's subvolume
        self.wanted = {}  # and by backup
        self.mounts = self.count_mounts()
        self.log.append(f"{layout} {self.excludes}")

    def run(self, result=None):
        """A failure comes with all that led to it."""
        failures = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > failures:
                print(f"seed {self.seed}:", *self.log[-400:], sep="\n")

    # --- what is there

    def picture(self, directory=None):
        return compare.named_below(directory or self.node, (lambda name: name.endswith(".skip")) if self.excludes else (lambda name: False))

    @staticmethod
    def count_mounts():
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            return sum("nodesnap-Model" in line for line in file)

    def snapshots_there(self):
        """By the subvolume's number."""
        place = self.place / ".nodesnap"
        return {int(harness.tool("btrfs", "inspect-internal", "rootid", place / name)): name for name in (os.listdir(place) if place.exists() else [])}

    def ids(self):
        """With a warning, where the copy of something was still to be written when a command was killed."""
        listed = self.run_program("list", self.repository_path, "--json", expect=(harness.DONE, harness.WARNINGS)).json
        self.assertTrue(all("behind the other copy" in text for text in listed["warnings"]), f"seed {self.seed}: {listed['warnings']}")
        return [backup["id"] for backup in listed["backups"]]

    def look(self, now):
        """What a backup made, killed or not: a snapshot shows the node as it is now, and a backup is what its snapshot is."""
        there = self.snapshots_there()
        for number in there:
            self.snapshots.setdefault(number, now)
        ids = self.ids()
        for backup in ids:
            if backup not in self.wanted:
                (number,) = (number for number, name in there.items() if backup in name)
                self.wanted[backup] = self.snapshots[number]
        self.assertEqual(set(self.wanted), set(ids), self.seed)

    def assert_is(self, backup, directory, message=""):
        lines = compare.differences(self.wanted[backup], self.picture(directory))
        self.assertEqual(lines, [], f"seed {self.seed}: {backup} {message}\n" + "\n".join(lines[:40]))

    # --- running

    def some(self, least, most):
        """Small numbers as often as large ones."""
        return int(least * (most / least) ** self.random.random())

    def run_logged(self, name, *arguments, environment=None):
        self.log.append(f"{name} {' '.join(map(str, arguments))} {environment or ''}")
        listing = self.scratch / "steps"
        listing.unlink(missing_ok=True)
        result = self.run_program(name, *arguments, program=harness.FAULTS, environment={"NODESNAP_LIST_STEPS": str(listing), **(environment or {})})
        self.log.append(f"    {result.status} {result.err[-300:]}")
        if listing.exists():
            self.steps[name].update(listing.read_text().split())
        return result

    def run_harmed(self, name, *arguments):
        """Killed at a step or an operation, or with operations that fail; or it comes to its end, when it has none so late."""
        how = self.random.choice(("step", "step", "operation", "once", "for good", "full"))
        nth = self.some(1, 400)
        if how == "step" and self.steps[name]:
            environment = {"NODESNAP_SIGNAL_AT": f"{self.random.choice(sorted(self.steps[name]))}:{self.some(1, 8)}"}
        elif how in ("step", "operation"):
            environment = {"NODESNAP_KILL_AT": f":{nth}"}
        else:
            environment = {"NODESNAP_FAIL": {"once": f"{nth}:5", "for good": f"{nth}+:5", "full": f"{nth}+:28"}[how]}
        result = self.run_logged(name, *arguments, environment=environment)
        ends = (-9, harness.DONE) if how in ("step", "operation") else tuple(range(7))
        self.assertIn(result.status, ends, f"seed {self.seed}: {result}")
        self.harmed[f"{name} {'killed' if result.status == -9 else 'failed' if result.status else 'unharmed'}"] += 1
        return result

    def well(self, name, *arguments, expect=harness.DONE):
        """With a warning only where the copy of something was still to be written when a command was killed."""
        result = self.run_logged(name, *arguments)
        if result.status == harness.WARNINGS and expect == harness.DONE:
            warnings = result.json["warnings"] if "--json" in arguments else [line for line in result.err.splitlines() if ": warning: " in line]
            self.assertTrue(warnings and all("behind the other copy" in text for text in warnings), f"seed {self.seed}: {result}")
        else:
            self.assertIn(result.status, expect if isinstance(expect, tuple) else (expect,), f"seed {self.seed}: {result}")
        return result

    # --- what is done

    def change(self, count=None):
        self.log += self.changes.make(count or self.random.choice((1, 5, 60)))
        if self.random.random() < 0.5:
            self.update_pages()

    def update_pages(self):
        """A database of one file, for pieces that can be merged."""
        path = self.node / "pages"
        try:
            if path.is_symlink() or path.exists() and not path.is_file():
                return
            if not path.exists() or path.stat().st_size < 1 << 20:
                with open(path, "wb") as file:
                    file.write(self.random.randbytes(2 << 20))
            with open(path, "r+b") as file:
                for page in self.random.sample(range(path.stat().st_size // PAGE), self.random.choice((3, 200))):
                    file.seek(page * PAGE)
                    file.write(self.random.randbytes(PAGE))
        except OSError as error:
            self.log.append(f"pages: {error}")

    def something_below(self):
        """What the storage does by itself, or its operator."""
        what = self.random.choice((("btrfs", "filesystem", "defragment", "-r", "-f", self.node), ("btrfs", "filesystem", "defragment", "-r", "-czstd", self.node),
                                   ("btrfs", "balance", "start", "--full-balance", self.place), ("mount", "-o", "remount,compress-force=zstd", self.place),
                                   ("mount", "-o", "remount,compress=no", self.place), ("btrfs", "scrub", "start", "-B", self.place)))
        self.log.append(" ".join(map(str, what)))
        harness.tool(*what, check=what[1] != "filesystem")  # defragmenting what is sealed fails

    def nested(self):
        """A subvolume in the node isn't in a snapshot: refused, and nothing is left of the attempt."""
        before = self.snapshots_there()
        nested = self.node / f"nested{next(self.numbers)}"
        try:
            self.subvolume(nested)
        except RuntimeError:  # sealed
            return
        self.well("backup", self.node, self.repository_path, *self.excludes, expect=harness.REFUSED)
        self.assertEqual(self.snapshots_there(), before, self.seed)
        harness.tool("btrfs", "subvolume", "delete", nested)

    def lose_a_snapshot(self):
        """Then contents are compared."""
        there = self.snapshots_there()
        if there:
            gone = self.place / ".nodesnap" / there[self.random.choice(sorted(there))]
            self.log.append(f"delete {gone}")
            harness.tool("btrfs", "subvolume", "delete", gone)

    def backup(self):
        command = ("backup", self.node, self.repository_path, *self.excludes)
        while self.random.random() < 0.5:
            now = self.picture()
            self.run_harmed(*command, "--workers", self.random.choice((1, 3)))
            self.look(now)
            self.random.choice((lambda: None, lambda: None, lambda: self.change(3), self.forget, self.prune, self.lose_a_snapshot))()
        now = self.picture()
        result = self.well(*command, "--json", *self.random.choice(((), (), ("--audit",), ("--no-io-uring",)))).json
        self.look(now)
        if not result["resumed"]:
            self.assertEqual(compare.differences(now, self.wanted[result["backup"]["id"]]), [], self.seed)
        (left,) = self.snapshots_there().values()
        self.assertIn(result["backup"]["id"], left, f"seed {self.seed}: another snapshot than the parent is left")
        self.assertEqual(self.count_mounts(), self.mounts, self.seed)

    def forget(self):
        if len(self.wanted) < 2:
            return
        newest = self.ids()[-1]
        if self.random.random() < 0.6:
            named = [self.random.choice(sorted(set(self.wanted) - {newest}))]
            command = ("forget", self.repository_path, *named, "--allow-mass-expire")
        else:
            named = []
            count = self.random.randint(1, len(self.wanted))
            command = ("forget", self.repository_path, "--keep-last", count, "--allow-mass-expire", *self.random.choice(((), ("--prune",))))
        if self.random.random() < 0.4:
            self.run_harmed(*command)
        left = set(self.ids())
        if set(named) <= left:
            self.well(*command, expect=(harness.DONE, harness.WARNINGS))  # with warnings, where a backup that was cut off needs one
            left = set(self.ids())
        self.assertLessEqual(left, set(self.wanted))
        self.assertIn(newest, left, self.seed)
        if named:
            self.assertLessEqual(set(self.wanted) - left, set(named), self.seed)
        self.wanted = {backup: picture for backup, picture in self.wanted.items() if backup in left}

    def prune(self):
        command = ("prune", self.repository_path, *self.random.choice(((), ("--max-unused", "0"), ("--merge",), ("--merge", "--max-unused", "0"))))
        if self.random.random() < 0.5:
            self.run_harmed(*command)
            self.well("verify", self.repository_path, "--data")
        done = self.well(*command, "--json").json
        if done["merged_files"] == 0:  # else what the merge superseded goes with the next
            again = self.well(*command, "--json").json
            self.assertEqual([again["removed_packs"], again["rewritten_packs"], again["cleared_sessions"]], [0, 0, 0], f"seed {self.seed}: {done}")

    def restore(self):
        backup = self.random.choice(sorted(self.wanted))
        place = self.place / f"restored{next(self.numbers)}"
        command = ("restore", self.repository_path, backup, place)
        finished = False
        while self.random.random() < 0.5 and not finished:
            result = self.run_harmed(*command)
            finished = place.exists()
            if finished and result.status != harness.WARNINGS:
                self.assert_is(backup, place, f"restored: {result}")
        if not finished:
            self.well(*command)
            self.assert_is(backup, place, "restored")
        elif self.run_logged(*command).status == harness.DONE:  # refused, or what was left to be cleared up is
            self.assert_is(backup, place, "restored twice")
        harness.tool("btrfs", "subvolume", "delete", place)
        self.assert_tidy()

    def assert_tidy(self):
        left = [name for name in os.listdir(self.place) + os.listdir(self.node) if ".nodesnap-" in name or name.startswith(".restored")]
        self.assertEqual(left, [], self.seed)
        self.assertEqual(self.count_mounts(), self.mounts, self.seed)

    def restore_delta(self):
        backup = self.random.choice(sorted(self.wanted))
        options = self.random.choice(((), ("--no-snapshot",), ("--in-place",), ("--keep-old",)))
        command = ("restore", self.repository_path, backup, self.node, "--delta", *options)
        before, old = self.picture(), self.place / "node.before-restore"
        while not old.exists() and self.random.random() < 0.6:
            result = self.run_harmed(*command)
            if "--in-place" not in options and result.status != harness.WARNINGS:  # the one or the other, whole
                found = self.picture()
                if compare.differences(before, found):
                    self.assert_is(backup, self.node, f"after {result}")
        kept = old.exists()
        self.well(*command, expect=(harness.DONE, harness.REFUSED) if kept else harness.DONE)
        self.assert_is(backup, self.node, "by delta")
        if "--keep-old" in options:
            kept = self.picture(old)
            before.pop(b"."), kept.pop(b".")
            self.assertEqual(compare.differences(before, kept), [], self.seed)
            self.remove(old)
        self.assert_tidy()

    @staticmethod
    def remove(directory):
        if harness.is_subvolume(directory):
            harness.tool("btrfs", "subvolume", "delete", directory)
        else:
            harness.tool("chattr", "-R", "-f", "-i", "-a", directory, check=False)
            harness.tool("rm", "-rf", directory)

    def test_model_of_everything(self):
        self.change(100)
        for _ in range(ROUNDS):
            for chance, action in ((0.3, self.something_below), (0.1, self.nested), (0.1, self.lose_a_snapshot), (1, self.backup), (0.5, self.forget),
                                   (0.5, self.prune), (0.4, self.restore), (0.4, self.restore_delta)):
                if self.random.random() < chance:
                    action()
            self.well("verify", self.repository_path, "--data")
            self.change()
        for backup in sorted(self.wanted):
            place = self.place / f"restored{next(self.numbers)}"
            self.well("restore", self.repository_path, backup, place)
            self.assert_is(backup, place, "at the end")
            harness.tool("btrfs", "subvolume", "delete", place)
        self.backup()
        self.well("forget", self.repository_path, "--keep-last", 1, "--allow-mass-expire", "--prune")
        done = self.well("prune", self.repository_path, "--json").json
        self.assertEqual(list((self.repository_path / "journal").iterdir()), [], self.seed)
        information = self.well("verify", self.repository_path, "--json").json["information"]
        objects = sorted(str(path.relative_to(self.repository_path)) for path in self.repository_path.rglob("*") if path.is_file())
        self.assertEqual([text for text in information if "belong to no backup" in text], [], "\n".join([f"seed {self.seed} {done}", *objects]))
        print(", ".join(f"{what}: {count}" for what, count in sorted(self.harmed.items())))


if __name__ == "__main__":
    harness.main()
