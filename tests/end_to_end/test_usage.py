"""What a stranger types: wrong usage names the mistake and ends with 2, help and version work without anything else."""

import json

import harness


class Usage(harness.Case):
    COMMANDS = ("init", "backup", "list", "show", "find", "diff", "dump", "restore", "verify", "repair", "forget", "prune", "pin", "unpin", "status", "unlock", "snapshot",
                "release")

    def test_wrong_usage(self):
        for arguments in (("frobnicate",), ("backup",), ("backup", "a"), ("backup", "a", "b", "c"), ("list",), ("restore", "r"), ("restore", "r", "latest"),
                          ("init", "r"), ("backup", "a", "b", "--limit", "fast"), ("backup", "a", "b", "--no-such-option"), ("verify",), ("dump", "r", "latest"),
                          ("snapshot", "explode", "x"), ("backup", "a", "b", "--snapshot", "zfs"), ("restore", "r", "latest", "d", "--owner-map", "nonsense"),
                          ("status", "r", "--max-age", "old"), ("forget", "r"), ("forget", "r", "--keep-daily", "x"), ("pin", "r"), ("list", "ssh:///path"), ("list", "s3://bucket/path"), ("guard",),
                          ("release", "r"), ("backup", "a", "b", "--hold", "freeze"), ("backup", "a", "b", "--unit", "u")):
            with self.subTest(arguments=arguments):
                command = [harness.PROGRAM, *arguments]
                result = self.run_plain(*arguments)
                self.assertEqual(result.status, harness.USAGE, f"{command}: {result}")
                self.assertTrue(result.err.strip())

    def run_plain(self, *arguments):
        import subprocess
        done = subprocess.run([harness.PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                              timeout=harness.DEADLINE)
        return harness.Result(arguments, done.returncode, done.stdout, done.stderr)

    def test_help_and_version(self):
        overview = self.run_plain("--help")
        self.assertEqual(overview.status, harness.DONE)
        for command in self.COMMANDS:
            self.assertIn(command, overview.out)
            text = self.run_plain(command, "--help")
            self.assertEqual(text.status, harness.DONE)
            self.assertIn("nodesnap " + command, text.out)
        self.assertRegex(self.run_plain("--version").out, r"^nodesnap \d+\.\d+\.\d+")

    def test_a_near_miss_is_suggested(self):
        self.assertIn("backup", self.run_plain("bakcup").err)

    def test_errors_are_documents_too(self):
        result = self.run_plain("list", str(self.scratch / "nothing here"), "--json")
        self.assertEqual(result.status, harness.REFUSED)
        document = json.loads(result.out)
        self.assertIn("error", document)
        self.assertIn("nothing here", result.err)

    def test_what_is_not_a_repository_is_refused(self):
        (self.scratch / "directory").mkdir()
        (self.scratch / "directory" / "file").write_bytes(b"x")
        for command in (("list",), ("verify",), ("status",), ("repair",), ("forget", "--keep-last", "1"), ("pin", "latest"), ("unlock",), ("show", "latest")):
            self.assertEqual(self.run_plain(command[0], str(self.scratch / "directory"), *command[1:]).status, harness.REFUSED, command)
        self.assertEqual(self.run_plain("init", str(self.scratch / "directory"), "--node", "n").status, harness.REFUSED)

    def test_an_empty_repository(self):
        repository = self.repository()
        self.assertEqual(self.backups(repository), [])
        self.ok("verify", repository)
        self.assertEqual(self.run_plain("status", str(repository)).status, harness.FAILED)
        self.assertIn(self.run_plain("restore", str(repository), "latest", str(self.scratch / "x")).status, (harness.FAILED, harness.REFUSED))


if __name__ == "__main__":
    harness.main()
