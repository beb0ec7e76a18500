"""The vendor's procedures for a quasardb node, with the profile: stand-ins for qdbd and qdb_dbtool around a real RocksDB, and databases written by db_bench."""

import os
import shutil
import signal
import struct
import subprocess
import unittest
from pathlib import Path

import harness
import hold_case
from test_passes import on

# As qdbd: tells its version, or serves the directory that its configuration names, until SIGTERM.
QDBD = """#!/bin/sh
case $1 in
    -v|--version) echo "quasardb daemon version $(cat {home}/version) build 0a1b2c 2026-01-01 (RelWithDebInfo)"; exit;;
esac
root=$(sed -n 's/.*"root": *"\\([^"]*\\)".*/\\1/p' "$2")
exec {writer} write "$root" {home}/acknowledged
"""
# As qdb_dbtool: looks at a database that no daemon has open.
DBTOOL = """#!/bin/sh
for argument; do
    case $argument in
        --database=*) database=${argument#--database=};;
        --analyze) analyze=yes;;
    esac
done
[ "$analyze" = yes ] || { echo "nothing to do" >&2; exit 2; }
ldb --db="$database" checkconsistency && echo "analyzed: $(ls "$database" | grep -c sst) tables"
"""
START = "setsid {home}/qdbd -c {home}/qdbd.conf < /dev/null > {home}/qdbd.log 2>&1 &\necho $! > {home}/pid\necho active > qdbd.service\n"
STOP = "kill -TERM $(cat {home}/pid) && while kill -0 $(cat {home}/pid) 2> /dev/null; do sleep 0.01; done\necho inactive > qdbd.service\n"


@unittest.skipUnless(shutil.which("ldb"), "needs rocksdb-tools")
class Quasardb(hold_case.HoldCase):
    """On a partition of its own, ext4 with noatime, as the vendor advises."""

    def setUp(self):
        harness.Case.setUp(self)
        self.mount_point = self.node = self.file_system("ext4", 1024, options="noatime")
        self.elsewhere = self.file_system("ext4", 1024)
        self.home = self.scratch / "etc"
        self.home.mkdir()
        (self.home / "version").write_text("3.14.1\n")
        (self.home / "qdbd.conf").write_text(f'{{"local": {{"depot": {{"rocksdb": {{"root": "{self.node}"}}}}}}}}\n')
        self.program_file("qdbd", QDBD.format(home=self.home, writer=harness.WRITER))
        self.program_file("qdb_dbtool", DBTOOL)
        self.environment = self.unit(start=START.format(home=self.home), stop=STOP.format(home=self.home))
        self.environment["PATH"] = f"{self.home}:{self.environment['PATH']}"
        self.service("start")
        self.stack.callback(self.kill)
        harness.wait_for(lambda: self.acknowledged() > 1000, "the first keys")

    def program_file(self, name, text):
        (self.home / name).write_text(text)
        (self.home / name).chmod(0o755)

    def service(self, verb):
        subprocess.run(["systemctl", verb, "qdbd.service"], env={**os.environ, **self.environment}, check=True)

    def is_running(self):
        stat = Path(f"/proc/{(self.home / 'pid').read_text().strip()}/stat")
        return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"

    def kill(self):
        if self.is_running():
            self.service("stop")

    def acknowledged(self):
        path = self.home / "acknowledged"
        return struct.unpack("Q", path.read_bytes()[:8])[0] if path.exists() and path.stat().st_size >= 8 else 0

    def with_unit(self, name, *arguments, expect=harness.DONE):
        return self.run_program(name, *arguments, "--profile", "quasardb", environment=self.environment, expect=expect)

    def test_procedures(self):
        repository = self.repository()
        before = self.acknowledged()
        told = self.with_unit("backup", self.node, repository, "--hold", "stop", "--capture", self.home / "qdbd.conf", "--json",
                              expect=(harness.DONE, harness.WARNINGS)).json
        self.assertEqual(told["snapshot_backend"], "hardlink")
        self.assertEqual(told["backup"]["consistency"], "point-in-time")
        self.assertIn("3.14.1", told["backup"]["engine_version"])
        self.assertTrue(self.is_running(), "it was started again")
        harness.wait_for(lambda: self.acknowledged() > before + 200, "new keys")
        self.assertEqual((self.scratch / "units" / "calls").read_text().split("\n")[-3:-1], ["stop qdbd.service", "start qdbd.service"])

        drill = self.with_unit("drill", repository, "--scratch-dir", self.elsewhere, "--json").json
        self.assertTrue(drill["passed"])
        self.assertIn("analyzed", drill["validation"]["output"])

        # The purge by mistake. While the daemon runs nothing is touched.
        refused = self.with_unit("restore", repository, "latest", self.node, expect=harness.REFUSED)
        self.assertIn("isn't empty", refused.err)
        refused = self.with_unit("restore", repository, "latest", self.node, "--delta", "--in-place", expect=harness.REFUSED)
        self.assertIn("in use", refused.err)
        self.assertTrue(self.is_running())
        self.service("stop")
        harness.tool("find", self.node, "-mindepth", "1", "-delete")
        (self.home / "version").write_text("3.13.9\n")
        refused = self.with_unit("restore", repository, "latest", self.node, expect=harness.REFUSED)
        self.assertIn("is older than", refused.err)
        self.assertEqual(list(self.node.iterdir()), [])
        (self.home / "version").write_text("3.15.0\n")
        self.with_unit("restore", repository, "latest", self.node)
        harness.tool(harness.WRITER, "check", self.node, before)
        self.assertEqual(self.ok("dump", repository, "latest", self.home / "qdbd.conf").out, (self.home / "qdbd.conf").read_text())

        # It serves again, and is backed up while it does.
        (self.home / "acknowledged").unlink()
        self.service("start")
        harness.wait_for(lambda: self.acknowledged() > 1000, "keys after the restore")
        told = self.with_unit("backup", self.node, repository, "--hold", "stop", "--json", expect=(harness.DONE, harness.WARNINGS)).json
        self.assertEqual(told["backup"]["consistency"], "point-in-time")
        self.ok("verify", repository, "--data")
        self.nothing_is_left()


NO_CGROUPS = hold_case.why_no_cgroups()


@unittest.skipIf(NO_CGROUPS, NO_CGROUPS)
@unittest.skipUnless(shutil.which("db_bench") and shutil.which("ldb"), "needs rocksdb-tools")
class DbBench(hold_case.HoldCase):
    """A database that db_bench overwrites at random as fast as it can."""

    OPTIONS = ("--num=20000", "--value_size=1000", "--compression_type=none", "--write_buffer_size=4194304", "--target_file_size_base=2097152")

    def setUp(self):
        harness.Case.setUp(self)

    def place(self, kind):
        self.mount_point = self.file_system(kind, 2048)
        self.node = self.subvolume(self.mount_point / "node") if kind == "btrfs" else self.mount_point / "node"
        self.node.mkdir(exist_ok=True)
        return self.repository(f"repository of {self.mount_point.name}")

    def bench(self, place, benchmark, *arguments):
        return ["db_bench", f"--db={place / 'store'}", f"--benchmarks={benchmark}", *self.OPTIONS, *arguments]

    @on("btrfs", "xfs", "ext4")
    def test_a_held_backup_opens(self, repository):
        harness.tool(*self.bench(self.node, "fillrandom"))
        cgroup = hold_case.Cgroup()
        self.stack.callback(cgroup.remove)
        child = subprocess.Popen(self.bench(self.node, "overwrite", "--use_existing_db=1", "--duration=1000"), stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=cgroup.enter)
        self.stack.callback(self.end, child)
        for number in range(3):
            logs = {path.name for path in (self.node / "store").glob("*.log")}
            harness.wait_for(lambda: {path.name for path in (self.node / "store").glob("*.log")} != logs, "a full write buffer")
            self.held(repository, "--profile", "rocksdb", *self.freezing(child))
            self.assertIsNone(child.poll(), "the database did not survive its backup")
            restored = self.mount_point / f"restored {number}"
            self.ok("restore", repository, "latest", restored)
            self.assertIn("OK", harness.tool("ldb", f"--db={restored / 'store'}", "checkconsistency"))
            read = harness.tool(*self.bench(restored, "readrandom", "--use_existing_db=1", "--reads=20000", "--verify_checksum=1"))
            self.assertIn("readrandom", read)
            harness.tool("rm", "-r", restored)
        child.send_signal(signal.SIGTERM)
        self.ok("verify", repository, "--data")
        self.nothing_is_left()
        self.end(child)


if __name__ == "__main__":
    harness.main()
