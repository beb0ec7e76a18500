"""A cluster of four nodes, on hosts of their own: taken at one moment while a client writes causes and effects, wrecked, and restored."""

import struct

import compare
import harness
from cluster_case import ClusterCase, out_of_order, why_not


@harness.unittest.skipIf(why_not(), why_not())
class Cluster(ClusterCase):
    def check_stores(self, keys):
        for node in self.nodes:
            tables = harness.tool(harness.WRITER, "check", node.directory / "store", keys[node.name]).split()
            self.assertTrue(tables, "the store has no tables")

    def acknowledged(self, node):
        try:
            return struct.unpack("Q", node.acks.read_bytes()[:8])[0]
        except (FileNotFoundError, struct.error):
            return 0

    def test_taken_wrecked_and_restored(self):
        self.start()
        for node in self.nodes:
            harness.wait_for(lambda n=node: self.acknowledged(n) >= 100, "the database's first keys")
        file = self.cluster_file()
        first = self.taken(file, "--parallel", "2", "--limit", "500M")
        keys = {node.name: self.acknowledged(node) for node in self.nodes}
        second = self.taken(file)
        lengths = self.log_lengths(second)
        self.assertIsNone(out_of_order(lengths))
        for entry in second["nodes"]:
            self.assertGreater(entry["held_ns"], 0)
        listed = self.cluster("list", file, "--json", expect=harness.DONE).json["cluster_backups"]
        self.assertEqual([(cut["id"], cut["state"], cut["one_moment"]) for cut in listed],
                         [(first["cut"], "complete", True), (second["cut"], "complete", True)])
        self.cluster("status", file, "--max-age", "1h", expect=harness.DONE)
        self.cluster("verify", file, "--data", expect=harness.DONE)
        self.assertIn("one moment", self.cluster("show", file, expect=harness.DONE).out)
        # A restore over daemons that run, or over what is there, touches nothing.
        refused = self.cluster("restore", file, expect=harness.REFUSED)
        self.assertIn("in use", refused.err)
        self.stop()
        file = self.cluster_file(hold=False)
        before = [compare.snapshot_of(node.directory) for node in self.nodes]
        refused = self.cluster("restore", file, expect=harness.REFUSED)
        self.assertIn("isn't empty", refused.err)
        for node, content in zip(self.nodes, before):
            self.assertEqual(compare.differences(content, compare.snapshot_of(node.directory)), [])
        # The purge by mistake.
        for node in self.nodes:
            harness.tool("find", node.directory, "-mindepth", "1", "-delete")
        dry = self.cluster("restore", file, "--dry-run", expect=harness.DONE)
        self.assertIn("would restore", dry.out)
        self.assertEqual([list(node.directory.iterdir()) for node in self.nodes], [[]] * 4)
        self.cluster("restore", file, expect=harness.DONE)
        self.assertEqual([(node.log().stat().st_size) // 16 for node in self.nodes], lengths)
        self.check_stores(keys)
        # Another restore is another: what is there now is a node like any other.
        self.cluster("restore", file, expect=harness.REFUSED)

    def test_a_restore_that_was_cut_off_goes_on(self):
        self.start(database=False)
        document = self.taken(self.cluster_file())
        self.stop()
        file = self.cluster_file(hold=False)
        for node in self.nodes:
            harness.tool("find", node.directory, "-mindepth", "1", "-delete")
        # Of one the restore is killed, of another what notes that it is done.
        self.fault(self.nodes[1], NODESNAP_SIGNAL_AT="restore.staged")
        self.fault(self.nodes[2], NODESNAP_SIGNAL_AT="cluster.noting-restored")
        failed = self.cluster("restore", file, expect=harness.FAILED)
        self.assertIn("db2", failed.err)
        self.no_faults()
        again = self.cluster("restore", file, expect=harness.DONE)
        self.assertEqual(again.out.count("it is there already"), 3, str(again))
        self.assertEqual([node.log().stat().st_size // 16 for node in self.nodes], self.log_lengths(document))

    def test_restored_in_part_to_a_larger_cluster_and_not_to_a_smaller(self):
        self.start(database=False)
        document = self.taken(self.cluster_file())
        self.stop()
        file = self.cluster_file(hold=False)
        wrecked = self.nodes[1]
        harness.tool("find", wrecked.directory, "-mindepth", "1", "-delete")
        others = [compare.snapshot_of(node.directory) for node in self.nodes if node is not wrecked]
        self.cluster("restore", file, document["cut"][:8], "--node", wrecked.name, expect=harness.DONE)
        self.assertEqual(others, [compare.snapshot_of(node.directory) for node in self.nodes if node is not wrecked])
        self.assertTrue(wrecked.log().exists())
        self.assertIsNone(out_of_order(self.log_lengths(document)))
        # A smaller one.
        for node in self.nodes:
            harness.tool("find", node.directory, "-mindepth", "1", "-delete")
        smaller = self.cluster_file(self.nodes[:3], hold=False, name="smaller")
        refused = self.cluster("restore", smaller, document["cut"], expect=harness.REFUSED)
        self.assertIn("without a place: db4", refused.err)
        self.assertEqual(list(self.nodes[0].directory.iterdir()), [])
        # A larger one, of which one node has another name, and one has something that is none of the cluster's.
        more = [self.node(5), self.node(6)]
        larger = self.cluster_file([*self.nodes[:3], *more], hold=False, name="larger")
        arguments = ("--map", "db4=db5", "--map-repository", f"db4={self.nodes[3].repository}")
        (more[1].directory / "something").write_text("here")
        refused = self.cluster("restore", larger, document["cut"], *arguments, expect=harness.REFUSED)
        self.assertIn("db6", refused.err)
        (more[1].directory / "something").unlink()
        self.cluster("restore", larger, document["cut"], *arguments, expect=harness.DONE)
        sizes = [node.log().stat().st_size // 16 for node in [*self.nodes[:3], more[0]]]
        self.assertEqual(sizes, self.log_lengths(document))
        self.assertEqual(list(more[1].directory.iterdir()), [])

    def test_no_effect_without_its_cause_whatever_the_skew(self):
        self.start(database=False)
        file = self.cluster_file()
        for round_number in range(8):
            # One node is held late, or takes its snapshot late: the others stand still for it.
            late = self.nodes[round_number // 2]
            step = ("agent.hold", "agent.snapshot")[round_number % 2]
            self.no_faults()
            self.fault(late, NODESNAP_SLEEP_AT=step, NODESNAP_SLEEP_MS="300")
            self.expect_progress()
            document = self.taken(file)
            if step == "agent.snapshot":
                self.assertGreater(document["skew_ns"], 200_000_000)
            self.assertIsNone(out_of_order(self.log_lengths(document)))
        # Without holding the same delay shows effects whose causes are missing, so that this test would see them.
        self.no_faults()
        self.fault(self.nodes[3], NODESNAP_SLEEP_AT="agent.snapshot", NODESNAP_SLEEP_MS="500")
        self.expect_progress()
        result = self.cluster("backup", self.cluster_file(hold=False, name="unheld"), "--json", expect=harness.DONE).json
        self.assertFalse(result["one_moment"])
        self.assertIsNotNone(out_of_order(self.log_lengths(result)))

    def test_two_that_are_one_are_refused(self):
        self.start(database=False)
        link = self.scratch / "same"
        link.symlink_to(self.nodes[0].repository)
        self.nodes[1].repository = link
        refused = self.cluster("backup", self.cluster_file(), expect=(harness.REFUSED, harness.FAILED, harness.LOCKED))
        self.assertIn("repository", refused.err)
        self.expect_all_free()

    def test_forgotten_as_a_whole(self):
        self.start(database=False)
        file = self.cluster_file()
        cuts = [self.taken(file)["cut"] for _ in range(3)]
        # A part is kept on its own repository.
        kept = self.ok("forget", self.nodes[0].repository, "--keep-last", "1", "--allow-mass-expire", "--dry-run").out
        self.assertIn("a part of a cluster backup", kept)
        self.cluster("forget", file, "--keep-last", "1", expect=harness.REFUSED)
        dry = self.cluster("forget", file, "--keep-last", "2", "--dry-run", expect=harness.DONE)
        self.assertIn(f"would remove {cuts[0]}", dry.out)
        self.cluster("forget", file, "--keep-last", "2", "--prune", expect=(harness.DONE, harness.WARNINGS))
        left = self.cluster("list", file, "--json", expect=harness.DONE).json["cluster_backups"]
        self.assertEqual([cut["id"] for cut in left if not cut["forgotten"]], cuts[1:])
        for node in self.nodes:
            self.assertEqual(len(self.backups(node.repository)), 2)
        self.cluster("forget", file, cuts[2], expect=harness.REFUSED)
        self.cluster("verify", file, expect=harness.DONE)


if __name__ == "__main__":
    harness.main()
