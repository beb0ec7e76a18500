"""A backup that is cut off is gone on with: nothing that is stored is read again, and the result is that of one that wasn't."""

import contextlib
import errno
import json
import os
import random
import shutil
import signal
from pathlib import Path

import compare
import harness

MIB = 1 << 20
OVERHEAD = 2 * MIB  # of more and smaller packs
WORKERS = ("--workers", "1")  # so that it is known which pack is closed when


class Resume(harness.Case):
    def node_of(self, mount, seed=1):
        """About 400 MiB: files that are stored as a whole, with attributes and several names, and large ones with holes and unwritten parts."""
        chance = random.Random(seed)
        node = self.subvolume(mount / "node")
        (node / "small").mkdir()
        for number in range(6000):
            path = node / "small" / f"{number:05}"
            path.write_bytes(chance.randbytes(chance.choice((100, 2000, 5000, 16000, 30000))))
            if number % 50 == 0:
                os.setxattr(path, "user.short", b"x" * 100)
                os.setxattr(path, "user.long", chance.randbytes(3000))
                os.link(path, node / f"link{number}")
        for number in range(4):
            with open(node / f"large{number}", "wb") as file:
                for _ in range(75):
                    file.write(chance.randbytes(MIB))
                file.seek(5 * MIB + 4096, os.SEEK_CUR)
                file.write(chance.randbytes(777))
        harness.tool("fallocate", "--keep-size", "-o", 300 * MIB, "-l", MIB, node / "large1")
        (node / "CURRENT").write_bytes(b"MANIFEST-1\n")
        return node

    @staticmethod
    def change(node, seed):
        chance = random.Random(seed)
        for number in range(4):
            with open(node / f"large{number}", "r+b") as file:
                for _ in range(2500):
                    file.seek(chance.randrange(75 * 256) * 4096)
                    file.write(chance.randbytes(4096))
        for number in range(0, 6000, 7):
            (node / "small" / f"{number:05}").write_bytes(chance.randbytes(9000))
        (node / f"new{seed}").write_bytes(chance.randbytes(100 * MIB))
        with open(node / "large0", "r+b") as file:
            file.truncate(60 * MIB)

    def killed(self, step, *arguments, signal="9"):
        result = self.run_program("backup", *arguments, *WORKERS, program=harness.FAULTS,
                                  environment={"NODESNAP_SIGNAL_AT": step, "NODESNAP_SIGNAL": signal})
        self.assertEqual(result.status, -9 if signal == "9" else harness.FAILED, f"not at {step}: {result}")
        return result

    def left(self, mount, repository):
        """Snapshots of its backups, and what is in its journal."""
        mark = "-" + json.loads((repository / "repository.json").read_text())["repository"][:8]
        found = [entry["name"] for entry in self.ok("snapshot", "list", mount / "node", "--json").json["snapshots"] if entry["name"].endswith(mark)]
        return found, sorted(path.name for path in (repository / "journal").iterdir())

    @staticmethod
    def stored_bytes(repository):
        return sum(pack.stat().st_size for kind in ("packs", "nodes") for pack in (repository / kind).rglob("*.pack"))

    def goes_on(self, mount, repository, wanted, before=0):
        """The next backup resumes: what it stores besides is what was missing, and it restores to what the node was."""
        result = self.ok("backup", mount / "node", repository, *WORKERS, "--json").json
        self.assertTrue(result["resumed"])
        self.assertGreater(result["resumed_bytes"], 0)
        totals = result["backup"]
        restored = mount / f"restored{len(os.listdir(mount))}"
        self.ok("restore", repository, "latest", restored)
        self.assertEqual(compare.differences(wanted, compare.snapshot_of(restored)), [])
        shutil.rmtree(restored)
        self.ok("verify", repository, "--data")
        # Only the snapshot of this backup is left, under its name.
        snapshots, journal = self.left(mount, repository)
        self.assertEqual(len(snapshots), 1)
        self.assertTrue(snapshots[0].startswith(totals["id"]))
        self.assertEqual(journal, [])
        self.assertEqual(len(self.backups(repository)), before + 1)
        sessions = {backup["id"] for backup in self.backups(repository)}
        for kind in ("packs", "nodes"):
            for pack in (repository / kind).rglob("*.pack"):
                self.assertIn(pack.name[2:24], sessions)
        return result

    def test_killed(self):
        mount = self.file_system("btrfs", 3072)
        node = self.node_of(mount)
        golden = mount / "golden"
        harness.tool("btrfs", "subvolume", "snapshot", "-r", node, golden)
        whole = self.repository("whole")
        self.ok("backup", node, whole, *WORKERS, "--drop-snapshot")
        for step in ("drain.pack-logged:1", "drain.pack-logged:2", "drain.pack-sealed:3", "drain.data-durable", "drain.metadata-durable",
                     "backup.before-publish"):
            with self.subTest(step=step):
                harness.tool("btrfs", "subvolume", "delete", node)
                harness.tool("btrfs", "subvolume", "snapshot", golden, node)
                wanted = compare.snapshot_of(node)
                repository = self.repository(step.replace(":", "-"))
                self.killed(step, node, repository)
                self.assertEqual(self.backups(repository), [])
                self.ok("verify", repository)
                self.change(node, 3)  # the resumed backup is of the time of its snapshot
                self.goes_on(mount, repository, wanted)
                # What no log tells of is removed before it is stored again.
                self.assertLess(self.stored_bytes(repository), self.stored_bytes(whole) + OVERHEAD)
                # Then an incremental one, which has the resumed one as its parent.
                later = self.ok("backup", node, repository, *WORKERS, "--drop-snapshot", "--json").json
                self.assertFalse(later["resumed"])
                self.assertEqual(later["parent_missing"], "")
                self.ok("restore", repository, "latest", mount / "later")
                self.assertEqual(compare.differences(compare.snapshot_of(node), compare.snapshot_of(mount / "later")), [])
                shutil.rmtree(mount / "later")

    def backed_up_and_changed(self):
        mount = self.file_system("btrfs", 3072)
        node = self.node_of(mount)
        repository = self.repository()
        parent = self.ok("backup", node, repository, *WORKERS, "--json").json["backup"]["id"]
        self.change(node, 5)
        return mount, node, repository, parent, compare.snapshot_of(node)

    def test_interrupted_incremental(self):
        """What it builds on is kept from forget and prune until it is done."""
        mount, node, repository, parent, wanted = self.backed_up_and_changed()
        result = self.killed("drain.pack-logged", node, repository, signal="2")
        self.assertIn("goes on from there", result.err)
        self.change(node, 6)
        self.ok("verify", repository)
        plan = self.run_program("forget", repository, parent, "--allow-newest", "--allow-mass-expire", "--prune")
        self.assertEqual(plan.status, harness.WARNINGS, str(plan))
        self.assertEqual([backup["id"] for backup in self.backups(repository)], [parent])
        self.ok("prune", repository)
        self.ok("repair", repository)
        self.ok("pin", repository, parent)
        self.assertNotEqual(self.left(mount, repository)[1], [])
        result = self.goes_on(mount, repository, wanted, 1)
        self.assertEqual(result["backup"]["parent"], parent)
        self.assertEqual(result["parent_missing"], "")

    def test_parent_snapshot_lost(self):
        """Then contents are compared, but for what is stored."""
        mount, node, repository, parent, wanted = self.backed_up_and_changed()
        self.killed("drain.pack-logged", node, repository)
        names = [entry["name"] for entry in self.ok("snapshot", "list", node, "--json").json["snapshots"]]
        self.ok("snapshot", "remove", node, next(name for name in names if name.startswith(parent)))
        result = self.goes_on(mount, repository, wanted, 1)
        self.assertNotEqual(result["parent_missing"], "")
        self.assertLess(result["backup"]["stored_bytes"], 200 * MIB)

    def test_killed_again_and_again(self):
        """At each step of going on, twice at each; each run keeps what the one before had."""
        mount = self.file_system("btrfs", 3072)
        node = self.node_of(mount)
        wanted = compare.snapshot_of(node)
        # Once where what is passed isn't passed again: the backup is suspended then, or has no pack more to log.
        for step, times in (("session.void-created", 2), ("session.suspended", 1), ("session.resumed", 2), ("session.marked", 2),
                            ("drain.range-read:100", 2), ("drain.pack-sealed:1", 2), ("drain.pack-logged:1", 1), ("drain.metadata-durable", 2)):
            repository = self.repository(step.replace(":", "-"))
            self.killed("drain.pack-logged", node, repository)
            for _ in range(times):
                with self.subTest(step=step):
                    self.killed(step, node, repository)
                    self.ok("verify", repository)
            with self.subTest(step=step):
                self.goes_on(mount, repository, wanted)

    def cut_off_incremental(self):
        mount = self.file_system("btrfs", 3072)
        node = self.node_of(mount)
        repository = self.repository()
        self.ok("backup", node, repository, *WORKERS)
        packs = list((repository / "packs").rglob("*.pack"))
        self.change(node, 1)
        self.killed("drain.pack-logged", node, repository)
        return node, repository, packs

    def test_a_full_backup_begins_anew_where_the_other_builds_on_an_earlier_one(self):
        node, repository, _ = self.cut_off_incremental()
        result = self.ok("backup", node, repository, *WORKERS, "--full", "--json").json
        self.assertFalse(result["resumed"])
        self.assertIsNone(result["backup"]["parent"])

    def test_what_goes_on_refers_to_what_is_damaged_and_the_next_stores_it_anew(self):
        node, repository, packs = self.cut_off_incremental()
        for pack in packs:
            with open(pack, "r+b") as file:
                file.seek(pack.stat().st_size // 2)
                file.write(b"damage" * 4096)
        self.run_program("verify", repository, "--data", expect=harness.DAMAGED)
        result = self.run_program("backup", node, repository, *WORKERS, "--json", expect=harness.WARNINGS).json
        self.assertTrue(result["resumed"])
        self.assertIn("does so too", str(result["warnings"]))
        healed = self.run_program("backup", node, repository, *WORKERS, "--json", expect=harness.WARNINGS).json
        self.assertIn("missing or damaged", healed["parent_missing"])
        self.ok("verify", repository, "latest", "--data")

    def test_gives_up_what_comes_no_further(self):
        mount = self.file_system("btrfs", 3072)
        node = self.node_of(mount)
        repository = self.repository()
        self.killed("drain.pack-logged", node, repository)
        for _ in range(4):
            self.killed("drain.range-read:100", node, repository)
        result = self.ok("backup", node, repository, *WORKERS, "--json").json
        self.assertFalse(result["resumed"])
        self.assertEqual(self.left(mount, repository)[1], [])
        self.ok("verify", repository, "--data")

    def test_sleeper(self):
        """One that was stopped, and wakes after another went on with its backup and published it, changes nothing."""
        mount = self.file_system("btrfs", 3072)
        node = self.node_of(mount)
        wanted = compare.snapshot_of(node)
        for step in ("drain.pack-sealed:3", "drain.pack-logged:1", "drain.metadata-durable", "publish.checked"):
            with self.subTest(step=step):
                repository = self.repository(step.replace(":", "-"))
                sleeper = self.start_program("backup", node, repository, *WORKERS, "--lock-lease", "1s", program=harness.FAULTS,
                                             environment={"NODESNAP_SIGNAL_AT": step, "NODESNAP_SIGNAL": "19"})
                harness.wait_for(lambda pid=sleeper.pid: harness.is_stopped(pid), f"the stop at {step}")
                result = self.ok("backup", node, repository, *WORKERS, "--wait-lock", "1m", "--json").json
                self.assertTrue(result["resumed"])
                sleeper.send_signal(signal.SIGCONT)
                self.assertEqual(self.finish(sleeper).status, harness.LOCKED)
                self.ok("verify", repository, "--data")
                self.ok("restore", repository, "latest", mount / "restored")
                self.assertEqual(compare.differences(wanted, compare.snapshot_of(mount / "restored")), [])
                shutil.rmtree(mount / "restored")
                (snapshot,), _ = self.left(mount, repository)
                self.assertTrue(snapshot.startswith(result["backup"]["id"]))
                # The log that it was about to complete may be there now, of a session that is gone: the next run sweeps it.
                self.assertEqual(self.ok("backup", node, repository, *WORKERS, "--json").json["parent_missing"], "")
                _, journal = self.left(mount, repository)
                self.assertEqual(journal, [])

    def test_full_target(self):
        mount = self.file_system("btrfs", 3072)
        node = self.node_of(mount)
        wanted = compare.snapshot_of(node)
        target = self.file_system("ext4", 700, "target")
        ballast = target / "ballast"
        with open(ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, 340 * MIB)
        repository = target / "repository"
        self.ok("init", repository, "--node", "node1")
        result = self.run_program("backup", node, repository, *WORKERS)
        self.assertEqual(result.status, harness.FAILED, str(result))
        self.assertIn(os.strerror(errno.ENOSPC), result.err)
        self.assertIn("goes on from there", result.err)
        ballast.unlink()
        self.goes_on(mount, repository, wanted)

    def test_a_full_target_costs_nothing_however_often_it_is_tried(self):
        """Also where not even the end of a run can be noted, and where all that is missing is the manifest."""
        for left_free in (40 * MIB, 0):
            with self.subTest(left_free=left_free):
                mount = self.file_system("btrfs", 3072)
                node = self.node_of(mount)
                wanted = compare.snapshot_of(node)
                target = self.file_system("ext4", 700, f"target{left_free}")
                repository = target / "repository"
                self.ok("init", repository, "--node", "node1")
                self.killed("drain.pack-logged", node, repository)
                self.killed("drain.begun", node, repository)  # packs that no log tells of have gone, so that they make no room later
                stored = self.stored_bytes(repository)
                self.mount_anew(target)
                ballast = target / "ballast"
                with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
                    for size in (MIB, 4096):
                        while os.statvfs(target).f_bfree * 4096 > left_free + size:
                            file.write(bytes(size))
                for attempt in range(4):
                    result = self.run_program("backup", node, repository, *WORKERS)
                    self.assertEqual(result.status, harness.FAILED, str(result))
                    self.assertIn(os.strerror(errno.ENOSPC), result.err, f"attempt {attempt}")
                ballast.unlink()
                self.assertGreaterEqual(self.stored_bytes(repository), stored)
                self.assertGreaterEqual(self.goes_on(mount, repository, wanted)["resumed_bytes"], 20 * MIB)

    def check_incomplete(self, node_as_it_was, repository, restored):
        """What is told as lost is all that is missing: the rest is byte for byte what it was, and the backup is whole in itself."""
        self.ok("verify", repository, "--data")
        backup = self.backups(repository)[-1]
        result = self.run_program("restore", repository, backup["id"], restored, "--accept-incomplete", "--json",
                                  expect=harness.DONE if backup["state"] == "good" else harness.WARNINGS).json
        lost = {}
        for part in result["lost"]:
            lost.setdefault(part["path"], []).append((part["offset"], part["offset"] + part["length"]))
        for path in (path for path in sorted(node_as_it_was.rglob("*")) if path.is_file()):
            name = str(path.relative_to(node_as_it_was))
            if not (restored / name).exists():
                self.assertTrue({str(above) for above in Path(name).parents} & set(lost), f"{name} is missing: {lost}")
                continue
            wanted, found = path.read_bytes(), (restored / name).read_bytes()
            if (0, 0) in lost.get(name, []):
                continue  # it isn't known what is missing
            if name not in lost:
                self.assertTrue(wanted == found, name)
            at = 0
            for begin, end in [*lost.get(name, []), (len(found), len(found))]:
                self.assertTrue(wanted[at:begin] == found[at:begin], f"{name} differs between {at} and {begin}, lost: {lost}")
                at = end
        return lost

    def test_unreadable_when_gone_on(self):
        """A file of which parts are stored can't be opened when the backup goes on: the parts stay, and all else of it is told as lost."""
        chance = random.Random(11)
        mount = self.file_system("btrfs", 2048)
        node = self.subvolume(mount / "node")
        with open(node / "large", "wb") as file:
            for number in range(300):
                file.seek(MIB if number == 130 else 0, os.SEEK_CUR)
                file.write(chance.randbytes(MIB))
        repository = self.repository()
        self.killed("drain.pack-logged:2", node, repository)
        result = self.run_program("backup", node, repository, *WORKERS, "--skip-unreadable", "--json", program=harness.FAULTS,
                                  environment={"NODESNAP_FAIL": f"1+:{errno.EIO}:getflags"}, expect=harness.WARNINGS).json
        self.assertTrue(result["resumed"])
        self.assertEqual(result["backup"]["unreadable_files"], 2)  # the directory itself, too
        lost = self.check_incomplete(node, repository, mount / "restored")
        self.assertIn("large", lost)
        self.assertGreater((mount / "restored" / "large").stat().st_size, 200 * MIB)

    def test_extents_unreadable_when_gone_on(self):
        """Its extents can't be told when the backup goes on: what is stored isn't read again."""
        chance = random.Random(12)
        mount = self.file_system("btrfs", 2048)
        node = self.subvolume(mount / "node")
        (node / "large").write_bytes(b"".join(chance.randbytes(MIB) for _ in range(300)))
        repository = self.repository()
        self.killed("drain.pack-logged:2", node, repository)
        result = self.run_program("backup", node, repository, *WORKERS, "--skip-unreadable", "--json", program=harness.FAULTS,
                                  environment={"NODESNAP_FAIL": f"1+:{errno.EIO}:fiemap"}, expect=harness.WARNINGS).json
        self.assertGreater(result["resumed_bytes"], 128 * MIB)
        self.assertEqual(result["backup"]["read_bytes"], 300 * MIB)
        self.check_incomplete(node, repository, mount / "restored")

    def test_unreadable_names_when_gone_on(self):
        """Whatever can't be opened or listed, by a drain that goes on or takes over: no file without a name, no name without its file."""
        chance = random.Random(13)
        mount = self.file_system("btrfs", 2048)
        node = self.subvolume(mount / "node")
        for folder in ("a", "b/c"):
            (node / folder).mkdir(parents=True)
            for number in range(5):
                (node / folder / f"small{number}").write_bytes(chance.randbytes(9000))
            (node / folder / "large").write_bytes(chance.randbytes(70 * MIB))
        failures = [(number, point) for point, most in (("getdents", 5), ("open_inode", 4), ("getflags", 3)) for number in range(1, most + 1)]
        told = set()
        for whole in (True, False):
            for number, point in failures:
                with self.subTest(whole=whole, number=number, point=point):
                    repository = self.repository(f"{whole}-{number}-{point}")
                    if not whole:
                        self.ok("backup", node, repository, *WORKERS)
                        for folder in ("a", "b/c"):
                            (node / folder / "large").write_bytes(chance.randbytes(70 * MIB))
                            (node / folder / f"new{number}").write_bytes(chance.randbytes(9000))
                        (node / "b" / "c" / "small3").write_bytes(chance.randbytes(9000))
                        names = sorted([node / "a" / "moved", node / "b" / "c" / "small4"], key=lambda path: not path.exists())
                        names[0].rename(names[1])
                    self.killed("drain.pack-logged", node, repository)
                    result = self.run_program("backup", node, repository, *WORKERS, "--skip-unreadable", "--json", program=harness.FAULTS,
                                              environment={"NODESNAP_FAIL": f"{number}:{errno.EIO}:{point}", "NODESNAP_FAIL_FROM": "drain.logs-read"})
                    if result.status == harness.WARNINGS:
                        anew = any("below a directory cannot be told" in warning for warning in result.json["warnings"])
                        told.add("names" if anew else "file")
                        self.check_incomplete(node, repository, mount / "restored")
                        shutil.rmtree(mount / "restored")
                    elif result.status == harness.FAILED:  # the repository's
                        self.assertIn(str(repository), result.err)
                    else:
                        self.assertEqual(result.status, harness.DONE, str(result))
                        self.ok("verify", repository, "--data")
                    for name in self.left(mount, repository)[0]:
                        self.ok("snapshot", "remove", node, name)
                    shutil.rmtree(repository)
        self.assertEqual(told, {"names", "file"})

    def test_begins_anew(self):
        """Where it can't or mustn't be gone on with: what is left is cleared up, and the summary says why."""
        mount = self.file_system("btrfs", 3072)
        node = self.node_of(mount)

        def flip(name):
            path = next(path for path in sorted((repository / "journal").iterdir()) if path.name.endswith(name))
            content = bytearray(path.read_bytes())
            content[len(content) // 3] ^= 1
            path.write_bytes(content)

        def lose_a_pack():
            log = next(path for path in (repository / "journal").iterdir() if path.name.endswith(".log"))
            next((repository / "packs").rglob(f"{log.stem}.*")).unlink()

        def lose_the_first_log():
            logs = sorted((path.stat().st_mtime_ns, path) for path in (repository / "journal").glob("*.log"))
            logs[0][1].unlink()

        def lose_all_logs():
            for log in (repository / "journal").glob("*.log"):
                log.unlink()

        def lose_the_snapshot():
            (name,) = self.left(mount, repository)[0]
            self.ok("snapshot", "remove", node, name)

        repository = None
        for number, (spoil, options, reason) in enumerate((
                (lambda: None, ("--no-resume",), "--no-resume"),
                (lose_all_logs, (), "its first checkpoint"),
                (lambda: None, ("--exclude", "link*"), "other names are excluded"),
                (lambda: flip(".log"), (), "journal/"),
                (lose_a_pack, (), "pack"),
                (lose_the_first_log, (), "the log before it is missing"),
                (lose_the_snapshot, (), "snapshot is gone"))):
            with self.subTest(reason=reason):
                repository = self.repository(f"repository{number}")
                self.killed("drain.pack-logged:2", node, repository)
                spoil()
                result = self.ok("backup", node, repository, "--drop-snapshot", *options, "--json").json
                self.assertFalse(result["resumed"])
                self.assertIn(reason, result["resume_refused"])
                self.assertEqual(len(self.backups(repository)), 1)
                self.assertEqual(self.left(mount, repository), ([], []))
                self.ok("verify", repository, "--data")


if __name__ == "__main__":
    harness.main()
