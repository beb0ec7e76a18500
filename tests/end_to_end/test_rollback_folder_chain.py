"""The backups after a rollback of a plain folder hold what the node is. Where files are cloned they read about what differs from the last one."""

import collections
import os
import random

import compare
import harness
from changes import Changes
from folder_case import FolderCase, on

MIB = 1 << 20


class Chain(FolderCase):
    def fill(self, node):
        super().fill(node)
        (node / "large").write_bytes(os.urandom(16 * MIB))

    def backup(self, node, repository, *options, at_most=None):
        told = self.ok("backup", node, repository, *self.options, *self.making(), "--dry-run", "--json").json if at_most is not None else None
        result = self.ok("backup", node, repository, *self.options, *self.making(), *options, "--json").json
        self.assertEqual(result["snapshot_backend"], self.kind)
        if at_most is not None and self.kind != "btrfs":
            self.assertEqual(result["parent_missing"], "")
            self.assertLess(result["backup"]["read_bytes"], at_most)
            if self.kind == "reflink":
                self.assertEqual(told["read_bytes"], result["backup"]["read_bytes"])
        return result

    def assert_restores(self, repository, node, top, message=""):
        restored = top / "restored"
        self.ok("restore", repository, "latest", restored)
        lines = compare.differences(compare.named_below(node), compare.named_below(restored))
        self.assertEqual(lines[:20], [], message)
        self.assertEqual(compare.rsync_differences(node, restored), [], message)
        if harness.is_subvolume(restored):
            harness.tool("btrfs", "subvolume", "delete", restored)
        else:
            harness.tool("chattr", "-R", "-f", "-i", "-a", restored, check=False)
            harness.tool("rm", "-r", restored)

    @on()
    def test_to_the_last_backup(self, node, top):
        self.fill(node)
        # Less than the small files come to. Of links only tables are taken over.
        little = 350 << 10 if self.kind != "hardlink" else 30 * MIB
        repository = self.repository(f"repository {top.name}")
        self.backup(node, repository)
        self.change(node)
        self.backup(node, repository, at_most=little)
        self.change(node)
        name = next(iter(self.snapshots(node)))
        done = self.rollback(node, name)
        self.change(node)
        self.backup(node, repository, at_most=little)
        self.assert_restores(repository, node, top)
        self.change(node)
        self.backup(node, repository, "--audit")
        self.assert_restores(repository, node, top)
        self.rollback(node, done["kept_as"])
        self.change(node)
        self.backup(node, repository, at_most=max(little, 2 * MIB))
        self.assert_restores(repository, node, top)
        self.backup(node, repository, at_most=little)
        self.ok("verify", repository, "--data")

    @on("hardlink")
    def test_tables_are_not_read_again(self, node, top):
        """The change times that our own links give them are no change, neither for the snapshots nor for the backups."""
        self.fill(node)
        (node / "large").unlink()
        for number in range(6):
            (node / "tables" / f"{number}.sst").write_bytes(os.urandom(2 * MIB))
        self.create(node, "first")
        repository = self.repository()
        self.backup(node, repository)
        (node / "CURRENT").write_bytes(b"changed")
        done = self.rollback(node, "first")
        self.backup(node, repository, at_most=6 * MIB)
        self.rollback(node, done["kept_as"])
        self.backup(node, repository, at_most=6 * MIB)
        for name in ("first", *self.kept(node)):
            self.remove(node, name)
            self.backup(node, repository, at_most=6 * MIB)
        self.assert_restores(repository, node, top)
        self.ok("verify", repository, "--data")

    @on()
    def test_to_an_operators_snapshot_before_the_last_backup(self, node, top):
        self.fill(node)
        (node / "gone").write_bytes(os.urandom(MIB))
        repository = self.repository(f"repository {top.name}")
        self.create(node, "operators")
        (node / "gone").unlink()
        self.change(node)
        self.backup(node, repository)
        done = self.rollback(node, "operators")
        self.change(node)
        little = 3 * MIB if self.kind != "hardlink" else 30 * MIB
        self.backup(node, repository, at_most=little)
        self.assert_restores(repository, node, top)
        self.rollback(node, done["kept_as"])
        self.backup(node, repository, at_most=little)
        self.assert_restores(repository, node, top)
        self.ok("verify", repository, "--data")

    @on()
    def test_any_way_through(self, node, top):
        """Changes, snapshots, backups and rollbacks in any order: each backup is what the node was then, and each rollback what the snapshot was."""
        seed = int(os.environ.get("NODESNAP_SEED", random.SystemRandom().randrange(1 << 32)))
        print(f"seed {seed}")
        chance = random.Random(seed)
        changes = Changes(str(node), None, seed)
        changes.make(60)
        repository = self.repository(f"repository {top.name}")
        log, built_on, contents = [], collections.Counter(), {}
        # To allocate room behind the end of a file btrfs writes the rest of its last block, which may have been allocated only; and what of
        # such room somebody has read ext4 tells as data, which is copied then.
        exact = top.name.startswith("xfs")
        for number in range(int(os.environ.get("NODESNAP_MODEL_ROUNDS", "4")) * 6):
            what = chance.choice(("change", "change", "snapshot", "backup", "rollback"))
            log.append(what)
            message = f"seed {seed}: {log}"
            if what == "change":
                changes.make(chance.choice((1, 5, 40)))
            elif what == "snapshot":
                self.create(node, f"s{number}")
                contents[f"s{number}"] = self.content(node, with_allocation=exact)
            elif what == "rollback" and contents:
                name = chance.choice(sorted(contents))
                log[-1] += " " + name
                before = self.content(node, with_allocation=exact)
                done = self.rollback(node, name)
                self.assertEqual(compare.differences(contents[name], self.content(node, with_allocation=exact))[:20], [], message)
                contents[done["kept_as"]] = before
            elif what == "backup":
                if chance.random() < 0.3 and contents:
                    gone = chance.choice(sorted(contents))
                    self.remove(node, gone)
                    del contents[gone]
                result = self.backup(node, repository, "--audit")
                built_on[result["parent_missing"] or "what has changed"] += 1
                self.assert_restores(repository, node, top, message)
        print(dict(built_on))
        self.run_program("verify", repository, "--data", expect=harness.DONE if built_on else None)


if __name__ == "__main__":
    harness.main()
