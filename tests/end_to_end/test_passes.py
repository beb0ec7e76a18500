"""A directory of which no snapshot can be taken is read in passes, the last of them while the daemon is held."""

import os
import unittest

import harness
import hold_case

NO_CGROUPS = hold_case.why_no_cgroups()
KINDS = ("ext4", "xfs")


class PassesCase(hold_case.HoldCase):
    def place(self, kind, mib=1024):
        self.mount_point = self.file_system(kind, mib)
        self.node = self.mount_point / "node"
        self.node.mkdir()

    def setUp(self):
        harness.Case.setUp(self)

    def passes(self, repository, *arguments, **options):
        document = self.held(repository, "--snapshot", "none", *arguments, **options)
        self.assertGreater(document["passes"], 1)
        return document


@unittest.skipIf(NO_CGROUPS, NO_CGROUPS)
class Frozen(PassesCase):
    def test_no_backup_is_out_of_order(self):
        for kind in KINDS:
            with self.subTest(kind=kind):
                self.place(kind)
                (self.node / "large").write_bytes(os.urandom(64 << 20))
                repository = self.repository(kind)
                cgroup, child = self.daemon()
                told, last = [], 0
                for _ in range(6):
                    document = self.passes(repository, *self.freezing(child))
                    self.assertEqual(document["held"], "cgroup /" + cgroup.directory.name)
                    self.expect_running()
                    in_order, said = self.order_of(repository, document["backup"]["id"])
                    self.assertTrue(in_order, said)
                    self.assertGreater(int(said), last)
                    last = int(said)
                    # Not what doesn't change.
                    self.assertLess(document["held_read_bytes"], 64 << 20)
                    self.assertLessEqual(document["held_files"], 8)
                    told.append((document["passes"], document["held_read_bytes"], f"{document['backup']['downtime_ms']:.1f} ms"))
                self.nothing_is_left()
                self.ok("verify", repository, "--data")
                print(kind, told)
                child.kill()
                child.wait()


if __name__ == "__main__":
    harness.main()
