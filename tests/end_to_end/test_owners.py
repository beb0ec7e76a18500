"""Owners come back by name first, where names have other ids on the restoring host; options override; unknown names are reported."""

import os
from pathlib import Path

import harness


class Owners(harness.Case):
    def setUp(self):
        super().setUp()
        self.mount = self.file_system("btrfs", 256)
        self.node = self.subvolume(self.mount / "node")
        for name, owner in (("games", (5, 60)), ("daemon", (1, 1)), ("nobody knows", (3_000_001, 3_000_002)), ("root", (0, 0))):
            (self.node / name).write_bytes(b"x")
            os.chown(self.node / name, *owner)
        self.repo = self.repository()
        self.ok("backup", self.node, self.repo)

    def owners(self, place):
        return {path.name: (path.stat().st_uid, path.stat().st_gid) for path in place.iterdir()}

    def elsewhere(self, *arguments, expect, users=None, groups=None):
        """Runs the program on a host where names have other ids: with other passwd and group files, in a mount namespace of its own."""
        passwd = self.scratch / "passwd"
        group = self.scratch / "group"
        passwd.write_text("".join(f"{name}:x:{uid}:{uid}::/:/bin/false\n" for name, uid in (users or {}).items()))
        group.write_text("".join(f"{name}:x:{gid}:\n" for name, gid in (groups or {}).items()))
        script = self.scratch / "elsewhere"
        script.write_text(f'#!/bin/sh\nmount --bind "{passwd}" /etc/passwd && mount --bind "{group}" /etc/group && exec "{Path(harness.PROGRAM).resolve()}" "$@"\n')
        script.chmod(0o755)
        wrapper = self.scratch / "wrapper"
        wrapper.write_text(f'#!/bin/sh\nexec unshare --mount "{script}" "$@"\n')
        wrapper.chmod(0o755)
        return self.run_program(*arguments, expect=expect, program=wrapper)

    def test_same_host(self):
        self.ok("restore", self.repo, "latest", self.mount / "restored")
        self.assertEqual(self.owners(self.mount / "restored"), self.owners(self.node))

    def test_other_ids_for_the_same_names(self):
        result = self.elsewhere("restore", self.repo, "latest", self.mount / "restored", users={"root": 0, "games": 4005, "daemon": 4001},
                                groups={"root": 0, "games": 4060, "daemon": 4002}, expect=(harness.DONE, harness.WARNINGS))
        found = self.owners(self.mount / "restored")
        self.assertEqual(found["games"], (4005, 4060), str(result))
        self.assertEqual(found["daemon"], (4001, 4002))
        self.assertEqual(found["root"], (0, 0))
        self.assertEqual(found["nobody knows"], (3_000_001, 3_000_002))

    def test_unknown_names_are_reported_and_keep_their_ids(self):
        result = self.elsewhere("restore", self.repo, "latest", self.mount / "restored", users={"root": 0, "daemon": 1}, groups={"root": 0, "daemon": 1},
                                expect=harness.WARNINGS)
        self.assertIn("games", result.err)
        self.assertEqual(self.owners(self.mount / "restored")["games"], (5, 60))

    def test_numeric_ids(self):
        self.elsewhere("restore", self.repo, "latest", self.mount / "restored", "--numeric-ids", users={"root": 0, "games": 4005},
                       groups={"root": 0, "games": 4060}, expect=harness.DONE)
        self.assertEqual(self.owners(self.mount / "restored"), self.owners(self.node))

    def test_owner_map(self):
        self.ok("restore", self.repo, "latest", self.mount / "restored", "--owner-map", "user:games=daemon", "--owner-map", "group:3000002=1234",
                "--owner-map", "user:3000001=games")
        found = self.owners(self.mount / "restored")
        self.assertEqual(found["games"], (1, 60))
        self.assertEqual(found["nobody knows"], (5, 1234))


if __name__ == "__main__":
    harness.main()
