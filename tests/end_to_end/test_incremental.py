"""Incremental backups on btrfs: whatever was changed, each backup is what the node was; and it costs what was changed."""

import contextlib
import fcntl
import os
import random
import shutil
import signal
import threading
from pathlib import Path

import compare
import harness
from changes import Changes

ROUNDS = int(os.environ.get("NODESNAP_MODEL_ROUNDS", "6"))
CHANGES = 60


class Incremental(harness.Case):
    def backup(self, node, repository, *options):
        return self.ok("backup", node, repository, *options, "--json").json

    def assert_restores(self, repository, node, mount, excluded=lambda name: False, message=""):
        restored = mount / "restored"
        self.ok("restore", repository, "latest", restored)
        lines = compare.differences(compare.named_below(node, excluded), compare.named_below(restored, excluded))
        self.assertEqual(lines, [], message + "\n".join(lines[:40]))
        harness.tool("btrfs", "subvolume", "delete", restored)

    def model(self, layout, *options):
        seed = int(os.environ.get("NODESNAP_SEED", random.SystemRandom().randrange(1 << 32)))
        print(f"seed {seed}")
        mount = self.file_system("btrfs", 3072)
        if layout == "folder":
            node, outside = mount / "node", mount / "outside"
            node.mkdir()
            outside.mkdir()
        else:
            node, outside = self.subvolume(mount / "node"), None
        repository = self.repository()
        changes = Changes(str(node), str(outside) if outside else None, seed)
        log = changes.make(2 * CHANGES)
        excluded = (lambda name: name.endswith(".skip")) if "--exclude" in options else (lambda name: False)
        for number in range(ROUNDS):
            plan = self.backup(node, repository, *options, "--dry-run")
            result = self.backup(node, repository, *options)
            self.assertEqual((plan["read_bytes"], plan["parent"] or None, plan["parent_missing"]),
                             (result["backup"]["read_bytes"], result["backup"]["parent"], result["parent_missing"]), f"seed {seed}, round {number}")
            self.assertEqual(result["backup"]["parent"] is not None, number > 0)
            self.assertEqual(result["parent_missing"] == "", number > 0 and "--drop-snapshot" not in options)
            self.assert_restores(repository, node, mount, excluded, f"seed {seed}, round {number}:\n" + "\n".join(log) + "\n")
            self.ok("verify", repository, "--data")
            log = changes.make(changes.random.choice((1, 5, CHANGES)))
        self.assertEqual(len(os.listdir(mount / ".nodesnap")), 0 if "--drop-snapshot" in options else 1, "other snapshots than the parent are left")

    def test_model_with_forget_and_prune(self):
        """Whatever is forgotten and pruned, each backup that is left is what the node was then."""
        seed = int(os.environ.get("NODESNAP_SEED", random.SystemRandom().randrange(1 << 32)))
        print(f"seed {seed}")
        mount = self.file_system("btrfs", 3072)
        node = self.subvolume(mount / "node")
        repository = self.repository()
        changes = Changes(str(node), None, seed)
        wanted = {}  # by id
        for number in range(2 * ROUNDS):
            changes.make(changes.random.choice((1, 10, CHANGES)))
            made = self.backup(node, repository)["backup"]["id"]
            wanted[made] = compare.named_below(node)
            if changes.random.random() < 0.4:
                gone = changes.random.choice(sorted(wanted))
                if gone != made:
                    self.ok("forget", repository, gone, "--allow-mass-expire")
                    del wanted[gone]
            if changes.random.random() < 0.4:
                told = self.ok("prune", repository, "--dry-run", "--json").json
                done = self.ok("prune", repository, "--json").json
                self.assertEqual((told["removed_packs"], told["removed_bytes"]), (done["removed_packs"], done["removed_bytes"]))
                self.assertEqual(self.ok("prune", repository, "--json").json["removed_packs"], 0)
            self.ok("verify", repository, "--data")
            for number, backup in enumerate(sorted(wanted)):
                if backup == made or changes.random.random() < 0.2:
                    place = mount / f"restored{number}"
                    self.ok("restore", repository, backup, place)
                    lines = compare.differences(wanted[backup], compare.named_below(place))
                    self.assertEqual(lines, [], f"seed {seed}\n" + "\n".join(lines[:40]))
                    harness.tool("btrfs", "subvolume", "delete", place)
        # What nobody needs is gone: everything that is left belongs to the one backup that stays.
        self.ok("forget", repository, "--keep-last", "1", "--allow-mass-expire", "--prune")
        information = self.ok("verify", repository, "--json").json["information"]
        self.assertEqual([text for text in information if "belong to no backup" in text], [])

    def test_model_with_excludes(self):
        self.model("folder", "--exclude", "*.skip")

    def test_model_of_comparing_contents(self):
        self.model("subvolume", "--drop-snapshot")

    def test_without_a_snapshot_only_what_differs_is_stored(self):
        for kind in ("btrfs", "ext4"):
            with self.subTest(kind=kind):
                mount = self.file_system(kind, 1024)
                node = mount / "node"
                node.mkdir()
                (node / "large").write_bytes(os.urandom(64 << 20))
                for number in range(100):
                    (node / f"small{number}").write_bytes(os.urandom(5000))
                repository = self.repository(f"repository of {kind}")
                self.backup(node, repository, "--drop-snapshot") if kind == "btrfs" else self.backup(node, repository)
                changed = 0
                for round_number in range(4):
                    with open(node / "large", "r+b") as file:
                        for page in range(200):
                            file.seek((page * 73 + round_number * 11) % 16384 * 4096)
                            file.write(os.urandom(4096))
                    (node / f"new{round_number}").write_bytes(os.urandom(500_000))
                    changed = 200 * 4096 + 500_000
                    result = self.backup(node, repository, *(["--drop-snapshot"] if kind == "btrfs" else []))["backup"]
                    self.assertGreaterEqual(result["read_bytes"], 64 << 20)
                    self.assertLess(result["stored_bytes"], 1.2 * changed, f"round {round_number}")
                self.ok("verify", repository, "--data")
                restored = mount / "restored"
                self.ok("restore", repository, "latest", restored)
                lines = compare.differences(compare.named_below(node), compare.named_below(restored))
                self.assertEqual(lines, [])

    def test_what_is_read_follows_what_changed(self):
        mount = self.file_system("btrfs", 1024)
        node = self.subvolume(mount / "node")
        (node / "large").write_bytes(os.urandom(64 << 20))
        for number in range(500):
            (node / f"small{number}").write_bytes(os.urandom(5000))
        repository = self.repository()
        self.backup(node, repository)

        nothing = self.backup(node, repository)["backup"]
        self.assertEqual(nothing["read_bytes"], 0)
        self.assertLess(nothing["stored_bytes"], 64 << 10)

        with open(node / "large", "r+b") as file:
            for page in (1, 1000, 9000):
                file.seek(page * 4096)
                file.write(os.urandom(4096))
        pages = self.backup(node, repository)["backup"]
        self.assertEqual(pages["read_bytes"], 3 * 4096)
        self.assertLess(pages["stored_bytes"], 128 << 10)

        os.mkdir(node / "below")
        for number in range(500):
            os.rename(node / f"small{number}", node / "below" / f"moved{number}")
        os.link(node / "large", node / "also")
        renamed = self.backup(node, repository)["backup"]
        # Files that may have no more than 16 KiB are read again when they were touched.
        self.assertLessEqual(renamed["read_bytes"], 500 * 5000)
        self.assertEqual(renamed["files"], 501)
        self.assert_restores(repository, node, mount)

    def test_a_dry_run_bears_that_the_node_changes_meanwhile(self):
        mount = self.file_system("btrfs", 1024)
        node = self.subvolume(mount / "node")
        for number in range(2000):
            (node / f"{number}").write_bytes(b"x")
        (node / "large").write_bytes(bytes(8 << 20))
        repository = self.repository()
        self.ok("backup", node, repository)
        stop = threading.Event()

        def change():
            number = 0
            while not stop.is_set():
                number += 1
                (node / f"made {number % 500}").write_bytes(b"x")
                (node / f"made {(number + 300) % 500}").unlink(missing_ok=True)
                (node / f"directory {number % 7}").mkdir(exist_ok=True)
                with contextlib.suppress(OSError):
                    (node / f"directory {(number + 3) % 7}").rename(node / f"directory {number % 5}" / "below")
                shutil.rmtree(node / f"directory {(number + 5) % 7}", ignore_errors=True)
                with open(node / "large", "r+b") as file:
                    os.pwrite(file.fileno(), b"y" * 4096, number * 4096 % (8 << 20))
                    file.truncate((8 << 20) - number % 3 * 4096)

        changes = threading.Thread(target=change)
        changes.start()
        try:
            for patterns in ((), ("--exclude", "nothing")):
                for _ in range(8):
                    self.ok("backup", node, repository, *patterns, "--dry-run")
        finally:
            stop.set()
            changes.join()

    def test_a_copied_repository_leaves_alone_what_is_read_from(self):
        mount = self.file_system("btrfs", 1024)
        node = self.subvolume(mount / "node")
        (node / "file").write_bytes(os.urandom(1 << 20))
        repository = self.repository()
        self.backup(node, repository)
        copy = self.scratch / "copy"
        harness.tool("cp", "-a", repository, copy)
        child = self.start_program("backup", node, repository, program=harness.FAULTS,
                                   environment={"NODESNAP_SIGNAL_AT": "backup.snapshot-recorded", "NODESNAP_SIGNAL": str(int(signal.SIGSTOP))})
        harness.wait_for(lambda: harness.is_stopped(child.pid), "the backup to stop")
        self.ok("backup", node, copy)
        child.send_signal(signal.SIGCONT)
        self.assertEqual(self.finish(child).status, harness.DONE)

    def snapshots_below(self, mount):
        return [line.split(" path ", 1)[1] for line in harness.tool("btrfs", "subvolume", "list", "-s", mount).splitlines()]

    def test_a_moved_node_leaves_no_snapshot_behind(self):
        mount = self.file_system("btrfs", 1024)
        for place in ("old", "new/deep"):
            (mount / place).mkdir(parents=True)
        repository = self.repository()
        node = self.subvolume(mount / "old" / "node")
        (node / "file").write_bytes(os.urandom(1 << 20))
        self.backup(node, repository)
        own = self.ok("snapshot", "create", node, "mine", "--json").json["path"]
        moved = mount / "new" / "deep" / "node"
        steps = (
            ("another directory", lambda: node.rename(moved), moved, ()),
            ("another name", lambda: moved.rename(moved.with_name("renamed")), moved.with_name("renamed"), ()),
            ("its parent's name", lambda: (mount / "new").rename(mount / "newer"), mount / "newer" / "deep" / "renamed", ()),
            ("another snapshot directory", lambda: None, mount / "newer" / "deep" / "renamed", ("--snapshot-dir", mount / "kept")),
        )
        for what, move, place, options in steps:
            with self.subTest(what=what):
                move()
                made = self.ok("backup", place, repository, "--adopt-node", *options, "--json").json
                self.assertEqual([mount / path for path in self.snapshots_below(mount) if path != os.path.relpath(own, mount)],
                                 [mount.joinpath(*os.path.relpath(made["snapshot_path"], mount).split("/"))])
        self.assertTrue(os.path.isdir(own), "an operator's own")

    def test_where_a_moved_node_has_left_its_snapshot_is_told_once(self):
        first, second = self.file_system("btrfs", 512), self.file_system("btrfs", 512)
        repository = self.repository()
        node = self.subvolume(first / "node")
        (node / "file").write_bytes(os.urandom(1 << 20))
        left = self.backup(node, repository)["snapshot_path"]
        copied = self.subvolume(second / "node")
        harness.tool("cp", "-a", node / "file", copied)
        told = self.run_program("backup", copied, repository, "--adopt-node", expect=harness.WARNINGS)
        self.assertIn(left, told.err)
        self.assertIn("btrfs subvolume delete", told.err)
        self.assertTrue(os.path.isdir(left))
        self.ok("backup", copied, repository)
        # Where the node is gone it is removed, on another file system too.
        third = self.file_system("btrfs", 512)
        moved = self.subvolume(third / "node")
        harness.tool("cp", "-a", copied / "file", moved)
        harness.tool("btrfs", "subvolume", "delete", copied)
        self.ok("backup", moved, repository, "--adopt-node")
        self.assertEqual(self.snapshots_below(second), [])
        # The host has lost sight of it.
        moved.rename(third / "elsewhere")
        (snapshot,) = (third / ".nodesnap").iterdir()
        holder = os.open(snapshot, os.O_RDONLY)
        fcntl.flock(holder, fcntl.LOCK_SH)
        self.assertIn("somebody uses it", self.run_program("backup", third / "elsewhere", repository, "--adopt-node", expect=harness.WARNINGS).err)
        os.close(holder)

    def test_what_is_no_parent_any_more_of_a_moved_node_stays(self):
        mount = self.file_system("btrfs", 512)
        repository = self.repository()
        node = self.subvolume(mount / "node0")
        (node / "file").write_bytes(os.urandom(1 << 20))

        def by_another_name(left):
            return left.rename(left.with_name("mine"))

        def changed(left):
            harness.tool("btrfs", "property", "set", "-f", left, "ro", "false")
            (left / "file").write_bytes(b"changed")
            harness.tool("btrfs", "property", "set", left, "ro", "true")
            return left

        for number, (change, told) in enumerate(((by_another_name, None), (changed, "it isn't what it was")), 1):
            with self.subTest(told=told):
                stays = change(Path(self.backup(node, repository, *(("--adopt-node",) if number > 1 else ()))["snapshot_path"]))
                node = node.rename(mount / f"node{number}")
                result = self.run_program("backup", node, repository, "--adopt-node", expect=harness.WARNINGS if told else harness.DONE)
                self.assertIn(told or "", result.err)
                self.assertTrue(stays.is_dir())

    def test_of_a_copied_node_an_operators_snapshot_is_not_told(self):
        mount = self.file_system("btrfs", 512)
        node = self.subvolume(mount / "node")
        (node / "file").write_bytes(os.urandom(1 << 20))
        repository = self.repository()
        kept = self.backup(node, repository, "--keep-snapshot")["snapshot_path"]
        copied = self.subvolume(self.file_system("btrfs", 512) / "node")
        harness.tool("cp", "-a", node / "file", copied)
        self.ok("backup", copied, repository, "--adopt-node")
        self.assertTrue(os.path.isdir(kept))

    def test_a_node_that_was_moved_to_where_there_are_no_snapshots_leaves_none(self):
        mount = self.file_system("btrfs", 512)
        node = self.subvolume(mount / "node")
        (node / "file").write_bytes(os.urandom(1 << 20))
        repository = self.repository()
        self.backup(node, repository)
        moved = self.file_system("ext4", 256) / "node"
        harness.tool("cp", "-a", node, moved)
        harness.tool("btrfs", "subvolume", "delete", node)
        self.ok("backup", moved, repository, "--snapshot", "none", "--adopt-node")
        self.assertEqual(self.snapshots_below(mount), [])

    def test_why_everything_is_read_is_told(self):
        mount = self.file_system("btrfs", 1024)
        node = self.subvolume(mount / "node")
        (node / "file").write_bytes(os.urandom(1 << 20))
        repository = self.repository()
        copy = self.scratch / "copy"

        def snapshot():
            (found,) = (mount / ".nodesnap").iterdir()
            return found

        def writable():
            harness.tool("btrfs", "property", "set", "-f", snapshot(), "ro", "false")

        def replaced():
            path = snapshot()
            harness.tool("btrfs", "subvolume", "delete", path)
            harness.tool("btrfs", "subvolume", "snapshot", "-r", node, path)

        def copied():
            harness.tool("cp", "-a", repository, copy)
            self.ok("backup", node, copy)

        def moved():
            node.rename(mount / "moved")

        cases = (
            ("it is the first backup", lambda: None, node, ()),
            ("made without a snapshot", lambda: self.backup(node, repository, "--snapshot", "none"), node, ()),
            ("(--drop-snapshot)", lambda: self.backup(node, repository, "--drop-snapshot"), node, ()),
            ("nothing tells", lambda: None, node, ("--snapshot", "none")),
            ("made writable", writable, node, ()),
            ("replaced by another one", replaced, node, ()),
            ("copy of this repository", copied, node, ()),
            ("snapshot trim, or removed", lambda: self.ok("snapshot", "trim", node, "--max-age", "0s", "--repository", repository), node, ()),
            ("see --snapshot-dir", lambda: None, node, ("--snapshot-dir", mount / "kept")),
            ("has moved since", moved, mount / "moved", ("--adopt-node",)),
        )
        for wanted, cause, place, options in cases:
            with self.subTest(wanted=wanted):
                if wanted in ("made without a snapshot", "(--drop-snapshot)"):
                    self.ok("snapshot", "trim", node, "--max-age", "0s", "--repository", repository)
                cause()
                if "--adopt-node" not in options:
                    self.assertIn(wanted, self.backup(place, repository, *options, "--dry-run")["parent_missing"])
                self.assertIn(wanted, self.backup(place, repository, *options)["parent_missing"])
                if wanted == "nothing tells" or options[:1] == ("--snapshot-dir",):
                    self.backup(place, repository)
                if wanted == "made writable":  # it is the operator's now
                    for path in (mount / ".nodesnap").iterdir():
                        if path.is_dir() and "false" in harness.tool("btrfs", "property", "get", path, "ro"):
                            harness.tool("btrfs", "subvolume", "delete", path)

    def test_an_audit_is_told(self):
        mount = self.file_system("btrfs", 512)
        node = self.subvolume(mount / "node")
        (node / "file").write_bytes(os.urandom(8 << 20))
        repository = self.repository()
        self.assertIn("audited: nothing was taken over", self.ok("backup", node, repository, "--audit").out)
        self.assertIn("audited: 8.0 MiB were compared", self.ok("backup", node, repository, "--audit").out)
        told = self.ok("backup", node, repository, "--audit", "--json").json
        self.assertEqual((told["audited_bytes"], told["audited_all"]), (8 << 20, True))
        self.assertNotIn("audited", self.ok("backup", node, repository).out)
        self.assertFalse(self.backup(node, repository)["audited_all"])

    def test_two_repositories_have_a_parent_each(self):
        mount = self.file_system("btrfs", 1024)
        node = self.subvolume(mount / "node")
        (node / "file").write_bytes(os.urandom(1 << 20))
        repositories = [self.repository(), self.repository("second")]
        for number in range(3):
            (node / f"new{number}").write_bytes(os.urandom(30_000))
            for repository in repositories:
                result = self.backup(node, repository)["backup"]
                self.assertEqual(result["parent"] is not None, number > 0)
                self.assert_restores(repository, node, mount)
        self.assertEqual(len(os.listdir(mount / ".nodesnap")), 2)

    def test_snapshots_are_kept_or_dropped_as_asked(self):
        mount = self.file_system("btrfs", 1024)
        node = self.subvolume(mount / "node")
        (node / "file").write_bytes(os.urandom(1 << 20))
        repository = self.repository()
        self.backup(node, repository, "--drop-snapshot")
        self.assertEqual(os.listdir(mount / ".nodesnap"), [])
        kept = self.backup(node, repository, "--keep-snapshot")
        self.assertTrue(os.path.isdir(kept["snapshot_path"]))
        self.assertIn(kept["snapshot_path"], self.ok("show", repository, "latest").out)
        self.assertIsNotNone(self.backup(node, repository)["backup"]["parent"])
        self.backup(node, repository)
        kept = self.ok("snapshot", "list", node, "--json").json["snapshots"]
        self.assertEqual(sorted(entry["temporary"] for entry in kept), [False, True])
        shutil.rmtree(node / "file", ignore_errors=True)


if __name__ == "__main__":
    harness.main()
