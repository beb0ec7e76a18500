"""restore --delta: whatever an existing directory holds, it becomes what a full restore gives, and only what differs is written."""

import errno
import os
import random
import shutil
import signal

import compare
import harness
from changes import Changes
from delta_case import DeltaCase, random_seed
from torture import Torture

ROUNDS = int(os.environ.get("NODESNAP_MODEL_ROUNDS", "4"))
CHANGES = 60


class Delta(DeltaCase):
    def full(self, repository, backup, place):
        self.ok("restore", repository, backup, place)
        return compare.snapshot_of(place, with_allocation=False)

    def delta(self, repository, backup, node, *options, expect=harness.DONE):
        result = self.run_program("restore", repository, backup, node, "--delta", "--json", *options, expect=expect)
        return result.json if result.status == harness.DONE else result

    @staticmethod
    def remove(path):
        if harness.is_subvolume(path):
            harness.tool("btrfs", "subvolume", "delete", path)
        else:
            harness.tool("chattr", "-R", "-f", "-i", "-a", path, check=False)
            shutil.rmtree(path)

    FORECAST = ("basis", "basis_backup", "placed_as", "files", "directories", "others", "bytes", "kept_bytes", "required_bytes", "files_created",
                "files_changed", "files_removed")

    # Where contents are compared, with files of all kinds: btrfs calls unwritten space data in a file that was just cloned, and in place
    # the workers may take names of one inode in another order.
    LOOSE = ("bytes", "kept_bytes", "files_changed")

    def assert_forecast(self, planned, result, message="", but=()):
        names = [name for name in self.FORECAST if name not in but]
        self.assertEqual({name: planned[name] for name in names}, {name: result[name] for name in names}, message)

    # --- whatever was changed

    def model(self, kind, layout, *options, backup_options=(), basis=None):
        seed = random_seed()
        mount = self.file_system(kind, 3072)
        node = self.subvolume(mount / "node") if layout == "subvolume" else mount / "node"
        node.mkdir(exist_ok=True)
        repository = self.repository()
        changes = Changes(str(node), None, seed)
        log = changes.make(2 * CHANGES)
        nodes = {}  # by the id of the backup
        for number in range(ROUNDS):
            made = self.ok("backup", node, repository, *backup_options, "--json").json["backup"]["id"]
            nodes[made] = compare.snapshot_of(node, with_allocation=False)
            log += changes.make(changes.random.choice((1, 5, CHANGES)))
            wanted = changes.random.choice(self.backups(repository))["id"]
            full = self.full(repository, wanted, mount / "full")
            if "--exclude" not in backup_options:  # a backup of what a delta restore made is as good as any
                self.assertEqual(compare.differences(nodes[wanted], full), [], f"seed {seed}")
            planned = self.delta(repository, wanted, node, "--dry-run", *options)
            result = self.delta(repository, wanted, node, *options)
            self.assertEqual(result["basis"], basis, result)
            self.assert_forecast(planned, result, f"seed {seed}, round {number}", but=() if basis == "snapshot" else self.LOOSE)
            self.assert_same(full, node, f"seed {seed}, round {number}:\n" + "\n".join(log) + "\n")
            self.assert_tidy(node)
            self.remove(mount / "full")
            log = changes.make(changes.random.choice((1, 5, CHANGES)))

    def test_model_from_a_snapshot(self):
        self.model("btrfs", "subvolume", basis="snapshot")

    def test_model_from_a_snapshot_with_excludes(self):
        self.model("btrfs", "subvolume", basis="snapshot", backup_options=("--exclude", "*.skip"))

    def test_model_compared(self):
        self.model("btrfs", "subvolume", "--no-snapshot", basis="clone")

    def test_model_of_a_folder(self):
        self.model("btrfs", "folder", basis="clone")

    def test_model_on_xfs(self):
        self.model("xfs", "folder", basis="clone", backup_options=("--snapshot", "none"))

    def test_model_in_place_on_ext4(self):
        self.model("ext4", "folder", "--in-place", basis="in place", backup_options=("--snapshot", "none"))

    def test_model_in_place_on_btrfs(self):
        self.model("btrfs", "subvolume", "--in-place", basis="in place")

    # --- what is written

    @staticmethod
    def data_bytes(path):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            return sum(end - begin for begin, end in compare.allocation(file.fileno(), os.path.getsize(path))[0])

    SPOILT = {"created": 2, "changed": 3, "removed": 3}
    DIFFERS = 100 * 4096 + 3 * (1 << 20) + 20

    def writes_little(self, kind, layout, *options, most=DIFFERS + (1 << 20)):
        mount = self.file_system(kind, 1024)
        node = self.node_with_files(self.subvolume(mount / "node") if layout == "subvolume" else mount / "node")
        repository = self.repository()
        self.ok("backup", node, repository, *(() if kind == "btrfs" else ("--snapshot", "none")))
        wanted = compare.snapshot_of(node, with_allocation=False)
        held = self.data_bytes(node / "pages")
        self.spoil(node)
        planned = self.delta(repository, "latest", node, "--dry-run", *options)
        result = self.delta(repository, "latest", node, *options)
        self.assertLess(result["bytes"], most)
        self.assert_forecast(planned, result)
        self.assert_same(wanted, node)
        self.assertEqual(self.data_bytes(node / "pages"), held, "a hole was filled")
        return node, repository, result, wanted

    @staticmethod
    def counts(result):
        return {name: result[f"files_{name}"] for name in ("created", "changed", "removed")}

    def test_writes_little_from_a_snapshot(self):
        node, repository, result, _ = self.writes_little("btrfs", "subvolume", most=1)
        self.assertEqual(result["basis"], "snapshot")
        self.assertEqual(self.counts(result), {"created": 0, "changed": 0, "removed": 0})
        # The snapshot is still the parent of the next backup.
        again = self.ok("backup", node, repository, "--json").json
        self.assertEqual(again["parent_missing"], "")

    def test_the_backup_after_one_from_an_older_snapshot(self):
        """Nothing that the older snapshot holds was written after the last backup, from which it differs all the same."""
        mount = self.file_system("btrfs", 512)
        node = self.node_with_files(self.subvolume(mount / "node"))
        repository = self.repository()
        older = self.ok("backup", node, repository, "--keep-snapshot", "--json").json["backup"]["id"]
        self.spoil(node)
        newer = self.ok("backup", node, repository, "--json").json["backup"]["id"]
        self.assertEqual(self.delta(repository, older, node)["basis"], "snapshot")
        wanted = compare.snapshot_of(node, with_allocation=False)
        result = self.ok("backup", node, repository, "--json").json
        self.assertEqual((result["backup"]["parent"], result["parent_missing"]), (newer, ""))  # where both come from is known
        self.assertEqual(compare.differences(wanted, self.full(repository, "latest", mount / "full")), [])

    def test_a_symlink_whose_number_was_given_anew(self):
        """It can't become what it is to be: then the directory is compared."""
        mount = self.file_system("btrfs", 512)
        node = self.node_with_files(self.subvolume(mount / "node"))
        repository = self.repository()
        (node / "current").symlink_to("one")
        number = os.lstat(node / "current").st_ino
        older = self.ok("backup", node, repository, "--keep-snapshot", "--json").json["backup"]["id"]
        wanted = compare.snapshot_of(node, with_allocation=False)
        (node / "current").unlink()
        device = harness.tool("findmnt", "-no", "SOURCE", mount).strip()
        harness.tool("umount", mount)
        harness.tool("mount", device, mount)
        (node / "current").symlink_to("two")
        self.assertEqual(os.lstat(node / "current").st_ino, number)
        newer = self.ok("backup", node, repository, "--keep-snapshot", "--json").json["backup"]["id"]
        for entry in self.ok("snapshot", "list", node, "--json").json["snapshots"]:
            if entry["name"].startswith(older):
                self.ok("snapshot", "remove", node, entry["name"])
        self.assertEqual(self.delta(repository, older, node)["basis"], "clone")
        self.assert_same(wanted, node)
        self.assertEqual(self.delta(repository, newer, node)["basis"], "snapshot")

    def test_who_comes_meanwhile_keeps_the_gate_away(self):
        """What a process has done to the directory while it was written, nobody knows."""
        mount = self.file_system("ext4", 512)
        node = self.node_with_files(mount / "node")
        repository = self.repository()
        self.ok("backup", node, repository, "--snapshot", "none")
        wanted = compare.snapshot_of(node, with_allocation=False)
        self.spoil(node)
        child = self.start_program("restore", repository, "latest", node, "--delta", "--in-place", program=harness.FAULTS,
                                   environment={"NODESNAP_SIGNAL_AT": "restore.gates-away", "NODESNAP_SIGNAL": str(int(signal.SIGSTOP))})
        harness.wait_for(lambda: harness.is_stopped(child.pid), "the restore to stop")
        with open(node / "pages", "r+b"):
            child.send_signal(signal.SIGCONT)
            result = self.finish(child)
        self.assertEqual(result.status, harness.REFUSED, str(result))
        self.assertIn("is in use", result.err)
        self.assertFalse((node / "CURRENT").exists())
        # Nobody is advised to throw the gate file away.
        refused = self.run_program("backup", node, repository, "--snapshot", "none", expect=harness.REFUSED)
        self.assertIn("first move its gate file back", refused.err)
        self.assertIn("gate.0", refused.err)
        self.ok("restore", repository, "latest", node, "--delta", "--in-place")
        self.assert_same(wanted, node)

    def test_writes_little_compared(self):
        _, _, result, _ = self.writes_little("btrfs", "subvolume", "--no-snapshot")
        self.assertEqual(self.counts(result), self.SPOILT)

    def test_writes_little_on_xfs(self):
        _, _, result, _ = self.writes_little("xfs", "folder")
        self.assertEqual(self.counts(result), self.SPOILT)

    def test_writes_little_in_place(self):
        _, _, result, _ = self.writes_little("ext4", "folder", "--in-place", most=self.DIFFERS + (2 << 20))
        self.assertGreater(result["kept_bytes"], 30 << 20)
        self.assertEqual(self.counts(result), self.SPOILT)

    def test_a_file_that_is_only_longer_has_changed(self):
        node = self.node_with_files(self.file_system("ext4", 512) / "node")
        repository = self.repository()
        self.ok("backup", node, repository, "--snapshot", "none")
        wanted = compare.snapshot_of(node, with_allocation=False)
        with open(node / "files" / "sst0", "ab") as file:
            file.write(b"more" * 1000)
        result = self.delta(repository, "latest", node, "--in-place")
        self.assertEqual(self.counts(result), {"created": 0, "changed": 1, "removed": 0})
        self.assert_same(wanted, node)

    def test_counts_against_the_snapshot(self):
        """The backup before the last, from the last one's snapshot."""
        node = self.node_with_files(self.subvolume(self.file_system("btrfs", 1024) / "node"))
        repository = self.repository()
        first = self.ok("backup", node, repository, "--json").json["backup"]["id"]
        self.spoil(node)
        self.ok("backup", node, repository)
        planned = self.delta(repository, first, node, "--dry-run")
        result = self.delta(repository, first, node)
        self.assertEqual((planned["basis"], result["basis"]), ("snapshot", "snapshot"))
        self.assertEqual(self.counts(planned), self.SPOILT)
        self.assertEqual(self.counts(result), self.SPOILT)
        text = self.ok("restore", repository, first, node, "--delta", "--dry-run").out
        self.assertIn(": 2 files created, 3 changed, 3 removed", text)
        text = self.ok("restore", repository, first, node, "--delta", "--no-snapshot").out
        self.assertIn("compared block by block: 0 files created, 0 changed, 0 removed", text)

    def test_keeps_the_old(self):
        for kind, layout in (("btrfs", "subvolume"), ("xfs", "folder")):
            with self.subTest(kind=kind):
                mount = self.file_system(kind, 1024)
                node = self.node_with_files(self.subvolume(mount / "node") if layout == "subvolume" else mount / "node")
                repository = self.repository(kind)
                self.ok("backup", node, repository, *(() if kind == "btrfs" else ("--snapshot", "none")))
                self.spoil(node)
                spoiled = compare.snapshot_of(node, with_allocation=False)
                result = self.delta(repository, "latest", node, "--keep-old")
                self.assertEqual(result["old_kept_as"], str(node) + ".before-restore")
                old = compare.snapshot_of(result["old_kept_as"], with_allocation=False)
                old.pop(b"."), spoiled.pop(b".")
                self.assertEqual(compare.differences(spoiled, old), [])
                self.delta(repository, "latest", node, "--keep-old", expect=harness.REFUSED)

    def test_what_cannot_be_counted_is_restored_all_the_same(self):
        node = self.node_with_files(self.file_system("xfs", 1024) / "node")
        repository = self.repository()
        self.ok("backup", node, repository, "--snapshot", "none")
        wanted = compare.snapshot_of(node, with_allocation=False)
        self.spoil(node)
        result = self.run_program("restore", repository, "latest", node, "--delta", "--json", program=harness.FAULTS,
                                  environment={"NODESNAP_FAIL": f"1:{errno.EIO}:getdents", "NODESNAP_FAIL_FROM": "restore.inspected"},
                                  expect=harness.WARNINGS).json
        self.assertIn("can't be told", result["warnings"][0])
        self.assert_same(wanted, node)

    def test_refused(self):
        mount = self.file_system("ext4", 512)
        node = self.node_with_files(mount / "node")
        repository = self.repository()
        self.ok("backup", node, repository, "--snapshot", "none")
        before = compare.snapshot_of(node, with_allocation=False)
        self.assertIn("--in-place", self.delta(repository, "latest", node, expect=harness.REFUSED).err)
        with open(node / "pages", "rb"):
            self.assertIn("in use", self.delta(repository, "latest", node, "--in-place", expect=harness.REFUSED).err)
        self.delta(repository, "latest", node, "--in-place", "--path", "pages", expect=harness.USAGE)
        self.delta(repository, "latest", mount / "node", "--in-place", "--keep-old", expect=harness.USAGE)
        self.run_program("restore", repository, "latest", node, "--in-place", expect=harness.USAGE)
        self.assertEqual(compare.differences(before, compare.snapshot_of(node, with_allocation=False)), [])
        self.assertEqual(self.delta(repository, "latest", mount / "elsewhere")["basis"], "")  # in full
        self.assert_same(compare.snapshot_of(node, with_allocation=False), mount / "elsewhere")

    def test_flags_that_exclude_one_another(self):
        """What is to be compressed can't be nodatacow, and the other way round; and how it is compressed goes with a change of its flags."""
        mount = self.file_system("btrfs", 512)
        node = self.subvolume(mount / "node")
        for name in ("in place", "packed", "unpacked"):
            (node / name).mkdir()
        harness.tool("chattr", "+C", node / "in place")
        harness.tool("chattr", "+d", node / "packed")
        harness.tool("btrfs", "property", "set", node / "packed", "compression", "lzo")
        harness.tool("btrfs", "property", "set", node / "unpacked", "compression", "none")
        (node / "plain").write_bytes(b"neither" * 1000)
        repository = self.repository()
        self.ok("backup", node, repository)
        wanted = compare.snapshot_of(node, with_allocation=False)
        harness.tool("mount", "-o", "remount,compress=zstd", mount)
        self.assert_same(wanted, node)
        self.assertEqual(compare.differences(wanted, self.full(repository, "latest", mount / "full")), [])
        for options in ((), ("--no-snapshot",), ("--in-place",)):
            with self.subTest(options=options):
                harness.tool("chattr", "-C", node / "in place")
                harness.tool("chattr", "+c", node / "in place")
                harness.tool("chattr", "-d", node / "packed")
                harness.tool("btrfs", "property", "set", node / "unpacked", "compression", "zlib")
                harness.tool("chattr", "+m", node / "plain")
                self.delta(repository, "latest", node, *options)
                self.assert_same(wanted, node)

    def test_what_is_sealed_stays_so(self):
        """Looked through for what isn't in the backup, which a snapshot with excludes may hold, and found to hold nothing else."""
        mount = self.file_system("btrfs", 512)
        node = self.subvolume(mount / "node")
        (node / "sealed").mkdir()
        (node / "sealed" / "file").write_bytes(b"inside")
        harness.tool("chattr", "+i", node / "sealed")
        repository = self.repository()
        self.ok("backup", node, repository, "--exclude", "*.skip")
        wanted = compare.snapshot_of(node, with_allocation=False)
        for options in ((), ("--no-snapshot",), ("--in-place",)):
            with self.subTest(options=options):
                (node / "new").write_bytes(b"new")
                self.delta(repository, "latest", node, *options)
                self.assert_same(wanted, node)

    # --- what the dry run says

    def node_of_all_kinds(self, place, cow):
        place.mkdir(exist_ok=True)
        for name, size in (("grows", 5000), ("shrinks", 300_000), ("is_same", 100_001), ("is_replaced", 70_000), ("is_split", 9000), ("joined_a", 9000),
                           ("joined_b", 9000), ("is_linked", 50_000), ("is_removed", 40_000), ("small", 100), ("small_same", 100), ("now_small", 100),
                           ("now_large", 90_000), ("empty", 0), ("filled", 0), ("emptied", 5000), ("CURRENT", 30_000), ("PG_VERSION", 3)):
            (place / name).write_bytes(os.urandom(size))
        (place / "below").mkdir()
        (place / "below" / "in_a_folder").write_bytes(os.urandom(20_000))
        for name in ("is_split", "is_same"):
            os.link(place / name, place / f"{name}.link")
        os.link(place / "grows", place / "below" / "another_name")
        if not cow:
            for name, size in (("in_place", 50_000), ("small_in_place", 100)):
                (place / name).touch()
                harness.tool("chattr", "+C", place / name)
                (place / name).write_bytes(os.urandom(size))
        for name in ("sparse", "to_be_sparse"):
            with open(place / name, "wb") as file:
                for offset in (0, 1 << 20, 5 << 20):
                    file.seek(offset)
                    file.write(os.urandom(200_000))
                file.truncate(8 << 20)

    def change_all_kinds(self, place, cow):
        # A new number for each file that is replaced.
        def replace(name, content):
            (place / "new").write_bytes(content)
            os.rename(place / "new", place / name)

        with open(place / "grows", "r+b") as file:
            file.truncate(3001)
        with open(place / "shrinks", "ab") as file:
            file.write(os.urandom(10_000))
        replace("is_replaced", (place / "is_replaced").read_bytes())
        replace("is_split", os.urandom(9000))
        (place / "joined_b").unlink()
        os.link(place / "joined_a", place / "joined_b")
        os.link(place / "is_linked", place / "below" / "foreign")
        (place / "is_removed").unlink()
        (place / "is_new").write_bytes(os.urandom(60_000))
        (place / "new_folder").mkdir()
        (place / "new_folder" / "file").write_bytes(os.urandom(100))
        replace("small", os.urandom(100))
        (place / "now_small").write_bytes(os.urandom(90_000))
        (place / "now_large").write_bytes(os.urandom(100))
        (place / "filled").write_bytes(os.urandom(5000))
        (place / "emptied").write_bytes(b"")
        with open(place / "CURRENT", "r+b") as file:
            file.write(os.urandom(100))
        with open(place / "sparse", "r+b") as file:
            file.seek(3 << 20)
            file.write(os.urandom(300_000))
        harness.tool("fallocate", "--punch-hole", "--offset", 1 << 20, "--length", 65536, place / "to_be_sparse")
        if not cow:
            for name in ("in_place", "small_in_place"):
                content = (place / name).read_bytes()
                os.truncate(place / name, 0)
                harness.tool("chattr", "-C", place / name)
                (place / name).write_bytes(content)

    def forecast(self, kind, layout, *options, basis):
        mount = self.file_system(kind, 1024)
        node = self.subvolume(mount / "node") if layout == "subvolume" else mount / "node"
        cow = kind != "btrfs"
        self.node_of_all_kinds(node, cow)
        repository = self.repository()
        backup_options = () if kind == "btrfs" else ("--snapshot", "none")
        first = self.ok("backup", node, repository, *backup_options, "--json").json["backup"]["id"]
        wanted = compare.snapshot_of(node, with_allocation=False)
        self.change_all_kinds(node, cow)
        if basis == "snapshot":
            self.ok("backup", node, repository)  # whose snapshot takes the place of the first one's
        planned = self.delta(repository, first, node, "--dry-run", *options)
        result = self.delta(repository, first, node, *options)
        self.assertEqual(result["basis"], basis)
        self.assertGreater(min(result[f"files_{what}"] for what in ("created", "changed", "removed")), 0)
        self.assert_forecast(planned, result)
        self.assert_same(wanted, node)

    def test_the_dry_run_says_the_same_from_a_snapshot(self):
        self.forecast("btrfs", "subvolume", basis="snapshot")

    def test_the_dry_run_says_the_same_of_a_clone(self):
        self.forecast("btrfs", "subvolume", "--no-snapshot", basis="clone")

    def test_the_dry_run_says_the_same_on_xfs(self):
        self.forecast("xfs", "folder", basis="clone")

    def test_the_dry_run_says_the_same_in_place(self):
        self.forecast("ext4", "folder", "--in-place", basis="in place")

    def test_the_dry_run_says_the_same_in_place_on_btrfs(self):
        self.forecast("btrfs", "subvolume", "--in-place", basis="in place")

    # --- everything that a file system can hold

    def torture(self, kind, layout, *options, backup_options=()):
        mount = self.file_system(kind, 3072)
        node = self.subvolume(mount / "node") if layout == "subvolume" else mount / "node"
        node.mkdir(exist_ok=True)
        Torture(node, kind).make()
        repository = self.repository()
        self.ok("backup", node, repository, *backup_options)
        full = self.full(repository, "latest", mount / "full")
        Changes(str(node), None, random_seed()).make(100)
        self.delta(repository, "latest", node, *options)
        self.assert_same(full, node)

    def test_torture_from_a_snapshot(self):
        self.torture("btrfs", "subvolume")

    def test_torture_compared(self):
        self.torture("btrfs", "subvolume", "--no-snapshot")

    def test_torture_in_place(self):
        self.torture("ext4", "folder", "--in-place", backup_options=("--snapshot", "none"))

    # --- killed

    def killed_at_each_step(self, kind, layout, *options):
        node, repository, wanted, full = self.backed_up_twice(kind, layout)
        steps = self.steps_of("restore", repository, wanted, node, "--delta", *options)
        self.assert_same(full, node)
        self.assertGreater(len(steps), 4)
        for step, nth in self.kills(steps):
            with self.subTest(step=step, nth=nth):
                self.ok("restore", repository, "latest", node, "--delta", *options)
                result = self.run_program("restore", repository, wanted, node, "--delta", *options, program=harness.FAULTS,
                                          environment={"NODESNAP_SIGNAL_AT": f"{step}:{nth}"})
                self.assertIn(result.status, (-9,) if nth == 1 else (-9, harness.DONE), str(result))
                if "--in-place" not in options:
                    found = (node / "CURRENT").read_bytes()  # the one or the other, whole
                    self.assertEqual(len(os.listdir(node / "files")), 20 if found.endswith(b"1\n") else 21)
                elif result.status == -9 and step not in ("restore.inspected", "restore.placed", "restore.staged", "file.synced", "file.renamed"):
                    for dry in ([], ["--dry-run"]):
                        refused = self.run_program("backup", node, repository, "--snapshot", "none", *dry, expect=harness.REFUSED)
                        self.assertIn("holds an unfinished restore", refused.err)
                    self.assertFalse((node / "CURRENT").exists(), f"{step}: a gate file is there")
                self.ok("restore", repository, wanted, node, "--delta", *options)
                self.assert_same(full, node)
                self.assert_tidy(node)

    # --- and failed

    def failed_at_many_operations(self, kind, layout, *options):
        """An operation fails, once or all from there on; the directory is the old or the new one, and the next run makes it the new one."""
        chance = random.Random(random_seed())
        node, repository, wanted, full = self.backed_up_twice(kind, layout)
        failures = 0
        for error in (5, 28):
            nth, over = 1, False
            while not over:
                with self.subTest(error=error, nth=nth):
                    self.ok("restore", repository, "latest", node, "--delta", *options)
                    before = compare.snapshot_of(node, with_allocation=False)
                    for_good = "+" if chance.random() < 0.5 else ""
                    result = self.run_program("restore", repository, wanted, node, "--delta", *options, program=harness.FAULTS,
                                              environment={"NODESNAP_FAIL": f"{nth}{for_good}:{error}"})
                    self.assertIn(result.status, range(7), str(result))
                    self.assertNotEqual(result.status, harness.USAGE, str(result))
                    found = compare.snapshot_of(node, with_allocation=False)
                    if result.status == harness.DONE:
                        self.assertEqual(compare.differences(full, found), [], str(result))
                    elif "--in-place" not in options and result.status != harness.WARNINGS:
                        self.assertIn([], (compare.differences(before, found), compare.differences(full, found)), str(result))
                    failures += result.status != harness.DONE
                    self.ok("restore", repository, wanted, node, "--delta", *options)
                    self.assert_same(full, node)
                    self.assert_tidy(node)
                nth += chance.randint(1, 8 + nth // 3)
                over = nth > 1500
        self.assertGreater(failures, 10)
        print(f"{failures} failures")

    def test_failed_from_a_snapshot(self):
        self.failed_at_many_operations("btrfs", "subvolume")

    def test_failed_compared(self):
        self.failed_at_many_operations("btrfs", "subvolume", "--no-snapshot")

    def test_failed_in_place(self):
        self.failed_at_many_operations("ext4", "folder", "--in-place")

    def test_killed_from_a_snapshot(self):
        self.killed_at_each_step("btrfs", "subvolume")

    def test_killed_compared(self):
        self.killed_at_each_step("btrfs", "subvolume", "--no-snapshot")

    def test_killed_on_xfs(self):
        self.killed_at_each_step("xfs", "folder")

    def test_killed_in_place(self):
        self.killed_at_each_step("ext4", "folder", "--in-place")


if __name__ == "__main__":
    harness.main()
