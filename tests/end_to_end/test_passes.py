"""A directory of which no snapshot can be taken is read in passes, the last of them while the daemon is held."""

import functools
import os
import random
import signal
import struct
import subprocess
import sys
import unittest

import compare
import harness
import hold_case
from changes import Changes

NO_CGROUPS = hold_case.why_no_cgroups()
ROUNDS = int(os.environ.get("NODESNAP_MODEL_ROUNDS", "4"))
MIB = 1 << 20
# Where ext4 journals data there are no direct reads, which would write back what they read.
KINDS = {"ext4": "noatime", "xfs": "noatime", "ext4 with journalled data": "noatime,data=journal"}


class Helper:
    """A process in a cgroup of its own that does to the node what it is told, a line of Python each."""

    LOOP = "import sys, os, mmap\nfor line in sys.stdin:\n    exec(line)\n    print('done', flush=True)\n"

    def __init__(self, case):
        self.cgroup = hold_case.Cgroup()
        case.stack.callback(self.cgroup.remove)
        self.child = subprocess.Popen([sys.executable, "-B", "-c", self.LOOP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
                                      preexec_fn=self.cgroup.enter)
        case.stack.callback(self.end)

    def do(self, line):
        self.child.stdin.write(line + "\n")
        if self.child.stdout.readline() != "done\n":
            raise AssertionError("the helper has failed: " + line)

    def end(self):
        self.child.kill()
        self.child.wait()
        self.child.stdin.close()
        self.child.stdout.close()


def on(*kinds):
    """A test of each of these file systems."""
    def decorate(test):
        @functools.wraps(test)
        def run(self):
            for kind in kinds:
                with self.subTest(kind=kind):
                    test(self, self.place(kind))
        return run
    return decorate


class PassesCase(hold_case.HoldCase):
    def setUp(self):
        harness.Case.setUp(self)

    def place(self, kind, mib=1024):
        self.mount_point = self.file_system(kind.split()[0], mib, options=KINDS[kind])
        self.node = self.mount_point / "node"
        self.node.mkdir()
        return self.repository(f"repository of {self.mount_point.name}")

    def passes(self, repository, *arguments, **options):
        document = self.held(repository, "--snapshot", "none", *arguments, **options)
        self.assertGreater(document["passes"], 1)
        return document

    def stopped_at(self, step, repository, *arguments, variable="NODESNAP_SIGNAL_AT"):
        """A backup that has stopped itself there, or has ended without coming there."""
        self.steps = self.scratch / "steps passed"
        self.steps.unlink(missing_ok=True)
        backup = self.start_program("backup", self.node, repository, "--snapshot", "none", *arguments, "--json", program=harness.FAULTS,
                                    environment={variable: step, "NODESNAP_SIGNAL": str(int(signal.SIGSTOP)),
                                                 "NODESNAP_LIST_STEPS": str(self.steps)})
        harness.wait_for(lambda: backup.poll() is not None or harness.is_stopped(backup.pid), "the step")
        return backup

    def finish_held(self, backup):
        if backup.poll() is None:
            backup.send_signal(signal.SIGCONT)
        result = self.finish(backup)
        self.assertIn(result.status, (harness.DONE, harness.WARNINGS), str(result))
        self.assertEqual(result.json["backup"]["consistency"], "point-in-time", str(result))
        return result.json

    def expect_restores(self, repository, message=""):
        restored = self.mount_point / "restored"
        self.ok("restore", repository, "latest", restored)
        lines = compare.differences(compare.named_below(self.node), compare.named_below(restored))
        self.assertEqual(lines, [], message + "\n".join(lines[:40]))
        harness.tool("chattr", "-R", "-f", "-i", "-a", restored, check=False)
        harness.tool("rm", "-r", restored)


@unittest.skipIf(NO_CGROUPS, NO_CGROUPS)
class Frozen(PassesCase):
    @on(*KINDS)
    def test_no_backup_is_out_of_order(self, repository):
        (self.node / "large").write_bytes(os.urandom(64 * MIB))
        cgroup, child = self.daemon()
        told, last = [], 0
        for _ in range(6):
            document = self.passes(repository, *self.freezing(child))
            self.assertEqual(document["held"], "cgroup /" + cgroup.directory.name)
            self.assertEqual(document["snapshot_backend"], "none")
            self.expect_running()
            in_order, said = self.order_of(repository, document["backup"]["id"])
            self.assertTrue(in_order, said)
            self.assertGreater(int(said), last)
            last = int(said)
            # What doesn't change isn't read again.
            self.assertLess(document["held_read_bytes"], 64 * MIB)
            self.assertLessEqual(document["held_files"], 8)
            told.append(f"{document['passes']} passes, {document['held_read_bytes'] / MIB:.1f} MiB, {document['backup']['downtime_ms']:.0f} ms")
        self.nothing_is_left()
        self.ok("verify", repository, "--data")
        self.assertRegex(self.ok("show", repository, "latest").out, r"daemon held: +for [0-9.]+ ms\n")
        print(f"{self.mount_point.name}: {'; '.join(told)}; {last} records")
        self.end(child)

    @on("ext4", "xfs")
    def test_a_store_of_tables(self, repository):
        acks = self.scratch / f"acks of {self.mount_point.name}"
        cgroup = hold_case.Cgroup()
        self.stack.callback(cgroup.remove)
        child = subprocess.Popen([harness.WRITER, "write", str(self.node / "store"), str(acks)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 preexec_fn=cgroup.enter)
        self.stack.callback(self.end, child)

        def acknowledged(acks=acks):
            return struct.unpack("Q", acks.read_bytes()[:8])[0] if acks.exists() and acks.stat().st_size >= 8 else 0

        for number in range(3):
            target = acknowledged() + 200
            harness.wait_for(lambda: acknowledged() >= target, "more keys")
            before = acknowledged()
            document = self.passes(repository, *self.freezing(child))
            self.assertIsNone(child.poll(), "the database did not survive its backup")
            restored = self.scratch / f"restored {number}"
            self.ok("restore", repository, "latest", restored)
            harness.tool(harness.WRITER, "check", restored / "store", before)
            harness.tool("rm", "-r", restored)
            print(f"{self.mount_point.name}: {document['passes']} passes, {document['held_read_bytes'] / MIB:.1f} MiB of {document['held_files']} files, "
                  f"{document['backup']['downtime_ms']:.0f} ms")
        self.end(child)

    def test_a_directory_is_read_in_passes_where_no_snapshot_can_be_had(self):
        repository = self.place("ext4")
        (self.node / "file").write_bytes(os.urandom(MIB))
        with open(self.node / "pieces", "wb") as file:  # of so many runs that they have a tree of their own
            for number in range(3000):
                file.seek(number * 8192)
                file.write(os.urandom(4096))
        data = MIB + 3000 * 4096
        helper = Helper(self)
        document = self.held(repository, *self.freezing(helper.child))
        self.assertEqual(document["snapshot_backend"], "none")
        self.assertGreater(document["passes"], 1)
        self.assertEqual((document["held_read_bytes"], document["held_files"]), (0, 0))
        self.assertEqual((document["backup"]["read_bytes"], document["backup"]["data_bytes"], document["backup"]["referenced_bytes"]), (data, data, 0))
        # The next builds on it.
        (self.node / "other").write_bytes(b"x" * 5000)
        document = self.held(repository, *self.freezing(helper.child))
        self.assertEqual(document["backup"]["parent"], self.backups(repository)[0]["id"])
        self.assertLess(document["backup"]["stored_bytes"], 512 << 10)
        self.assertEqual(document["backup"]["data_bytes"], data + 5000)
        self.expect_restores(repository)
        # What isn't asked for isn't done.
        self.assertEqual(self.ok("backup", self.node, repository, "--snapshot", "none", "--json").json["passes"], 0)

    # --- what must not be taken for unchanged

    @on(*KINDS)
    def test_a_store_into_a_page_that_was_dirty_is_not_missed(self, repository):
        helper = Helper(self)
        for step in ("stamp.taken:1", "stamp.synced:1", "passes.warm:1", "hold.asking:1"):
            helper.do("m = []")
            # Asking for the extents of larger ones makes all of them clean; so those come last.
            for size in (1000, 10_000) if step != "hold.asking:1" else (1000, 10_000, 300_000):
                path = self.node / f"of {size} for {step}"
                path.write_bytes(b"a" * size)
                helper.do(f"m.append(mmap.mmap(os.open({str(path)!r}, os.O_RDWR), 0))")
            helper.do("for one in m: one[0:4] = b'old.'")
            backup = self.stopped_at(step, repository, *self.freezing(helper.child))
            helper.do(f"for one in m: one[0:{len(step)}] = {step.encode()!r}")
            self.finish_held(backup)
            self.expect_restores(repository, f"at {step}\n")
        helper.end()

    @on("ext4", "xfs")
    def test_what_is_changed_and_says_it_was_not_is_not_missed(self, repository):
        path = self.node / "file"
        path.write_bytes(b"a" * 100_000)
        os.setxattr(path, "user.name", b"old")
        helper = Helper(self)
        for step in ("stamp.synced:1", "passes.warm:1", "hold.asking:1"):
            backup = self.stopped_at(step, repository, *self.freezing(helper.child))
            before = os.stat(path)
            with open(path, "r+b") as file:
                file.write(step.encode())
            os.setxattr(path, "user.name", step.encode())
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            self.finish_held(backup)
            self.expect_restores(repository, step)
        helper.end()

    @on("ext4", "xfs")
    def test_what_is_written_directly_counts_only_when_it_is_old(self, repository):
        for name in ("direct", "plain"):
            (self.node / name).write_bytes(os.urandom(100_000))
        helper = Helper(self)
        helper.do(f"a = os.open({str(self.node / 'plain')!r}, os.O_RDWR)")
        self.assertEqual(self.passes(repository, *self.freezing(helper.child))["held_files"], 0)
        helper.do(f"b = os.open({str(self.node / 'direct')!r}, os.O_RDWR | os.O_DIRECT)")
        (self.node / "direct").touch()
        self.assertEqual(self.passes(repository, *self.freezing(helper.child))["held_files"], 1)
        helper.do("os.close(b)")
        self.assertEqual(self.passes(repository, *self.freezing(helper.child))["held_files"], 0)
        helper.end()

    @on("ext4", "xfs")
    def test_model(self, repository):
        seed = int(os.environ.get("NODESNAP_SEED", random.SystemRandom().randrange(1 << 32)))
        print(f"seed {seed}")
        helper = Helper(self)
        outside = self.mount_point / "outside"
        outside.mkdir()
        changes = Changes(str(self.node), str(outside), seed)
        changes.make(200)
        # So that there are several warm passes.
        (self.node / "large").write_bytes(changes.bytes(96 * MIB))
        places = ["stamp.taken:1", "stamp.synced:1", "passes.warm:1", "stamp.taken:2", "stamp.synced:2", "passes.warm:2", "hold.asking:1"]
        for number in range(ROUNDS):
            # Operations that the guard does too only from where it doesn't come.
            where = changes.random.choice(places + [f"{name}:{changes.random.randrange(least, most)}" for name, least, most in
                                                    (("stat", 100, 300), ("stat", 100, 600), ("fiemap", 1, 30), ("getflags", 1, 200), ("getxattr", 1, 30))])
            step = where.split(":")[0]
            backup = self.stopped_at(where, repository, *self.freezing(helper.child),
                                     variable="NODESNAP_SIGNAL_AT" if "." in step else "NODESNAP_STOP_AT")
            too_late = backup.poll() is not None or "hold.asked" in self.steps.read_text()
            log = [] if too_late else changes.make(changes.random.choice((1, 10, 60)))
            self.finish_held(backup)
            self.expect_restores(repository, f"seed {seed}, round {number}, changed at {where}:\n" + "\n".join(log) + "\n")
        self.ok("verify", repository, "--data")
        helper.end()

    # --- what fails

    def test_only_the_last_pass_is_read_while_it_is_held(self):
        repository = self.place("ext4")
        for number in range(30):
            (self.node / f"file{number}").write_bytes(os.urandom(5000))
        (self.node / "large").write_bytes(os.urandom(8 * MIB))
        cgroup, child = self.daemon()
        listing = self.scratch / "steps"
        self.passes(repository, *self.freezing(child), program=harness.FAULTS, environment={"NODESNAP_LIST_STEPS": str(listing)})
        steps = listing.read_text().split()
        order = ["passes.warm", "hold.intent-written", "guard.ready", "hold.asking", "hold.frozen", "hold.held", "passes.held-read", "hold.releasing",
                 "guard.released", "drain.data-durable", "passes.done", "backup.before-publish"]
        seen = [step for step in steps if step in order]
        self.assertEqual(list(dict.fromkeys(reversed(seen)))[::-1], order, "the last of each")
        self.assertEqual(set(steps[steps.index("hold.held") + 1:steps.index("hold.releasing")]) - {"drain.begun", "drain.range-read", "passes.held", "passes.held-read"}, set(),
                         "something else is done while the daemon is held")

    def test_past_the_longest_downtime_it_fails(self):
        repository = self.place("ext4")
        cgroup, child = self.daemon()
        # The guard lets go; and the backup notices, either before it has read all, or when it asks the guard.
        for step, said in (("passes.held", "in the time that the daemon may be held (--max-downtime)"), ("passes.held-read", "no single instant")):
            backup = self.stopped_at(step, repository, "--hold", "freeze", "--pid", child.pid, "--max-downtime", "1s")
            self.assertIsNone(backup.poll())
            harness.wait_for(lambda: not cgroup.asked_to_freeze(), "the guard to let go")
            self.expect_running()
            backup.send_signal(signal.SIGCONT)
            result = self.finish(backup)
            self.assertEqual(result.status, harness.FAILED, str(result))
            self.assertIn(said, result.err)
            self.assertEqual(self.backups(repository), [])
            self.expect_running()
            self.nothing_is_left()
        self.passes(repository, *self.freezing(child))

    def test_what_takes_too_long_is_not_held_for(self):
        repository = self.place("ext4")
        cgroup, child = self.daemon()
        (self.node / "large").write_bytes(os.urandom(96 * MIB))
        backup = self.stopped_at("passes.warm:1", repository, "--hold", "freeze", "--pid", child.pid, "--max-downtime", "1ms")
        (self.node / "large").write_bytes(os.urandom(96 * MIB))
        backup.send_signal(signal.SIGCONT)
        result = self.finish(backup)
        self.assertEqual(result.status, harness.FAILED, str(result))
        self.assertIn("the daemon wasn't held", result.err)
        self.assertIn("--max-downtime", result.err)
        self.assertFalse(cgroup.asked_to_freeze())
        self.assertEqual(self.backups(repository), [])
        self.expect_running()
        self.assertNotIn("hold.asking", self.steps.read_text())

    def test_who_writes_besides_is_refused_or_makes_it_fail(self):
        repository = self.place("xfs")
        cgroup, child = self.daemon()
        other = self.outsider()
        result = self.run_program("backup", self.node, repository, "--snapshot", "none", *self.freezing(child), expect=harness.REFUSED)
        self.assertIn(f"(pid {other.pid})", result.err)
        self.end(other)
        for step in ("hold.asking", "hold.held", "passes.held-read"):
            with self.subTest(step=step):
                backup = self.stopped_at(step, repository, *self.freezing(child))
                other = self.outsider(step)
                backup.send_signal(signal.SIGCONT)
                result = self.finish(backup)
                self.assertEqual(result.status, harness.FAILED, str(result))
                self.assertIn(f"(pid {other.pid})", result.err)
                self.assertEqual(self.backups(repository), [])
                self.expect_running()
                self.assertFalse(cgroup.asked_to_freeze())
                self.end(other)
        self.nothing_is_left()

    def test_a_broken_hold_makes_it_fail(self):
        repository = self.place("ext4")
        cgroup, child = self.daemon()
        backup = self.stopped_at("passes.held-read", repository, *self.freezing(child))
        (cgroup.directory / "cgroup.freeze").write_text("0")
        self.expect_running()
        backup.send_signal(signal.SIGCONT)
        result = self.finish(backup)
        self.assertEqual(result.status, harness.FAILED, str(result))
        self.assertIn("no single instant", result.err)
        self.assertIn("thawed by something else", result.err)
        self.assertEqual(self.backups(repository), [])

    def test_another_directory_in_its_place_makes_it_fail(self):
        repository = self.place("ext4")
        (self.node / "file").write_bytes(b"x")
        helper = Helper(self)
        backup = self.stopped_at("hold.asking", repository, *self.freezing(helper.child))
        self.node.rename(self.mount_point / "old")
        self.node.mkdir()
        backup.send_signal(signal.SIGCONT)
        result = self.finish(backup)
        self.assertEqual(result.status, harness.FAILED, str(result))
        self.assertIn("was replaced by another one", result.err)
        self.assertFalse(helper.cgroup.asked_to_freeze())

    def test_where_change_times_tell_less_it_is_refused(self):
        repository = self.place("ext4")
        memory = self.scratch / "memory"
        memory.mkdir()
        harness.tool("mount", "-t", "tmpfs", "none", memory)
        self.stack.callback(harness.tool, "umount", memory)
        helper = Helper(self)
        result = self.run_program("backup", memory, repository, "--snapshot", "none", *self.freezing(helper.child), expect=harness.REFUSED)
        self.assertIn("is on tmpfs", result.err)
        self.assertIn("leave --hold out", result.err)


class Stopped(PassesCase):
    @on("ext4", "xfs")
    def test_it_is_stopped_and_started(self, repository):
        pid_file = self.scratch / "pid"
        start = f"setsid {harness.RECORDS} write {self.node} {pid_file} </dev/null >/dev/null 2>&1 & until test -e {pid_file}; do sleep 0.01; done"
        stop = f"kill $(cat {pid_file}); while test -e {pid_file}; do sleep 0.01; done"
        harness.tool("/bin/sh", "-c", start)
        first = pid_file.read_text()
        self.expect_running()
        document = self.passes(repository, "--hold", "stop", "--stop-command", stop, "--start-command", start, "--status-command", f"test -e {pid_file}")
        self.assertEqual(document["held"], "the daemon")
        self.assertGreater(document["backup"]["downtime_ms"], 0)
        self.expect_running()
        self.assertNotEqual(pid_file.read_text(), first)
        in_order, said = self.order_of(repository, document["backup"]["id"])
        self.assertTrue(in_order, said)
        pid = int(pid_file.read_text())
        harness.tool("/bin/sh", "-c", stop)
        harness.wait_for(lambda: not os.path.exists(f"/proc/{pid}") or "Z" in harness.tool("ps", "-o", "state=", "-p", pid, check=False), "its end")
        self.ok("release", "--state-dir", self.state)
        self.nothing_is_left()


if __name__ == "__main__":
    harness.main()
