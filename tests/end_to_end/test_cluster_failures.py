"""What a cluster backup does when a node, the coordinator or the network fails: all daemons come back, and what was taken can be gone on with."""

import os
import signal
from pathlib import Path

import harness
from cluster_case import ClusterCase, why_not


@harness.unittest.skipIf(why_not(), why_not())
class ClusterFailures(ClusterCase):
    def test_a_node_that_fails_makes_all_let_go(self):
        self.start(database=False)
        file = self.cluster_file()
        self.taken(file)
        for step in ("agent.hold", "agent.held", "agent.snapped"):
            self.no_faults()
            self.fault(self.nodes[2], NODESNAP_SIGNAL_AT=step)
            failed = self.cluster("backup", file)
            self.assertIn(failed.status, (harness.FAILED, harness.LOCKED), str(failed))
            self.assertIn("db3", failed.err)
            self.expect_all_free()
        # It can't be reached at all.
        self.no_faults()
        self.network.cut(3)
        failed = self.cluster("backup", file, expect=harness.FAILED)
        self.assertIn("db3", failed.err)
        self.network.mend(3)
        self.taken(file)
        states = [cut["state"] for cut in self.cluster("list", file, "--json", expect=harness.DONE).json["cluster_backups"]]
        self.assertEqual(states[0], "complete")
        self.assertEqual(states[-1], "complete")
        self.assertEqual(set(states[1:-1]) - {"given up"}, set())

    def test_degraded_goes_on_without_it_and_names_it(self):
        self.start(database=False)
        file = self.cluster_file()
        self.fault(self.nodes[1], NODESNAP_SIGNAL_AT="agent.asked")
        result = self.cluster("backup", file, "--degraded", "--json", expect=harness.WARNINGS).json
        self.assertFalse(result["complete"])
        self.assertEqual([entry["state"] for entry in result["nodes"]], ["done", "failed", "done", "done"])
        shown = self.cluster("list", file, expect=harness.DONE).out
        self.assertIn("degraded, without db2", shown)
        self.cluster("status", file, expect=harness.FAILED)
        self.expect_all_free()

    def test_the_coordinator_is_killed_at_each_phase(self):
        self.start(database=False)
        file = self.cluster_file()
        for step in ("cluster.proposed", "cluster.held", "cluster.snapped", "cluster.released", "cluster.stored"):
            killed = self.killed_coordinator(step, file)
            self.assertEqual(killed.status, -signal.SIGKILL, str(killed))
            self.expect_all_free()
            cuts = self.cluster("list", file, "--json", expect=harness.DONE).json["cluster_backups"]
            state = cuts[-1]["state"]
            if step in ("cluster.proposed", "cluster.held"):
                self.assertEqual(state, "given up")
            else:
                self.assertEqual(state, "unfinished")
                # Another isn't begun over it.
                refused = self.cluster("backup", file, expect=harness.REFUSED)
                self.assertIn("--finish", refused.err)
                finished = self.cluster("backup", file, "--finish")
                self.assertIn(finished.status, (harness.DONE, harness.WARNINGS), str(finished))
                shown = self.cluster("show", file, cuts[-1]["id"], "--json").json
                self.assertEqual(shown["state"], "complete")
                # Only who had the word that all snapshots were there proves that they are of one moment: not all may have had it.
                if step != "cluster.released":
                    self.assertEqual(shown["one_moment"], step == "cluster.stored")
        self.taken(file)

    def test_partitions(self):
        self.start(database=False)
        file = self.cluster_file()
        cut_off = self.nodes[3]
        for step in ("cluster.proposed", "cluster.held"):
            backup = self.start_cluster("backup", file, program=harness.FAULTS,
                                        environment={"NODESNAP_SIGNAL_AT": step, "NODESNAP_SIGNAL": str(int(signal.SIGSTOP))})
            harness.wait_for(lambda b=backup: b.poll() is not None or harness.is_stopped(b.pid), "the coordinator's step")
            self.network.cut(cut_off.number)
            os.kill(backup.pid, signal.SIGCONT)
            result = self.finish(backup)
            self.assertEqual(result.status, harness.FAILED, str(result))
            self.assertIn("db4", result.err)
            # Also the one that hears nothing any more.
            self.expect_all_free()
            self.network.mend(cut_off.number)
        self.taken(file)

    def test_a_connection_that_ends_during_a_drain_costs_nothing(self):
        self.start(database=False)
        (self.nodes[0].directory / "much").write_bytes(os.urandom(24 << 20))
        file = self.cluster_file()
        backup = self.start_cluster("backup", file, "--json", "--retry-after", "1s", "--limit", "12M")
        place = f"root@{self.nodes[0].host.address}"

        def ssh():
            """The coordinator's way to the first node, when that drains."""
            if not list((self.nodes[0].repository / "journal").glob("*.part")):
                return None
            for child in map(int, Path(f"/proc/{backup.pid}/task/{backup.pid}/children").read_text(encoding="ascii").split()):
                if place in Path(f"/proc/{child}/cmdline").read_text(encoding="ascii").split("\0"):
                    return child
            return None

        harness.wait_for(lambda: backup.poll() is not None or ssh(), "the drain")
        os.kill(ssh(), signal.SIGKILL)
        # The agent drains on; whether it, or the one that is sent after it, finishes the part is the same.
        result = self.finish(backup)
        self.assertIn(result.status, (harness.DONE, harness.WARNINGS), str(result))
        self.assertTrue(result.json["complete"], str(result))
        shown = self.cluster("list", file, "--json", expect=harness.DONE).json["cluster_backups"]
        self.assertEqual([(cut["state"], cut["one_moment"]) for cut in shown], [("complete", True)])

    def test_interrupted_while_it_drains_it_is_finished_later(self):
        self.start(database=False)
        for node in self.nodes[:2]:
            (node.directory / "much").write_bytes(os.urandom(24 << 20))
        file = self.cluster_file()
        backup = self.start_cluster("backup", file, "--limit", "4M", "--parallel", "1")
        harness.wait_for(lambda: backup.poll() is not None or list((self.nodes[0].repository / "journal").glob("*.part")), "the drain")
        backup.send_signal(signal.SIGINT)
        interrupted = self.finish(backup)
        self.assertEqual(interrupted.status, harness.FAILED, str(interrupted))
        self.expect_all_free()
        listed = self.cluster("list", file, expect=harness.DONE).out
        self.assertIn("unfinished", listed)
        # A backup of one node alone that can't go on with its part leaves that alone.
        node = self.nodes[1]
        self.state = node.state
        refused = self.run_program("backup", node.directory, node.repository, "--exclude", "x", expect=harness.REFUSED)
        self.assertIn("--finish", refused.err)
        finished = self.cluster("backup", file, "--finish", expect=(harness.DONE, harness.WARNINGS))
        self.assertIn("is complete, one moment", finished.out)

    def test_a_drain_that_fails_is_tried_again_alone(self):
        self.start(database=False)
        for node in self.nodes:
            (node.directory / "much").write_bytes(os.urandom(24 << 20))
        file = self.cluster_file()
        self.fault(self.nodes[0], NODESNAP_SIGNAL_AT="agent.draining", NODESNAP_ONCE=self.scratch / "once")
        result = self.cluster("backup", file, "--json", "--retry-after", "1s", "--parallel", "1", expect=(harness.DONE, harness.WARNINGS)).json
        self.assertTrue(result["complete"])
        self.assertTrue(result["one_moment"])
        self.assertTrue((self.scratch / "once").exists())
        self.assertTrue(all(entry["held_ns"] > 0 for entry in result["nodes"]))


if __name__ == "__main__":
    harness.main()
