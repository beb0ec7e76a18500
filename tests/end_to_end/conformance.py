"""What every snapshot backend must do on every layout: the tests, written once against storage.Storage."""

import collections
import os
import random
import signal
import unittest
from pathlib import Path

import compare
import harness
import hold_case
from name_watch import NameWatch
from storage import MIB
from traps import Traps

NO_CGROUPS = hold_case.why_no_cgroups()
# Those of the backends; of the others some are picked at random.
OWN_STEPS = ("snapshot.", "passes.")


def cases(module, without=(), **storages):
    """A test class for each of the storages: functions of a keeper. `without`: tests that would prove nothing more there."""
    return {name: type(name, (Conformance,), {"make_storage": staticmethod(make), "__module__": module, **dict.fromkeys(without)})
            for name, make in storages.items()}


def seed_of_test():
    seed = int(os.environ.get("NODESNAP_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed {seed}", flush=True)
    return seed


class Conformance(hold_case.HoldCase):
    @classmethod
    def make_keeper(cls):
        """Whose file systems live as long as the class."""
        keeper = harness.Case()
        keeper.setUp()
        cls.addClassCleanup(keeper.doCleanups)
        return keeper

    @classmethod
    def setUpClass(cls):
        cls.storage = cls.make_storage(cls.make_keeper())

    def setUp(self):
        harness.Case.setUp(self)
        self.storage.fresh()
        self.stack.callback(self.storage.clean)
        self.node = self.storage.node
        self.store = self.repository()

    # --- what the tests are made of

    def backup(self, *options, **others):
        return self.ok("backup", self.node, self.store, *self.storage.making, *self.storage.no_daemon, *options, "--json", **others).json

    def refused(self, *arguments, says="", status=harness.REFUSED):
        """Nothing is touched: not the repository, not the storage."""
        before, stored, left = self.names(), hold_case.contents(self.store), self.storage.left()
        result = self.run_program(*arguments, expect=status)
        self.assertIn(says, result.err)
        self.assertEqual(self.storage.left(), left)
        self.assertEqual(hold_case.contents(self.store), stored)
        self.assertEqual(self.names(), before)

    def names(self):
        return set(self.storage.everything())

    def is_spared(self, name):
        return name in self.storage.spared

    def is_left_out(self, name):
        return name.endswith(".skip") or self.is_spared(name)

    def picture(self, directory=None, leaves_out=None):
        found = compare.named_below(directory or self.node, leaves_out or self.is_left_out)
        if self.storage.inside:
            del found[b"."]  # something was made in it that isn't the node's
        return found

    def assert_same(self, wanted, directory, message="", leaves_out=None):
        lines = compare.differences(wanted, self.picture(directory, leaves_out))
        self.assertEqual(lines, [], message + "\n".join(lines[:40]))

    def assert_restores(self, message="", wanted=None, backup="latest"):
        restored = self.storage.restores / "restored"
        self.ok("restore", self.store, backup, restored)
        # Nothing that was to be left out has come back either.
        self.assert_same(wanted or self.picture(), restored, message, self.is_spared)
        harness.tool("chattr", "-R", "-f", "-i", "-a", restored, check=False)
        harness.tool("rm", "-r", restored)

    def watch(self):
        """Of names that come and go in the node directory."""
        return NameWatch(self.node, [self.node / name for name in self.storage.spared])

    def assert_only_parent(self, message=""):
        """Returns its name, or None where none is kept."""
        left = self.storage.left()
        self.assertEqual(len(left), 1 if self.storage.tells else 0, f"{message}: {left}")
        if left:
            self.storage.check_parent(left[0])
        return left[0] if left else None

    def listed(self):
        return self.ok("snapshot", "list", self.node, *self.storage.where, "--json").json["snapshots"]

    def fill(self):
        """A few files of each kind; "untouched.sst" is one that is never written to again."""
        (self.node / "deep").mkdir()
        for name in ("file", "deep/file"):
            (self.node / name).write_bytes(os.urandom(30_000))
        (self.node / "untouched.sst").write_bytes(os.urandom(self.storage.unit))
        os.link(self.node / "file", self.node / "deep" / "link")

    def change(self):
        (self.node / "file").write_bytes(os.urandom(20_000))
        (self.node / "deep" / "file").rename(self.node / "deep" / "renamed")
        (self.node / "new").write_bytes(os.urandom(5000))

    # --- what it reads, and whether that is all

    def test_full_then_incremental(self):
        traps = Traps(self.node, self.storage.unit, self.storage.clones, self.storage.small_files)
        traps.set_up()
        out = ("--exclude", "*.skip", *self.storage.immutable_lies)
        first = self.backup(*out)
        self.assertEqual((first["snapshot_backend"], first["backup"]["consistency"]), (self.storage.kind, "point-in-time"))
        self.assert_restores()
        traps.spring()
        second = self.backup(*out)
        self.assert_read(second, first["backup"]["read_bytes"] // 2, len(traps.untouched) * traps.size)
        self.assertLess(second["backup"]["stored_bytes"], first["backup"]["stored_bytes"] * 2 // 3)
        self.assert_restores()
        third = self.backup("--audit", *out)
        self.assert_read(third, self.storage.read_anyway, len(traps.untouched) * traps.size)
        self.assertLess(third["backup"]["stored_bytes"], 256 << 10)
        self.assert_restores()
        self.assert_only_parent("other snapshots than the parent are left")
        self.ok("verify", self.store, "--data")

    def assert_read(self, document, most, unchanged):
        """`unchanged`: bytes of files that are known not to change."""
        read, data = document["backup"]["read_bytes"], document["backup"]["data_bytes"]
        self.assertEqual(document["parent_missing"] == "", self.storage.tells is not None, "the change list isn't used, or is")
        if self.storage.tells == "ranges":
            self.assertLessEqual(read, most)
        elif self.storage.tells == "files":
            self.assertLessEqual(read, data - unchanged)
        if self.storage.tells:
            self.assertGreater(document["audited_bytes"], 0)

    def test_pages_that_change_are_what_is_read(self):
        pages = (1, 500, 900)
        (self.node / "large").write_bytes(os.urandom(4 * MIB))
        (self.node / "untouched").write_bytes(os.urandom(MIB))
        for number in range(50):
            (self.node / f"small{number}").write_bytes(os.urandom(5000))
        self.backup()
        with open(self.node / "large", "r+b") as file:
            for page in pages:
                file.seek(page * 4096)
                file.write(os.urandom(4096))
        harness.tool("sync", "-f", self.node)
        plan = self.backup("--dry-run")
        result = self.backup()
        self.assert_read(result, len(pages) * self.storage.granule + self.storage.read_anyway, MIB)
        self.assertLess(result["backup"]["stored_bytes"], 128 << 10)
        self.assertEqual(plan["parent_missing"], result["parent_missing"])
        self.assert_restores()

    def test_model(self):
        seed = seed_of_test()
        storage = self.storage
        changes = storage.changes(str(self.node), str(storage.outside) if storage.outside else None, seed,
                                  str(storage.inside[1]) if storage.inside else None)
        log = changes.make(40)
        for number in range(storage.rounds + 1):
            result = self.backup("--exclude", "*.skip", *storage.immutable_lies, *(["--audit"] if number % 2 else []))
            about = f"seed {seed}, round {number}, {result['parent_missing']}:\n" + "\n".join(log) + "\n"
            self.assertEqual(result["parent_missing"] == "", number > 0 and storage.tells is not None, about)
            self.assert_restores(about)
            log += changes.make(changes.random.choice((5, 40)))
        self.assert_only_parent()

    # --- what is in it

    @unittest.skipIf(NO_CGROUPS, NO_CGROUPS)
    def test_a_daemon_that_writes(self):
        self.fill()
        _, child = self.daemon(self.storage.pause_us)
        harness.wait_for(lambda: (self.node / "pages3").exists(), "the daemon's files")
        deep = os.stat(self.node / "deep")
        last = 0
        with self.watch() as watch:
            self.not_held()
            for number in range(self.storage.rounds + 1):
                document = self.held(self.store, *self.storage.making, *self.freezing(child))
                backup = document["backup"]
                self.assertEqual(document["snapshot_backend"], self.storage.kind)
                self.assertGreater(backup["downtime_ms"], 0)
                self.expect_running()
                in_order, said = self.order_of(self.store, backup["id"])
                self.assertTrue(in_order, said)
                self.assertGreater(int(said), last)
                last = int(said)
                if number > 0:
                    self.assertEqual(document["parent_missing"] == "", self.storage.tells is not None)
                if number > 0 and self.storage.tells:
                    self.assertLessEqual(backup["read_bytes"], backup["data_bytes"] - self.storage.unit, "what doesn't change is read again")
            self.assertEqual(watch.seen(), [], "names came and went in the node directory")
        now = os.stat(self.node / "deep")
        self.assertEqual((now.st_mtime_ns, now.st_ctime_ns), (deep.st_mtime_ns, deep.st_ctime_ns))
        self.assertIn("point-in-time", self.ok("list", self.store).out)
        self.nothing_is_left()
        self.assert_only_parent()
        self.ok("verify", self.store, "--data")
        self.end(child)

    def not_held(self):
        if self.storage.atomic:
            document = self.backup()
            self.assertEqual((document["backup"]["consistency"], document["backup"]["downtime_ms"], document["held"]), ("crash-consistent", 0, ""))
            return
        self.refused("backup", self.node, self.store, *self.storage.making, says="open for writing")
        told = self.run_program("backup", self.node, self.store, *self.storage.making, "--accept-inconsistent", "--json",
                                expect=(harness.DONE, harness.WARNINGS))
        self.assertEqual(told.json["backup"]["consistency"], "inconsistent")

    def test_what_is_written_after_the_snapshot_is_not_in_it(self):
        if not self.storage.takes_snapshots:
            return
        self.fill()
        wanted = self.picture()
        child = self.start_program("backup", self.node, self.store, *self.storage.making, *self.storage.no_daemon, program=harness.FAULTS,
                                   environment={"NODESNAP_SIGNAL_AT": "backup.snapshot-recorded", "NODESNAP_SIGNAL": str(int(signal.SIGSTOP))})
        harness.wait_for(lambda: child.poll() is not None or harness.is_stopped(child.pid), "the snapshot")
        self.assertEqual([line for line in Path("/proc/self/mounts").read_text().splitlines() if "nodesnap." in line], [], "others see it")
        self.change()
        child.send_signal(signal.SIGCONT)
        result = self.finish(child)
        self.assertEqual(result.status, harness.DONE, str(result))
        self.assert_restores(wanted=wanted)
        self.backup()
        self.assert_restores()

    def test_what_is_left_out_and_what_lies_below(self):
        self.fill()
        cache = self.node / "cache"
        cache.mkdir()
        (cache / "file").write_bytes(os.urandom(100_000))
        self.backup("--exclude", "/cache")
        self.assert_left_out("cache")
        # What is moved across the border is whole, or gone.
        (cache / "file").rename(self.node / "from the cache")
        (self.node / "deep").rename(cache / "deep")
        self.backup("--exclude", "/cache")
        self.assert_left_out("cache")
        # Other patterns: what they fit is another matter for everything.
        self.backup()
        self.assert_restores()
        mounted = self.node / "mounted"
        mounted.mkdir()
        harness.tool("mount", "-t", "tmpfs", "none", mounted)
        self.stack.callback(self._unmount, mounted)
        self.nested(mounted)
        harness.tool("umount", mounted)
        if self.storage.file_system == "btrfs":
            self.nested(self.subvolume(self.node / "nested"))

    def assert_left_out(self, name):
        self.assert_restores(wanted=self.picture(leaves_out=lambda part: part == name or self.is_left_out(part)))

    def nested(self, below):
        """Refused, with the remedy; which helps."""
        (below / "file").write_bytes(b"of another file system")
        for arguments in (("backup", self.node, self.store), ("snapshot", "create", self.node, "mine")):
            if arguments[0] == "backup" or self.storage.lasting:
                self.refused(*arguments, *self.storage.making, says=f"--exclude /{below.name}")
        self.backup("--exclude", f"/{below.name}")
        self.assert_left_out(below.name)

    # --- what is named, and isn't done

    def test_who_asks_touches_nothing(self):
        self.fill()
        for times in range(2):  # before there is any backup, and after one
            before, stored = self.storage.everything(), hold_case.contents(self.store)
            told = self.run_program("doctor", self.node, "--no-measure", *self.storage.making, "--json").json
            self.assertEqual(told["snapshot_backend"], self.storage.kind)
            self.assertIn(self.storage.kind, [kind["kind"] for kind in told["snapshot_kinds"] if kind["available"]])
            self.assertEqual([finding for finding in told["findings"] if finding["severity"] == "obstacle"], [])
            self.assertIn(self.storage.layout_told, [finding["text"] for finding in told["findings"] if finding["topic"] == "layout"])
            plan = self.backup("--dry-run")
            self.assertEqual((plan["dry_run"], plan["snapshot_backend"]), (True, self.storage.kind))
            self.assertEqual(plan["parent_missing"] == "", times > 0 and self.storage.tells is not None)
            if self.storage.lasting:
                self.assertEqual(len(self.listed()), len(self.storage.left()))
            self.assertEqual(self.storage.everything(), before)
            self.assertEqual(hold_case.contents(self.store), stored)
            if times == 0:
                self.assertEqual(self.storage.left(), [])
                self.assertFalse(self.state.exists())
                self.backup()

    # --- its snapshots

    def test_snapshots_of_an_operator(self):
        self.fill()
        create = ("snapshot", "create", self.node, "mine", *self.storage.making)
        if not self.storage.lasting:
            self.refused(*create, status=(harness.REFUSED, harness.USAGE))
            return
        wanted = self.picture()
        self.ok(*create)
        self.change()
        self.assertEqual([(entry["name"], entry["role"], entry["temporary"]) for entry in self.listed()], [("mine", "operator's", False)])
        with self.storage.view(self.listed()[0]) as seen:
            lines = [line for line in compare.differences(wanted, self.picture(seen)) if ": only in" in line or ": content" in line or ": size" in line]
            self.assertEqual(lines, [])
        self.refused(*create, says="mine")
        # Neither backups nor trim remove it, nor one that a backup was told to keep.
        kept = self.backup("--keep-snapshot")["backup"]["id"]
        self.backup()
        trim = ("snapshot", "trim", self.node, *self.storage.where, "--max-count", "0", "--max-age", "0", "--repository", self.store)
        self.ok(*trim)
        listed = self.listed()
        self.assertEqual(([entry["role"] for entry in listed], listed[0]["name"]), (["operator's"] * 2, "mine"))
        self.assertTrue(kept.startswith(listed[1]["name"][:10]) or listed[1]["name"].startswith(kept[:10]), f"{listed[1]['name']} of {kept}")
        self.assertEqual(len(self.storage.left()), 2)
        for entry in listed:
            self.ok("snapshot", "remove", self.node, entry["name"], *self.storage.where)
        self.refused("snapshot", "remove", self.node, "mine", *self.storage.where, says="mine")
        self.assertEqual((self.listed(), self.storage.left()), ([], []))
        again = self.backup()
        self.assertIn("snapshot trim" if self.storage.tells else "", again["parent_missing"])
        self.assertLess(again["backup"]["stored_bytes"], 256 << 10, "only what differs is stored")
        self.ok(*trim)
        self.assertEqual((self.listed(), self.storage.left()), ([], []))

    def test_a_parent_that_somebody_changed_is_not_believed(self):
        self.fill()
        self.backup()
        for what, (harm, says) in self.storage.harms().items():
            with self.subTest(what):
                parent = self.assert_only_parent()
                harm(parent)
                self.change_pages()
                self.assertIn(says, self.backup("--dry-run")["parent_missing"])
                result = self.backup()
                self.assertIn(says, result["parent_missing"])
                self.assertGreaterEqual(result["backup"]["read_bytes"], self.storage.unit, "contents aren't compared")
                self.assertLess(result["backup"]["stored_bytes"], 128 << 10, "what doesn't differ is stored again")
                self.assert_restores()
                # An operator may still need it: it is the operator's to remove.
                if len(self.storage.left()) > 1:
                    self.storage.remove(parent)
                self.assertEqual(self.backup()["parent_missing"], "")

    def change_pages(self):
        with open(self.node / "file", "r+b") as file:
            file.seek(4096)
            file.write(os.urandom(4096))

    def test_there_and_back_again(self):
        self.fill()
        if not self.storage.lasting:
            return
        self.ok("snapshot", "create", self.node, "first", *self.storage.making)
        first = self.picture()
        self.change()
        second = self.picture()
        rollback = ("rollback", self.node, "first", *self.storage.where)
        if not self.storage.rolls_back:
            self.refused(*rollback)
            self.assert_same(second, self.node)
            return
        done = self.ok(*rollback, "--json").json
        self.assert_same(first, self.node)
        self.change()
        self.ok("rollback", self.node, done["kept_as"], *self.storage.where)
        self.assert_same(second, self.node)
        self.backup()
        self.assert_restores()
        for entry in self.listed():
            self.ok("snapshot", "remove", self.node, entry["name"], *self.storage.where)
        self.assertEqual(self.storage.left(), [])
        self.assert_same(second, self.node)

    # --- what dies

    @unittest.skipIf(NO_CGROUPS, NO_CGROUPS)
    def test_killed_at_any_step(self):
        seed = seed_of_test()
        self.fill()
        cgroup, child = self.daemon(self.storage.pause_us)
        harness.wait_for(lambda: (self.node / "pages3").exists(), "the daemon's files")
        held = (self.store, *self.storage.making, *self.freezing(child))
        self.held(*held)
        steps = self.held_steps(*held)
        with self.watch() as watch:
            for step, nth in self.picked(steps, random.Random(seed)):
                with self.subTest(step=step, nth=nth):
                    died = self.killed_at(f"{step}:{nth}", *held)
                    # How often a step is passed depends on what the daemon writes. Of the guard's steps nodesnap hears, and fails, unless all that
                    # matters is done.
                    certain = step.startswith(OWN_STEPS) and nth == 1
                    self.assertIn(died.status, (-signal.SIGKILL, *(() if certain else (harness.FAILED, harness.DONE, harness.WARNINGS))), str(died))
                    if step != "hold.intent-written":  # then there is no guard yet, and nothing is held: the next hold removes it
                        harness.wait_for(lambda: self.intents() == [], "the guard's end")
                    self.expect_running()
                    self.assertFalse(cgroup.asked_to_freeze())
                    # It may have to undo first what was left behind, and says so.
                    result = self.run_program("backup", self.node, *held, "--json", expect=(harness.DONE, harness.WARNINGS))
                    self.assertEqual(result.json["backup"]["consistency"], "point-in-time", str(result))
                    in_order, said = self.order_of(self.store, result.json["backup"]["id"])
                    self.assertTrue(in_order, said)
                    self.assert_only_parent(str(died))
            self.assertEqual(watch.seen(), [], "names came and went in the node directory")
        self.killed_one_after_another(held)
        document = self.held(*held)
        self.assertEqual(document["parent_missing"] == "", self.storage.tells is not None)
        self.assert_only_parent()
        self.assertEqual(((self.node / "file").stat().st_nlink, (self.node / "untouched.sst").stat().st_nlink), (2, 1 + self.storage.links))
        if self.storage.tells:
            self.assertLessEqual(document["backup"]["read_bytes"], document["backup"]["data_bytes"] - self.storage.unit, "what doesn't change is read again")
        self.nothing_is_left()
        self.ok("verify", self.store, "--data")
        self.end(child)

    def killed_one_after_another(self, held):
        """Each removes what the one before has left, although none comes to its end, where others than its own would be dropped."""
        kept = len(self.storage.left())
        for step in ("snapshot.taken", "backup.snapshot-recorded", "snapshot.taken") if self.storage.takes_snapshots else ():
            self.assertEqual(self.killed_at(step, *held).status, -signal.SIGKILL)
            self.assertEqual(len(self.storage.left()), kept + self.storage.outlives)
            harness.wait_for(lambda: self.intents() == [], "the guard's end")

    def held_steps(self, *arguments):
        listing = self.scratch / "steps"
        self.held(*arguments, program=harness.FAULTS, environment={"NODESNAP_LIST_STEPS": str(listing)})
        return collections.Counter(listing.read_text().split())

    def picked(self, steps, rng):
        own = {step: times for step, times in steps.items() if step.startswith(OWN_STEPS)}
        others = sorted(set(steps) - set(own))
        kills = list(self.kills(own)) if self.storage.every_step else []
        return kills + [(step, rng.randint(1, steps[step])) for step in rng.sample(others if kills else sorted(steps), self.storage.some_steps)]
