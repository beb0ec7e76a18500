"""Parents that fill the node's file system are dropped before its daemon can't write any more; and the next backup goes on without them."""

import errno
import os
import signal

import harness

MIB = 1 << 20


class Trim(harness.Case):
    def setUp(self):
        super().setUp()
        self.mount_point = self.file_system("btrfs", 512)
        self.node = self.subvolume(self.mount_point / "node")

    def write(self, name, mib):
        with open(self.node / name, "wb") as file:
            file.write(os.urandom(MIB) * mib)
            file.flush()
            os.fsync(file.fileno())

    def snapshots(self):
        return self.ok("snapshot", "list", self.node, "--json").json["snapshots"]

    def free(self):
        status = os.statvfs(self.node)
        return status.f_bavail * status.f_frsize

    def test_daemon_can_write_again(self):
        """Two repositories' parents hold what the daemon has replaced since; trim drops as many as are needed, and the operator's own never."""
        first, second = self.repository("first"), self.repository("second")
        prefixes = [self.ok("list", repository, "--json").json["uuid"][:8] for repository in (first, second)]
        self.write("old", 60)
        self.ok("backup", self.node, first)
        (self.node / "old").unlink()
        self.write("newer", 60)
        self.ok("backup", self.node, second)
        (self.node / "newer").unlink()
        self.ok("snapshot", "create", self.node, "mine")
        listed = self.snapshots()
        self.assertEqual([entry["role"] for entry in listed], ["parent", "parent", "operator's"])
        self.assertEqual([entry["repository_prefix"] for entry in listed], prefixes + [""])
        self.assertEqual([entry["held_bytes"] for entry in listed], [60 * MIB, 60 * MIB, 0])
        # The daemon writes until it can't.
        with self.assertRaises(OSError) as failed:
            for number in range(1000):
                self.write(f"fill{number}", 16)
        self.assertEqual(failed.exception.errno, errno.ENOSPC)
        os.unlink(self.node / f"fill{number}")
        os.sync()
        wanted = self.free() + 40 * MIB
        dry = self.ok("snapshot", "trim", self.node, "--min-free", str(wanted), "--dry-run", "--json").json
        self.assertEqual([entry["repository_prefix"] for entry in dry["dropped"]], prefixes[:1])
        self.assertEqual(len(self.snapshots()), 3)

        result = self.ok("snapshot", "trim", self.node, "--min-free", str(wanted))
        self.assertIn(f"dropped the parent snapshot of repository {prefixes[0]}, ", result.out)
        self.assertIn("held about 60.0 MiB: the next backup into that repository reads the whole node", result.out)
        self.assertGreaterEqual(self.free(), wanted)
        self.write("again", 30)
        self.assertEqual([entry["role"] for entry in self.snapshots()], ["parent", "operator's"])

        # More than there is: it says so, and leaves the operator's.
        result = self.run_program("snapshot", "trim", self.node, "--min-free", "99%", "--json", expect=harness.WARNINGS).json
        self.assertFalse(result["enough"])
        self.assertEqual([(entry["repository_prefix"], entry["reason"]) for entry in result["dropped"]], [(prefixes[1], "free")])
        self.assertEqual([entry["name"] for entry in self.snapshots()], ["mine"])

        for number in range(1000):
            (self.node / f"fill{number}").unlink(missing_ok=True)
        made = self.ok("backup", self.node, first, "--json").json
        self.assertIn("the last backup's snapshot is gone", made["parent_missing"])
        self.assertIn("snapshot trim", made["parent_missing"])
        self.assertEqual(len(self.snapshots()), 2)

    def test_full_metadata(self):
        """With its metadata full btrfs calls nothing free, however much of the data is: a dry run doesn't add up what nobody knows."""
        repository = self.repository()
        self.write("old", 60)
        self.ok("backup", self.node, repository)
        (self.node / "old").unlink()
        self.fill(lambda number: self.write(f"fill{number}", 16))
        (self.node / "inline").mkdir()
        self.fill(lambda number: (self.node / "inline" / str(number)).write_bytes(b"x" * 2000), sync_each=1000)
        if self.free() != 0:
            self.skipTest("the file system's metadata could not be filled")
        dry = self.ok("snapshot", "trim", self.node, "--min-free", "1G", "--dry-run", "--json").json
        self.assertEqual([(entry["role"], entry["only_if_needed"]) for entry in dry["dropped"]], [("parent", False)])
        self.assertEqual((dry["free_bytes"], dry["enough"]), (None, None))
        self.assertIn("free then: can't be told", self.ok("snapshot", "trim", self.node, "--min-free", "1G", "--dry-run").out)

    def fill(self, write, sync_each=1):
        with self.assertRaises(OSError) as failed:
            for number in range(1_000_000):
                write(number)
                if number % sync_each == 0:
                    harness.tool("sync", "-f", self.node)
        self.assertEqual(failed.exception.errno, errno.ENOSPC)

    def test_age_and_count(self):
        known = []
        for name in ("first", "second"):
            repository = self.repository(name)
            self.ok("backup", self.node, repository)
            known += ["--repository", repository]
        self.assertEqual(self.ok("snapshot", "trim", self.node, "--max-age", "7d", *known, "--json").json["dropped"], [])
        self.assertEqual(self.ok("snapshot", "trim", self.node, "--max-count", "2", *known, "--json").json["dropped"], [])
        newest = self.snapshots()[1]["name"]
        self.assertEqual(len(self.ok("snapshot", "trim", self.node, "--max-count", "1", *known, "--json").json["dropped"]), 1)
        self.assertEqual([entry["name"] for entry in self.snapshots()], [newest])
        # Without the repository it may be that of an unfinished backup; one that is out of reach is told.
        unknown = self.ok("snapshot", "trim", self.node, "--max-age", "0", "--json").json
        self.assertEqual((unknown["dropped"], [entry["name"] for entry in unknown["resumable"]]), ([], [newest]))
        self.assertIn("--repository REPOSITORY tells", self.ok("snapshot", "trim", self.node, "--max-count", "0").out)
        away = self.run_program("snapshot", "trim", self.node, "--max-age", "0", "--repository", self.scratch / "away", expect=harness.WARNINGS)
        self.assertIn("can't be asked", away.err)
        dropped = self.ok("snapshot", "trim", self.node, "--max-age", "0", *known, "--json").json["dropped"]
        self.assertEqual([entry["reason"] for entry in dropped], ["age"])
        self.assertEqual(self.snapshots(), [])

    def test_unfinished_backup(self):
        """Its repository says which snapshot it is: it isn't dropped for its age or number, and it can be gone on with after all others went."""
        repository = self.repository()
        known = ("--repository", repository, "--json")
        self.ok("backup", self.node, repository)
        self.write("large", 140)
        killed = self.run_program("backup", self.node, repository, "--workers", "1", program=harness.FAULTS,
                                  environment={"NODESNAP_SIGNAL_AT": "drain.pack-logged", "NODESNAP_SIGNAL": "9"})
        self.assertEqual(killed.status, -9)
        listed = self.ok("snapshot", "list", self.node, *known).json["snapshots"]
        self.assertEqual([(entry["role"], entry["certain"]) for entry in listed], [("parent", True), ("unfinished", True)])
        result = self.ok("snapshot", "trim", self.node, "--max-age", "0", "--max-count", "0", *known).json
        self.assertEqual([[entry["role"] for entry in result[which]] for which in ("dropped", "resumable")], [["parent"], ["unfinished"]])
        # The node has all that it holds: no space would come free.
        kept = self.run_program("snapshot", "trim", self.node, "--min-free", "99%", *known, expect=harness.WARNINGS).json
        self.assertEqual((kept["dropped"], [entry["role"] for entry in kept["useless"]]), ([], ["unfinished"]))
        self.assertIn("that would give space", kept["warnings"][0])
        (self.node / "large").unlink()
        harness.tool("sync", "-f", self.node)
        dry = self.run_program("snapshot", "trim", self.node, "--min-free", "99%", "--dry-run", *known, expect=harness.WARNINGS).json
        self.assertIn("that backup can't be gone on with", dry["dropped"][0]["message"])
        self.assertTrue(self.ok("backup", self.node, repository, "--json").json["resumed"])
        self.assertEqual([entry["role"] for entry in self.ok("snapshot", "list", self.node, *known).json["snapshots"]], ["parent"])

    def test_running_backup_keeps_its_snapshots(self):
        repository = self.repository()
        self.write("file", 1)
        self.ok("backup", self.node, repository)
        self.write("file", 1)
        child = self.start_program("backup", self.node, repository, program=harness.FAULTS,
                                   environment={"NODESNAP_SIGNAL_AT": "backup.before-publish", "NODESNAP_SIGNAL": str(int(signal.SIGSTOP))})
        harness.wait_for(lambda: harness.is_stopped(child.pid), "the backup to stop")
        result = self.ok("snapshot", "trim", self.node, "--max-count", "0", "--max-age", "0", "--repository", repository, "--json").json
        self.assertEqual(result["dropped"], [])
        self.assertEqual(len(result["in_use"]), 2)
        name = self.snapshots()[0]["name"]
        self.run_program("snapshot", "remove", self.node, name, expect=harness.REFUSED)
        child.send_signal(signal.SIGCONT)
        self.assertEqual(self.finish(child).status, harness.DONE)
        self.assertEqual([entry["in_use"] for entry in self.snapshots()], [False])
        self.ok("verify", repository, "--data")

    def test_wrong_usage(self):
        for arguments in ([], ["--min-free", "x"], ["--min-free", "100%"], ["--min-free", "-1%"], ["--min-free", "%"], ["--max-age", "soon"],
                          ["--max-count", "-1"], ["--max-count", "x"]):
            result = self.run_program("snapshot", "trim", self.node, *arguments, expect=harness.USAGE)
            self.assertIn("nodesnap: ", result.err)
        self.run_program("snapshot", "list", self.node, "--max-count", "1", expect=harness.USAGE)
        self.run_program("snapshot", "list", self.node, "--dry-run", expect=harness.USAGE)
        self.run_program("snapshot", "create", self.node, "--repository", self.scratch, expect=harness.USAGE)
        self.run_program("snapshot", "trim", self.scratch, "--max-count", "1", expect=harness.REFUSED)
        self.run_program("snapshot", "trim", self.scratch / "none", "--min-free", "1%", expect=harness.REFUSED)


if __name__ == "__main__":
    harness.main()
