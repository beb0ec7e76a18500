"""restore --delta --in-place that was cut off: a dry run tells what the run that goes on then writes."""

import harness
from delta_case import DeltaCase


class DeltaCutOff(DeltaCase):
    def test_the_dry_run_says_what_is_left_to_write(self):
        node, repository, wanted, full = self.backed_up_twice("ext4", "folder")
        call = ("restore", repository, wanted, node, "--delta", "--in-place")
        whole = self.ok(*call, "--dry-run", "--json").json["bytes"]
        told = []
        for setting, at in (("NODESNAP_SIGNAL_AT", "restore.foreign-removed"), ("NODESNAP_KILL_AT", "ring.write:8"),
                            ("NODESNAP_KILL_AT", "write:20"), ("NODESNAP_SIGNAL_AT", "restore.before-gates")):
            with self.subTest(at=at):
                self.ok("restore", repository, "latest", node, "--delta", "--in-place")
                killed = self.run_program(*call, program=harness.FAULTS, environment={setting: at})
                if killed.status != -9:
                    self.assertEqual(killed.status, harness.DONE, str(killed))
                    continue
                planned = self.ok(*call, "--dry-run", "--json").json
                result = self.ok(*call, "--json").json
                self.assertTrue(result["resumed"])
                told.append(result["bytes"])
                self.assertEqual({name: planned[name] for name in ("bytes", "kept_bytes")}, {name: result[name] for name in ("bytes", "kept_bytes")})
                self.assert_same(full, node)
                self.assert_tidy(node)
        self.assertGreater(whole, 0)
        self.assertLess(min(told), whole // 2)


if __name__ == "__main__":
    harness.main()
