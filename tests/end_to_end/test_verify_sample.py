"""verify --data --sample and --since: what was checked is remembered through kills, interruptions and two runs at once, and damage that a sample
finds is told of all backups."""

import os
import signal

import harness
from test_damage import flip

PACKS = 3  # of 128 MiB and what is left, each in a folder of its own


class VerifySample(harness.Case):
    def setUp(self):
        super().setUp()
        self.mount = self.file_system("btrfs", 2048)
        self.node = self.subvolume(self.mount / "node")
        for name in ("first", "second"):
            with open(self.node / name, "wb") as file:
                for _ in range(150):
                    file.write(os.urandom(1 << 20))
        self.repository_path = self.mount / "repository"
        self.ok("init", self.repository_path, "--node", "node1")
        self.ok("backup", self.node, self.repository_path, "--workers", "1")
        self.count = len(self.packs())
        self.assertEqual(self.count, PACKS)

    def packs(self):
        return sorted(path for path in (self.repository_path / "packs").rglob("*.pack"))

    def records(self):
        return {path.name: path.read_bytes() for path in (self.repository_path / "checks").glob("*")}

    def coverage(self, *arguments, expect=harness.DONE, **options):
        return self.run_program("verify", self.repository_path, "--json", *arguments, expect=expect, **options).json["coverage"]

    def add_backup(self, name):
        (self.node / name).write_bytes(os.urandom(100_000))
        self.ok("backup", self.node, self.repository_path)
        self.count += 1

    def test_samples_go_round(self):
        self.assertEqual(self.coverage()["ever_packs"], 0)
        for number in range(1, self.count + 1):
            coverage = self.coverage("--data", "--sample", "1")
            self.assertEqual((coverage["now_packs"], coverage["ever_packs"]), (1, number))
        oldest = coverage["oldest_check_time"]
        self.add_backup("third")
        self.assertEqual(self.coverage("--data", "--since", "1d")["now_packs"], 1)
        coverage = self.coverage()
        self.assertEqual((coverage["packs"], coverage["ever_packs"], coverage["recent_packs"]), (self.count,) * 3)
        self.assertEqual(coverage["oldest_check_time"], oldest)
        self.assertEqual(coverage["bytes"], sum(path.stat().st_size for path in self.packs()))
        self.assertTrue(coverage["remembered"])
        result = self.ok("verify", self.repository_path, "--data", "--sample", "50%", "--since", "2w")
        self.assertIn("checked now: 0 %, within 2w: 100 %, ever: 100 %; the oldest check is of", result.out)
        self.assertIn("all that was checked is whole", result.out)
        self.assertIn("checked now: 100 %", self.ok("verify", self.repository_path, "--data").out)

    def test_usage(self):
        for arguments in (("--sample", "5%"), ("--since", "30d"), ("--data", "--sample", "0%"), ("--data", "--sample", "101%"), ("--data", "--sample", "0"),
                          ("--data", "--sample", "x"), ("--data", "--sample", "%"), ("--data", "--sample", "nan%"), ("--data", "--since", "soon")):
            self.run_program("verify", self.repository_path, *arguments, expect=harness.USAGE)
        configuration = self.scratch / "nodesnap.conf"
        configuration.write_text("[verify]\nsample = 1%\n")
        self.assertEqual(self.coverage("--config", configuration)["now_packs"], 0)
        self.assertEqual(self.coverage("--config", configuration, "--data")["now_packs"], 1)

    def test_damage_that_a_sample_finds_is_told_of_all_backups(self):
        victim = self.packs()[1]
        self.add_backup("third")
        flip(victim, 4096 + 70_000)
        found = None
        for _ in range(self.count):
            result = self.run_program("verify", self.repository_path, "--data", "--sample", "1", "--json", expect=(harness.DONE, harness.DAMAGED))
            if result.status == harness.DAMAGED:
                found = result.json
                break
        self.assertIsNotNone(found)
        self.assertEqual(found["affected_count"], 2, found)  # the same range of the same file, in both backups
        self.assertEqual({text.split(", ", 1)[1] for text in found["affected"]}, {found["affected"][0].split(", ", 1)[1]})
        self.assertEqual(found["coverage"]["damaged_packs"], 1)
        # It stays known, and each sample reads it again.
        self.assertEqual(self.coverage()["damaged_packs"], 1)
        self.run_program("verify", self.repository_path, "--data", "--sample", "1", expect=harness.DAMAGED)
        flip(victim, 4096 + 70_000)
        self.ok("verify", self.repository_path, "--data", "--sample", "1")
        self.assertEqual(self.coverage()["damaged_packs"], 0)

    def test_killed(self):
        shards = len({path.parent.name for path in self.packs()})
        for step, nth in (("verify.remembering", 1), ("verify.remembering", 3), ("target.compared", 2), ("verify.remembered", 1), ("verify.remembered", shards)):
            with self.subTest(step=step, nth=nth):
                for record in (self.repository_path / "checks").glob("*"):
                    record.unlink()
                killed = self.run_program("verify", self.repository_path, "--data", program=harness.FAULTS, environment={"NODESNAP_SIGNAL_AT": f"{step}:{nth}"})
                self.assertEqual(killed.status, -signal.SIGKILL, str(killed))
                written = nth if step == "verify.remembered" else nth - 1
                self.assertEqual(len(self.records()), written)
                known = self.coverage()["ever_packs"]
                self.assertGreaterEqual(known, written)
                self.assertEqual(self.coverage("--data", "--since", "1d")["now_packs"], self.count - known)
                self.assertEqual(self.coverage()["ever_packs"], self.count)

    def test_interrupted(self):
        child = self.start_program("verify", self.repository_path, "--data", "--workers", "1", "--no-io-uring", "--limit", "30M")

        def has_read(wanted):
            with open(f"/proc/{child.pid}/io", encoding="ascii") as file:
                return int(file.readline().split()[1]) >= wanted

        harness.wait_for(lambda: has_read(self.packs()[0].stat().st_size + (12 << 20)), "the first pack to be read")
        child.send_signal(signal.SIGINT)
        self.assertEqual(self.finish(child).status, harness.FAILED)
        known = self.coverage()["ever_packs"]
        self.assertGreater(known, 0)
        self.assertLess(known, self.count)
        self.assertEqual(self.coverage("--data", "--since", "1d")["now_packs"], self.count - known)

    def test_two_at_once(self):
        children = [self.start_program("verify", self.repository_path, "--data", "--json") for _ in range(2)]
        for child in children:
            result = self.finish(child)
            self.assertEqual(result.status, harness.DONE, str(result))
            self.assertTrue(result.json["coverage"]["remembered"])
        self.assertEqual(self.coverage()["ever_packs"], self.count)

    def test_read_only(self):
        self.assertEqual(self.coverage("--data", "--sample", "1")["now_packs"], 1)
        harness.tool("mount", "-o", "remount,ro", self.mount)
        result = self.ok("verify", self.repository_path, "--data")
        self.assertIn("note: not all that was checked could be remembered: ", result.out)
        self.assertIn("all is whole", result.out)
        for _ in range(2):
            coverage = self.coverage("--data", "--sample", "1", expect=harness.WARNINGS)
            self.assertEqual((coverage["now_packs"], coverage["ever_packs"], coverage["remembered"]), (1, 2, False))
        self.assertEqual(self.coverage()["ever_packs"], 1)

    def test_other_commands_leave_the_records_alone(self):
        self.add_backup("third")
        self.ok("verify", self.repository_path, "--data")
        (self.repository_path / "checks" / "README").write_bytes(b"of a later version")
        before = self.records()
        self.add_backup("fourth")
        self.ok("repair", self.repository_path)
        self.ok("forget", self.repository_path, self.backups(self.repository_path)[1]["id"], "--prune")
        self.ok("prune", self.repository_path)
        self.assertEqual(self.records(), before)
        # What is gone is left out of a record when that is written again.
        (self.node / "first").unlink()
        self.ok("backup", self.node, self.repository_path)
        while len(backups := self.backups(self.repository_path)) > 1:
            self.ok("forget", self.repository_path, backups[0]["id"])
        self.ok("prune", self.repository_path)
        self.assertLess(len(self.packs()), self.count)
        self.ok("verify", self.repository_path, "--data")
        known = sum((len(content) - 128) // 32 for name, content in self.records().items()
                    if name != "README" and any(path.parent.name == name for path in self.packs()))
        self.assertEqual(known, len(self.packs()))


if __name__ == "__main__":
    harness.main()
