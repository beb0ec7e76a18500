"""The backups after a rollback hold what the node is, and read about what differs from the last one."""

import collections
import os
import random

import compare
import harness
from changes import Changes
from rollback_case import RollbackCase


class Chain(RollbackCase):
    def backup(self, node, repository, parent=None, at_most=None):
        result = self.ok("backup", node, repository, "--json").json
        if parent is not None:
            self.assertEqual((result["parent_missing"], result["backup"]["parent"]), ("", parent))
        if at_most is not None:
            self.assertLess(result["backup"]["read_bytes"], at_most)
        return result["backup"]["id"]

    def assert_restores(self, repository, node, top):
        restored = top / "restored"
        self.ok("restore", repository, "latest", restored)
        lines = compare.differences(compare.named_below(node), compare.named_below(restored))
        self.assertEqual(lines[:20], [])
        self.assertEqual(compare.rsync_differences(node, restored), [])
        harness.tool("btrfs", "subvolume", "delete", restored)

    def prepared(self, layout):
        node, top = self.node_of(layout)
        self.fill(node)
        (node / "large").write_bytes(os.urandom(32 << 20))
        return node, top, self.repository(f"repository of {layout}")

    def test_to_the_last_backup(self):
        for layout in ("subvolume", "mounted"):
            with self.subTest(layout=layout):
                node, top, repository = self.prepared(layout)
                self.backup(node, repository)
                self.change(node)
                second = self.backup(node, repository)
                self.change(node)
                name = next(iter(self.snapshots(node)))
                self.rollback(node, name)
                self.assert_restores(repository, node, top)
                self.change(node)
                third = self.backup(node, repository, second, 1 << 20)
                self.assert_restores(repository, node, top)
                self.change(node)
                self.backup(node, repository, third, 1 << 20)
                self.assert_restores(repository, node, top)
                self.ok("verify", repository, "--data")
                harness.tool("umount", node) if layout != "subvolume" else None

    def test_to_an_operators_snapshot_after_the_last_backup(self):
        node, top, repository = self.prepared("subvolume")
        first = self.backup(node, repository)
        self.change(node)
        self.ok("snapshot", "create", node, "operators")
        self.change(node)
        (node / "large").unlink()
        done = self.rollback(node, "operators")
        self.change(node)
        second = self.backup(node, repository, first, 1 << 20)
        self.assert_restores(repository, node, top)
        # And back again: what the second backup has read of the other line is no news of this one.
        self.rollback(node, done["kept_as"])
        self.change(node)
        self.backup(node, repository, second, 1 << 20)
        self.assert_restores(repository, node, top)
        self.ok("verify", repository, "--data")

    def test_to_a_snapshot_before_the_last_backup(self):
        node, top, repository = self.prepared("subvolume")
        (node / "gone").write_bytes(os.urandom(1 << 20))
        self.ok("snapshot", "create", node, "operators")
        (node / "gone").unlink()
        self.change(node)
        last = self.backup(node, repository)
        done = self.rollback(node, "operators")
        self.change(node)
        # What both have changed: the file that is back, and the pages of either.
        last = self.backup(node, repository, last, 3 << 20)
        self.assert_restores(repository, node, top)
        self.rollback(node, done["kept_as"])
        self.backup(node, repository, last, 3 << 20)
        self.assert_restores(repository, node, top)
        # Where what lies between was removed, everything is compared.
        for name in self.kept(node):
            self.ok("snapshot", "remove", node, name)
        self.rollback(node, "operators")
        for name in self.kept(node):
            self.ok("snapshot", "remove", node, name)
        result = self.ok("backup", node, repository, "--json").json
        self.assertIn("replaced", result["parent_missing"])
        self.assertLess(result["backup"]["stored_bytes"], 8 << 20)
        self.assert_restores(repository, node, top)
        self.ok("verify", repository, "--data")

    def test_any_way_through(self):
        """Changes, snapshots, backups and rollbacks in any order: each backup is what the node was then."""
        seed = int(os.environ.get("NODESNAP_SEED", random.SystemRandom().randrange(1 << 32)))
        print(f"seed {seed}")
        chance = random.Random(seed)
        node, top = self.node_of("subvolume")
        changes = Changes(str(node), None, seed)
        changes.make(100)
        repository = self.repository()
        log, built_on = [], collections.Counter()
        for number in range(int(os.environ.get("NODESNAP_MODEL_ROUNDS", "6")) * 6):
            what = chance.choice(("change", "change", "snapshot", "backup", "rollback"))
            log.append(what)
            if what == "change":
                changes.make(chance.choice((1, 5, 40)))
            elif what == "snapshot":
                self.ok("snapshot", "create", node, f"s{number}")
            elif what == "rollback" and self.snapshots(node):
                log[-1] += " " + chance.choice(sorted(self.snapshots(node)))
                self.rollback(node, log[-1].split()[1])
            elif what == "backup":
                if chance.random() < 0.2 and self.kept(node):
                    self.ok("snapshot", "remove", node, chance.choice(self.kept(node)))
                result = self.ok("backup", node, repository, "--audit", "--json").json
                built_on[result["parent_missing"] or "what has changed"] += 1
                restored = top / "restored"
                self.ok("restore", repository, "latest", restored)
                lines = compare.differences(compare.named_below(node), compare.named_below(restored))
                self.assertEqual(lines[:20], [], f"seed {seed}: {log}")
                harness.tool("btrfs", "subvolume", "delete", restored)
        print(dict(built_on))
        self.run_program("verify", repository, "--data", expect=harness.DONE if built_on else None)


if __name__ == "__main__":
    harness.main()
