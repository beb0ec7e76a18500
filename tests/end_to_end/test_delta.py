"""restore --delta: whatever an existing directory holds, it becomes what a full restore gives, and only what differs is written."""

import collections
import os
import random
import shutil

import compare
import harness
from changes import Changes
from torture import Torture

ROUNDS = int(os.environ.get("NODESNAP_MODEL_ROUNDS", "4"))
CHANGES = 60


def random_seed():
    seed = int(os.environ.get("NODESNAP_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed {seed}")
    return seed


class Delta(harness.Case):
    def full(self, repository, backup, place):
        self.ok("restore", repository, backup, place)
        return compare.snapshot_of(place)

    def delta(self, repository, backup, node, *options, expect=harness.DONE):
        result = self.run_program("restore", repository, backup, node, "--delta", "--json", *options, expect=expect)
        return result.json if result.status == harness.DONE else result

    def assert_same(self, wanted, node, message=""):
        lines = compare.differences(wanted, compare.snapshot_of(node))
        self.assertEqual(lines, [], message + "\n".join(lines[:40]))

    def assert_tidy(self, node):
        left = [name for name in os.listdir(node.parent) + os.listdir(node) if "nodesnap-" in name]
        self.assertEqual(left, [])

    @staticmethod
    def remove(path):
        if os.stat(path).st_ino == 256:
            harness.tool("btrfs", "subvolume", "delete", path)
        else:
            harness.tool("chattr", "-R", "-f", "-i", "-a", path, check=False)
            shutil.rmtree(path)

    # --- whatever was changed

    def model(self, kind, layout, *options, backup_options=(), basis=None):
        seed = random_seed()
        mount = self.file_system(kind, 3072)
        node = self.subvolume(mount / "node") if layout == "subvolume" else mount / "node"
        node.mkdir(exist_ok=True)
        repository = self.repository()
        changes = Changes(str(node), None, seed)
        log = changes.make(2 * CHANGES)
        for number in range(ROUNDS):
            self.ok("backup", node, repository, *backup_options)
            log += changes.make(changes.random.choice((1, 5, CHANGES)))
            wanted = changes.random.choice(self.backups(repository))["id"]
            full = self.full(repository, wanted, mount / "full")
            result = self.delta(repository, wanted, node, *options)
            self.assertEqual(result["basis"], basis, result)
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


if __name__ == "__main__":
    harness.main()
