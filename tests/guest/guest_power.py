"""The power is cut at random moments of all that nodesnap does, on the node's disk and on the target's at once: what dm-log-writes has recorded is replayed up to there,
also with any part of what the device's cache had not been told to flush. What docs/design.md promises then must hold.

NODESNAP_POWER_CUTS says how many cuts each part of the workload gets, NODESNAP_SEED what is random. Which writes there are differs from run to run all the
same, so that a failure tells the cut as well."""

import contextlib
import os
import random
import subprocess
import sys
import unittest
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "end_to_end"))
import compare  # noqa: E402
import harness  # noqa: E402
from harness import DONE, REFUSED, WARNINGS, tool  # noqa: E402
from log_writes import Log, LoggedDisk, choose_cut, cut_at, forget_devices  # noqa: E402
from power_workload import Workload, picture_of  # noqa: E402

DISKS = ("/dev/ubda", "/dev/ubdb")
VOLUMES = {"node": 320, "target": 320, "place": 64}
CUTS = int(os.environ.get("NODESNAP_POWER_CUTS", "2"))
LINKS = ("--snapshot", "hardlink", "--immutable", "*.sst")
QUIET = {"btrfs": ["-q", "-f", "-K"], "ext4": ["-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"], "xfs": ["-q", "-f", "-K"]}
# Nothing is written but what the program asks for.
LAZY = {"/proc/sys/vm/dirty_writeback_centisecs": "0", "/proc/sys/vm/dirty_expire_centisecs": "360000", "/proc/sys/fs/xfs/xfssyncd_centisecs": "720000"}
OPTIONS = {"btrfs": "noatime,commit=300", "ext4": "noatime,commit=300", "xfs": "noatime"}
TOLD_AS_DONE = ("backed up", "forgot", "snapshot made", "rolled back", "restored")
BOOT_ID = "/proc/sys/kernel/random/boot_id"


def without_own_times(picture):
    """A name that was moved, or an exchange, may have changed the directory's own."""
    return {**picture, b".": {key: value for key, value in picture[b"."].items() if key != "modified"}}


class Power(harness.Case):
    def setUp(self):
        super().setUp()
        for setting, value in LAZY.items():
            if os.path.exists(setting):
                Path(setting).write_text(value)
        self.points = {name: self.scratch / name for name in VOLUMES}
        for point in self.points.values():
            point.mkdir()
        self.state = self.points["node"] / "state"
        self.seed = int(os.environ.get("NODESNAP_SEED", random.SystemRandom().randrange(1 << 32)))
        self.disk = LoggedDisk(*DISKS, VOLUMES)
        self.told = {"parents": 0, "resumed": 0, "cuts": 0, "finished": 0, "repaired": 0}

    @contextlib.contextmanager
    def mounted(self, kinds):
        with contextlib.ExitStack() as stack:
            stack.callback(forget_devices)
            for name, kind in kinds.items():
                tool("mount", "-o", OPTIONS[kind], f"/dev/mapper/{name}", self.points[name])
                stack.callback(self._unmount, self.points[name])
            yield

    def record(self, kinds, snapshot, delta):
        with self.disk.recorded():
            for name, kind in kinds.items():
                tool(f"mkfs.{kind}", *QUIET[kind], f"/dev/mapper/{name}")
            with self.mounted(kinds):
                if kinds["node"] == "btrfs":
                    self.subvolume(self.points["node"] / "node")
                self.workload = Workload(self, self.disk, self.points, self.seed, snapshot, delta)
                self.workload.run()
        self.log = Log(DISKS[1])
        self.stack.callback(self.log.close)
        self.workload.find_marks(self.log)

    def cuts(self):
        """Of each part of the workload some, in their order; one of them as something was told, with the least of what may be left then."""
        chance, told, found = random.Random(self.seed), self.workload.events, []
        phases = [event for event in told if event.kind == "phase"]
        for begin, end in zip(phases, phases[1:]):
            moments = [event.at + 1 for event in told if begin.at < event.at < end.at and event.kind in TOLD_AS_DONE]
            found.append(cut_at(self.log, chance.choice(moments), chance, 0))
            found += [choose_cut(self.log, chance, begin.at + 1, end.at) for _ in range(CUTS - 1)]
        return sorted(found, key=lambda cut: (cut.base, cut.position))

    def cut_at_random(self, kinds, snapshot=(), delta=()):
        print(f"seed {self.seed}", flush=True)
        self.record(kinds, snapshot, delta)
        cuts = self.cuts()
        for cut in cuts:
            passed = [event for event in self.workload.events if event.at < cut.position]
            phase = [event.facts["name"] for event in passed if event.kind == "phase"][-1]
            print(f"{phase}, {cut}", flush=True)
            with self.subTest(phase=phase, cut=str(cut), seed=self.seed, after=str([event.kind for event in passed[-3:]])):
                with self.disk.after(self.log, cut), self.mounted(kinds), self.another_boot():
                    self.check(phase, passed)
        self.told["cuts"] = len(cuts)
        print(f"{len(self.log.entries)} writes; {self.told}", flush=True)

    @contextlib.contextmanager
    def another_boot(self):
        (self.scratch / "boot_id").write_text(f"{uuid.uuid4()}\n")
        tool("mount", "--bind", self.scratch / "boot_id", BOOT_ID)
        try:
            yield
        finally:
            tool("umount", BOOT_ID)

    def check(self, phase, passed):
        if phase.startswith("restore"):
            self.check_restore(passed)
        else:
            self.check_target(passed)
            self.check_node(passed)
            self.check_next_backup({event.kind for event in passed})
            self.check_snapshot(passed)

    # --- the target

    def check_target(self, passed):
        told = self.run_program("list", self.workload.repository, "--json", expect=(DONE, WARNINGS)).json
        if told["warnings"]:  # of what is stored twice one had been written; the other one is for repair
            self.assertEqual([warning for warning in told["warnings"] if "behind the other copy" not in warning], [])
            self.ok("repair", self.workload.repository)
            self.told["repaired"] += 1
        listed = [backup["id"] for backup in told["backups"]]
        visible = set(listed)
        done = {event.facts["id"] for event in passed if event.kind == "backed up"}
        going = {name for event in passed if event.kind == "forgetting" for name in event.facts["ids"]}
        gone = {name for event in passed if event.kind == "forgot" for name in event.facts["ids"]}
        self.assertLessEqual(done - going, visible, "a backup that was told as done is lost")
        self.assertEqual(gone & visible, set(), "a backup that was told as forgotten is there")
        self.assertLessEqual(visible, set(self.workload.pictures), "a backup that nobody has made")
        self.ok("verify", self.workload.repository, "--data")
        for name in listed[-1:]:
            self.assert_restores(name, self.workload.pictures[name])

    def assert_restores(self, name, picture):
        to = self.points["target"] / f"restored-{name}"
        self.ok("restore", self.workload.repository, name, to)
        self.assert_like(picture, to)

    def assert_like(self, picture, directory, message=""):
        self.assertEqual(compare.differences(picture, picture_of(directory))[:20], [], message)

    # --- the node

    def check_node(self, passed):
        """Of a rollback it is the one or the other, and the next command says which."""
        begun = [event for event in passed if event.kind == "rolling back"]
        if not begun:
            return
        old, new = (without_own_times(begun[-1].facts[which]) for which in ("old", "new"))
        last = passed[-1].kind
        if last not in ("rolling back", "rolled back"):
            return
        found = without_own_times(picture_of(self.workload.node))
        is_new = compare.differences(new, found) == []
        if last == "rolled back":
            self.assertTrue(is_new, "a rollback that was told as done is lost")
        elif not is_new:
            self.assertEqual(compare.differences(old, found)[:20], [], "neither the one nor the other")
        told = self.run_program("snapshot", "list", self.workload.node, "--json", expect=(DONE, WARNINGS)).json
        kept = [entry["path"] for entry in told["snapshots"] if entry["role"] == "before-rollback"]
        self.assertEqual(len(kept), 1 if is_new else 0, told)
        for warning in told["warnings"]:
            self.assertEqual("after it had taken place" in warning, is_new, warning)
            self.told["finished"] += 1
        for path in kept:
            tree = Path(path) / "tree"
            present = picture_of(tree if tree.is_dir() else path)
            self.assertEqual(compare.differences(old, without_own_times(present))[:20], [], "what was kept isn't what was there")
        again = self.ok("snapshot", "list", self.workload.node, "--json").json
        self.assertEqual(again["warnings"], [])

    def check_next_backup(self, happened):
        """It needs no help, and is what the node is now, whatever of it was lost; nothing half made is left."""
        workload = self.workload
        wanted = picture_of(workload.node)
        done = self.run_program("backup", workload.node, workload.repository, "--json", *workload.snapshot, expect=(DONE, WARNINGS)).json
        for warning in done["warnings"]:  # of one that had been told as done, too, whose notes are there again
            self.assertIn("a rollback of", warning)
            self.assertIn("rolling back", happened)
        if "backed up" in happened and "rolling back" not in happened:
            self.assertEqual(done["parent_missing"], "", "the snapshot of a backup that was told as done is lost")
        self.told["parents"] += done["parent_missing"] == ""
        self.told["resumed"] += done["resumed"]
        if done["resume_refused"]:
            print(f"not resumed: {done['resume_refused']}", flush=True)
        self.assert_restores(done["backup"]["id"], wanted)
        listed = self.ok("snapshot", "list", workload.node, "--json").json["snapshots"]
        self.assertEqual([entry["path"] for entry in listed if entry["role"] == "parent"], [done["snapshot_path"]])
        if "snapshot made" in happened:
            self.assertIn("first", [entry["name"] for entry in listed if entry["role"] == "operator's"])
        folder = self.points["node"] / ".nodesnap"
        self.assertEqual(sorted(path.name for path in folder.iterdir() if path.name != ".unfinished"), sorted(Path(entry["path"]).name for entry in listed))
        rewriting = "??*.*.part"  # which a prune was busy with, for the next one
        left = [path for path in workload.repository.glob("journal/*") if not ("forgetting" in happened and path.match(rewriting))]
        self.assertEqual([*folder.glob(".unfinished/*"), *left], [])
        self.ok("forget", workload.repository, "--keep-last", "1", "--allow-mass-expire", "--prune")
        self.assertEqual(list(workload.repository.glob("journal/*")), [])
        self.ok("verify", workload.repository, "--data")

    def check_snapshot(self, passed):
        """The operator's is what it was."""
        for event in passed:
            if event.kind == "snapshot made":
                self.ok("rollback", self.workload.node, "first")
                found = without_own_times(picture_of(self.workload.node))
                self.assertEqual(compare.differences(without_own_times(event.facts["picture"]), found)[:20], [], "the snapshot isn't what it was")

    # --- a restore

    def check_restore(self, passed):
        """Its destination is what it was, or what was asked for, or unmistakably unfinished, and the same command ends it."""
        begun = [event for event in passed if event.kind == "restoring"]
        if not begun:
            return
        facts, to = begun[-1].facts, begun[-1].facts["to"]
        new, old = self.workload.pictures[facts["id"]], facts.get("old")
        delta = ("--delta", *self.workload.delta) if old else ()
        again = ("restore", self.workload.repository, facts["id"], to, *delta)
        is_root = to == self.workload.place
        told_as_done = any(event.kind == "restored" and event.at > begun[-1].at for event in passed)
        found = picture_of(to) if to.exists() else {}
        if told_as_done:
            self.assertEqual(compare.differences(new, found)[:20], [], "a restore that was told as done is lost")
        elif is_root or "--in-place" in delta:
            if b"CURRENT" in found:
                like = [one for one in (new, old) if one and compare.differences(without_own_times(one), without_own_times(found)) == []]
                self.assertEqual(len(like), 1, "a database of which a part is missing")
        elif old:
            like = [one for one in (new, old) if compare.differences(without_own_times(one), without_own_times(found)) == []]
            self.assertEqual(len(like), 1, "neither the one nor the other")
        elif found:
            self.assertEqual(compare.differences(without_own_times(new), without_own_times(found))[:20], [], "a half-made restore is at its place")
        if not delta and found and b"CURRENT" in found:
            self.run_program(*again, expect=(DONE, REFUSED))
        else:
            self.ok(*again)
        self.assert_like(new, to, "the same command didn't end it")
        left = [name for name in [*os.listdir(to.parent), *os.listdir(to)] if "nodesnap-" in name]
        self.assertEqual(left, [])
        self.told["finished"] += 1


class BtrfsToExt4(Power):
    def test_cuts(self):
        self.cut_at_random({"node": "btrfs", "target": "ext4", "place": "ext4"})


class XfsToXfs(Power):
    def test_cuts(self):
        self.cut_at_random({"node": "xfs", "target": "xfs", "place": "ext4"}, snapshot=("--snapshot", "reflink"))


class Ext4ToBtrfs(Power):
    def test_cuts(self):
        self.cut_at_random({"node": "ext4", "target": "btrfs", "place": "ext4"}, snapshot=LINKS, delta=("--in-place",))


if __name__ == "__main__":
    if subprocess.run(["dmsetup", "version"], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, check=False).returncode != 0:
        print("guest tests run in a guest: see guest.py")
        sys.exit(2)
    unittest.main(verbosity=2)
