"""What a backup and a restore refuse because it is seldom meant: too little consistency, an older engine, another node's place."""

import os
import subprocess
import sys

import harness

WRITER = "import sys, time\nfile = open(sys.argv[1], 'a')\nprint(flush=True)\ntime.sleep(1000)\n"


class Habits(harness.Case):
    def setUp(self):
        super().setUp()
        self.mount_point = self.file_system("btrfs", 512)
        self.node = self.subvolume(self.mount_point / "node")
        (self.node / "CURRENT").write_bytes(b"MANIFEST-1\n")
        self.target = self.repository()

    def engine(self, text, status=0):
        """The command that prints the version."""
        program = self.scratch / "engine"
        program.write_text(f"#!/bin/sh\nprintf '{text}'\nexit {status}\n")
        program.chmod(0o755)
        return ("--version-command", f"{program} --version")

    def restore(self, name, *options, expect=harness.DONE):
        return self.run_program("restore", self.target, "latest", self.mount_point / name, "--state-dir", self.state, *options, expect=expect)

    def test_an_older_engine(self):
        self.ok("backup", self.node, self.target, "--profile", "generic", *self.engine(r"a line\nquasardb daemon 3.14.1-rc2 (2024)\n"))
        shown = self.ok("show", self.target, "latest")
        self.assertIn("engine:         quasardb daemon 3.14.1-rc2 (2024)\n", shown.out)
        self.assertIn("profile:        generic\n", shown.out)
        stored = self.backups(self.target)[0]
        self.assertEqual((stored["engine_version"], stored["profile"]), ("quasardb daemon 3.14.1-rc2 (2024)", "generic"))
        for number, (version, expect) in enumerate((("3.9.9", harness.REFUSED), ("2.99", harness.REFUSED), ("3.14", harness.REFUSED),
                                                    ("3.14.1", harness.DONE), ("3.14.2", harness.DONE), ("10.0", harness.DONE))):
            with self.subTest(version=version):
                result = self.restore(f"restored{number}", *self.engine(f"qdbd {version}"), expect=expect)
                self.assertEqual((self.mount_point / f"restored{number}").exists(), expect == harness.DONE)
                if expect == harness.REFUSED:
                    self.assertIn(f"\"qdbd {version}\", is older than", result.err)
                    self.assertIn("--allow-older-engine", result.err)
        self.restore("older", *self.engine("qdbd 1.0"), "--allow-older-engine")
        self.restore("planned", *self.engine("qdbd 1.0"), "--dry-run", expect=harness.REFUSED)
        # What can't be told refuses nothing. That there is no such program is usual on a new host.
        for name, command, expect in (("fails", self.engine("no licence", 1), harness.WARNINGS), ("mute", self.engine("qdbd"), harness.WARNINGS),
                                      ("gone", ("--version-command", "/nowhere/qdbd --version"), harness.DONE)):
            with self.subTest(name):
                result = self.restore(name, *command, expect=expect)
                self.assertEqual("can't be told" in result.err, expect == harness.WARNINGS, result)

    def test_a_database_that_a_process_out_of_sight_has_open(self):
        """In another pid namespace /proc doesn't show who holds the engine's lock."""
        (self.node / "LOCK").write_bytes(b"")
        self.ok("backup", self.node, self.target)
        self.ok("snapshot", "create", self.node, "before")
        script = "import fcntl, sys, time\nlock = open(sys.argv[1], 'r+')\nfcntl.lockf(lock, fcntl.LOCK_EX)\nprint(flush=True)\ntime.sleep(1000)\n"
        child = subprocess.Popen([sys.executable, "-B", "-c", script, str(self.node / "LOCK")], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.stack.callback(child.stdout.close)
        self.stack.callback(child.wait)
        self.stack.callback(child.kill)
        child.stdout.readline()
        apart = self.scratch / "apart"
        apart.write_text(f"#!/bin/sh\nexec unshare --pid --fork --mount-proc {harness.PROGRAM} \"$@\"\n")
        apart.chmod(0o755)
        for arguments in (("restore", self.target, "latest", self.node, "--delta", "--state-dir", self.state),
                          ("rollback", self.node, "before", "--state-dir", self.state), ("backup", self.node, self.target, "--snapshot", "none")):
            with self.subTest(arguments[0]):
                result = self.run_program(*arguments, program=apart, expect=harness.REFUSED)
                self.assertIn(f"{self.node}/LOCK is locked by a process that isn't seen from here", result.err)

    def test_a_version_that_is_not_known(self):
        told = self.run_program("backup", self.node, self.target, *self.engine("broken", 3), expect=harness.WARNINGS)
        self.assertIn("the engine's version isn't known", told.err)
        self.assertIn("exit status 3: broken", told.err)
        self.ok("backup", self.node, self.target, "--version-command", "/nowhere/qdbd --version")
        self.ok("backup", self.node, self.target, "--profile", "quasardb")  # which isn't installed here
        stored = self.backups(self.target)
        self.assertEqual([(entry["engine_version"], entry["profile"]) for entry in stored], [("", ""), ("", ""), ("", "quasardb")])
        self.restore("restored", *self.engine("qdbd 0.1"))

    def test_a_pinned_backup_keeps_its_version(self):
        self.ok("backup", self.node, self.target, *self.engine("qdbd 3.1"))
        self.ok("pin", self.target, "latest")
        self.assertEqual(self.backups(self.target)[0]["engine_version"], "qdbd 3.1")

    def test_a_backup_that_is_gone_on_with_has_the_version_of_its_time(self):
        (self.node / "large").write_bytes(os.urandom(140 << 20))
        killed = self.run_program("backup", self.node, self.target, *self.engine("qdbd 3.1"), "--workers", "1", program=harness.FAULTS,
                                  environment={"NODESNAP_SIGNAL_AT": "drain.pack-logged", "NODESNAP_SIGNAL": "9"})
        self.assertEqual(killed.status, -9)
        self.assertTrue(self.ok("backup", self.node, self.target, *self.engine("qdbd 3.2"), "--json").json["resumed"])
        self.assertEqual(self.backups(self.target)[0]["engine_version"], "qdbd 3.1")

    def test_another_nodes_place(self):
        other = self.subvolume(self.mount_point / "other")
        (other / "CURRENT").write_bytes(b"MANIFEST-2\n")
        others = self.repository("others", "node2")
        self.ok("backup", self.node, self.target)
        self.ok("backup", other, others)
        for options in ((), ("--delta",), ("--delta", "--in-place")):
            refused = self.restore("other", *options, expect=harness.REFUSED)
            self.assertEqual((other / "CURRENT").read_bytes(), b"MANIFEST-2\n")
        self.assertIn("is the place of another node", refused.err)
        self.assertIn("--allow-other-node", refused.err)
        (other / "CURRENT").unlink()  # emptied for the restore, it is still that node's place
        self.restore("other", expect=harness.REFUSED)
        self.ok("restore", others, "latest", other, "--state-dir", self.state)
        self.restore("other", "--delta", "--allow-other-node")
        self.assertEqual((other / "CURRENT").read_bytes(), b"MANIFEST-1\n")
        self.restore("node", "--delta")
        # A record that can't be read is told, and costs nobody a restore.
        (self.state / "nodes.json").write_text("{")
        told = self.restore("elsewhere", expect=harness.WARNINGS)
        self.assertIn("can't be told", told.err)

    def test_a_directory_in_use(self):
        self.ok("backup", self.node, self.target)
        used = self.mount_point / "used"
        used.mkdir()
        with subprocess.Popen(["sleep", "1000"], cwd=used, stdin=subprocess.DEVNULL) as user:
            self.stack.callback(user.kill)
            refused = self.restore("used", expect=harness.REFUSED)
            self.assertIn("--allow-in-use", refused.err)
            self.assertEqual(os.listdir(used), [])
            told = self.restore("used", "--allow-in-use", expect=harness.WARNINGS)
            self.assertIn("goes on with what was there", told.err)
            self.assertEqual((used / "CURRENT").read_bytes(), b"MANIFEST-1\n")
            user.kill()
        # Who has a file open keeps it when a clone takes the directory's place.
        (used / "CURRENT").write_bytes(b"MANIFEST-2\n")
        writer = subprocess.Popen([sys.executable, "-c", WRITER, used / "log"], stdout=subprocess.PIPE)
        self.children.append(writer)
        writer.stdout.readline()
        self.restore("used", "--delta", expect=harness.REFUSED)
        self.restore("used", "--delta", "--dry-run", expect=harness.REFUSED)
        self.assertEqual((used / "CURRENT").read_bytes(), b"MANIFEST-2\n")
        self.restore("used", "--delta", "--allow-in-use", expect=harness.WARNINGS)
        self.assertEqual((used / "CURRENT").read_bytes(), b"MANIFEST-1\n")
        self.assertEqual(sorted(os.listdir(used)), ["CURRENT"])

    def test_too_little_space(self):
        (self.node / "large").write_bytes(os.urandom(100 << 20))
        self.ok("backup", self.node, self.target)
        small = self.file_system("ext4", 64)
        arguments = ("restore", self.target, "latest", small / "restored", "--state-dir", self.state)
        refused = self.run_program(*arguments, expect=harness.REFUSED)
        self.assertIn("--allow-low-space", refused.err)
        self.assertFalse((small / "restored").exists())
        # It is tried then, and ends as any that finds the disk full.
        failed = self.run_program(*arguments, "--allow-low-space", expect=harness.FAILED)
        self.assertRegex(failed.err, "(?i)no space left")
        self.assertFalse((small / "restored").exists())

    def test_consistency_that_is_needed(self):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, self.node / "log"], stdout=subprocess.PIPE)
        self.children.append(writer)
        writer.stdout.readline()
        for needed, expect in (("point-in-time", harness.REFUSED), ("crash-consistent", harness.DONE)):
            self.run_program("backup", self.node, self.target, "--need", needed, expect=expect)
        self.assertEqual(len(self.backups(self.target)), 1)
        refused = self.run_program("backup", self.node, self.target, "--need", "point-in-time", expect=harness.REFUSED)
        self.assertIn("would be crash-consistent, and point-in-time is needed", refused.err)
        self.assertIn("--hold", refused.err)
        left = self.ok("snapshot", "list", self.node, "--json").json["snapshots"]
        self.assertEqual(len(left), 1, left)  # the parent
        self.ok("backup", self.node, self.target, "--need", "point-in-time", "--accept-inconsistent")
        self.assertEqual(self.backups(self.target)[1]["consistency"], "crash-consistent")
        writer.terminate()
        writer.wait()
        self.ok("backup", self.node, self.target, "--need", "point-in-time")
        self.run_program("backup", self.node, self.target, "--need", "perfect", expect=harness.USAGE)


if __name__ == "__main__":
    harness.main()
