"""Resident memory stays below 128 MiB whatever the node holds. NODESNAP_SMALL_FILES, NODESNAP_SPARSE_BYTES, NODESNAP_RUNS, NODESNAP_RENAMES and
NODESNAP_PACKS set the counts; scripts/bench-memory runs it in full (1,000,000 files and renames, 1 TiB, 100,000,000 runs).

What would grow with the counts is hidden by that limit where they are small. So commands that have a fixed amount to work with are held to little
more than that, at every count: 8 bytes for each run, or 40 for each name, are too much already at the counts that CI takes.
"""

import json
import os
import resource
import subprocess

import harness

LIMIT = 128 << 20
END = 10_000  # bytes of what a command prints that are kept
FILES = int(os.environ.get("NODESNAP_SMALL_FILES", "60000"))
RUNS = int(os.environ.get("NODESNAP_RUNS", "1000000"))
CHANGED_RUNS = int(os.environ.get("NODESNAP_RUNS", "2000000"))
CHANGED_NAMES = int(os.environ.get("NODESNAP_RENAMES", "200000"))
RENAMED_FILES = int(os.environ.get("NODESNAP_RENAMES", "20000"))  # on a file system
DIRECTORIES = int(os.environ.get("NODESNAP_SMALL_FILES", "100000"))
PACKS = int(os.environ.get("NODESNAP_PACKS", "20000"))
SPARSE_BYTES = int(os.environ.get("NODESNAP_SPARSE_BYTES", str(1 << 40)))


class Memory(harness.Case):
    def peak(self, name, *arguments, command=None, limit=LIMIT):
        """Runs a command of the program."""
        return self.peak_of(name, self.command(command or name, *arguments), limit)

    def peak_of(self, name, command, limit=LIMIT):
        """Runs a command, prints its peak resident memory, and fails when that is above the limit. Returns the end of what it printed."""
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.children.append(child)
        last = b""
        while output := child.stdout.read(1 << 20):
            last = (last + output)[-END:]
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(child.returncode, 0, last[-2000:])
        peak = usage.ru_maxrss * 1024
        # What this process took when it began another counts as the other's.
        limit = max(limit, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + (2 << 20))
        print(f"{name}: {peak / (1 << 20):.0f} MiB", flush=True)
        self.assertLess(peak, limit, f"{name} took {peak >> 20} MiB")
        return last.decode(errors="replace")

    def everything(self, mount, node):
        repository = mount / "repository"
        self.ok("init", repository, "--node", "node1")
        self.peak("backup", node, repository)
        self.read(mount, repository)

    def read(self, mount, repository):
        self.peak("list", repository)
        self.peak("status", repository)
        self.peak("verify", repository, "--data", "--workers", "8")
        self.peak("show", repository, "latest", "--files")
        self.peak("find", repository, "nothing")
        self.peak("restore", repository, "latest", mount / "restored", "--dry-run")
        self.peak("restore", repository, "latest", mount / "restored")
        self.peak("repair", repository)
        self.peak("prune", repository, "--max-unused", "0")

    def test_many_small_files(self):
        mount = self.file_system("btrfs", 1024 + FILES // 40)
        node = self.subvolume(mount / "node")
        for number in range(FILES):
            if number % 1000 == 0:
                place = node / f"{number // 1000:05d}"
                place.mkdir()
            with open(place / f"a file with a name of some length {number:08d}", "wb") as file:
                file.write(b"%d" % number * (number % 400))
        self.everything(mount, node)
        repository = mount / "repository"
        for place in sorted(node.iterdir()):
            for number, path in enumerate(sorted(place.iterdir())):
                if number % 3 == 0:
                    path.unlink()
                    path.write_bytes(b"another")
                else:
                    path.rename(place / f"renamed {number}")
        first = self.backups(repository)[0]["id"]
        self.peak("backup", node, repository)
        self.peak("diff", repository, first, "latest")
        self.ok("forget", repository, first)
        self.peak("prune", repository, "--max-unused", "0")
        self.ok("verify", repository, "--data")

    def test_all_files_of_one_directory_renamed(self):
        mount = self.file_system("btrfs", 1024 + RENAMED_FILES // 100)
        node = self.subvolume(mount / "node")
        repository, restored = mount / "repository", mount / "restored"
        directories = [node / "one", node / "other"]
        for directory in directories:
            directory.mkdir()
        for number in range(RENAMED_FILES):
            (directories[0] / f"a file with a name of some length {number:08d}").write_bytes(b"%d" % number * (number % 4 * 300))
        self.ok("init", repository, "--node", "node1")
        self.peak("backup", node, repository)
        self.peak("restore", repository, "latest", restored)
        first = self.backups(repository)[0]["id"]
        for number in range(RENAMED_FILES):
            os.rename(directories[0] / f"a file with a name of some length {number:08d}",
                      directories[number % 2] / f"renamed {number * 7919 % 1000:03d} and moved {number:08d}")
        self.peak("backup --dry-run", node, repository, "--dry-run", command="backup")
        self.peak("backup of renames", node, repository, command="backup")
        self.assertIn(f"0 added, 0 removed, 0 changed, {RENAMED_FILES} renamed", self.peak("diff", repository, first, "latest"))
        self.peak("verify", repository)
        self.peak("delta restore's plan", repository, "latest", restored, "--delta", "--dry-run", command="restore")
        self.peak("delta restore's plan from a snapshot", repository, first, node, "--delta", "--dry-run", command="restore")
        self.peak("delta restore", repository, "latest", restored, "--delta", command="restore")
        self.peak("delta restore in place", repository, first, restored, "--delta", "--in-place", command="restore")
        self.peak("delta restore from a snapshot", repository, first, node, "--delta", command="restore")
        self.peak("backup that compares", node, repository, command="backup")
        harness.tool("btrfs", "subvolume", "delete", node)  # otherwise its snapshot stays, and is told
        self.peak("backup that compares by paths", restored, repository, "--adopt-node", command="backup")
        self.peak("forget", repository, first, "--prune")
        self.ok("verify", repository, "--data")

    def test_many_directories_that_come_and_go(self):
        # What comes from outside wasn't touched, and is looked through: how many directories wait for that plays no part. The places that are
        # remembered take the rest.
        mount = self.file_system("btrfs", 1024 + DIRECTORIES // 100)
        node = self.subvolume(mount / "node")
        repository = mount / "repository"
        outside, inside = node / "outside" / "many", node / "many"
        outside.mkdir(parents=True)
        (node / "CURRENT").write_bytes(b"stays")
        for number in range(DIRECTORIES):
            (outside / f"a directory with a name of some length {number:08d}").mkdir()
        self.ok("init", repository, "--node", "node1")
        excluded = ("--exclude", "outside")
        self.ok("backup", node, repository, *excluded)
        outside.rename(inside)
        self.peak("dry run: they came", node, repository, *excluded, "--dry-run", command="backup", limit=26 << 20)
        self.peak("backup: they came", node, repository, *excluded, command="backup")
        self.assertIn(f"{DIRECTORIES + 1} added", self.peak("diff", repository, self.backups(repository)[0]["id"], "latest"))
        self.peak("dry run: other patterns", node, repository, *excluded, "--exclude", "nothing", "--dry-run", command="backup", limit=40 << 20)
        inside.rename(outside)
        self.peak("dry run: they went", node, repository, *excluded, "--dry-run", command="backup", limit=48 << 20)

    def test_one_directory_of_many_links(self):
        mount = self.file_system("btrfs", 1024)
        node = self.subvolume(mount / "node")
        for group in range(FILES // 1000):
            first = node / f"first {group}"
            first.write_bytes(b"linked")
            for number in range(200):
                os.link(first, node / f"link {group} {number}")
        self.everything(mount, node)

    def test_huge_sparse_and_very_fragmented_files(self):
        mount = self.file_system("btrfs", 3072)
        node = self.subvolume(mount / "node")
        with open(node / "sparse", "wb") as file:
            for number in range(1000):
                file.seek(SPARSE_BYTES // 1000 * number)
                file.write(b"data" * 1024)
            file.truncate(SPARSE_BYTES)
        with open(node / "fragmented", "wb") as file:
            for number in range(FILES):
                os.pwrite(file.fileno(), os.urandom(4096), number * 8192)
        self.everything(mount, node)

    def test_many_large_attributes(self):
        # XFS takes attributes of up to 64 KiB. One kind is stored in segments, the other in the metadata.
        mount = self.file_system("xfs", 1024 + FILES // 50)
        node = mount / "node"
        node.mkdir()
        for number in range(FILES // 15):
            path = node / f"{number:08d}"
            path.write_bytes(b"x")
            if number % 1000 < 300:
                os.setxattr(path, "user.large", bytes((number + i) % 251 for i in range(251)) * (16 + number % 224))
            else:
                for attribute in range(31):
                    os.setxattr(path, f"user.{attribute}", os.urandom(25) * 75)
        repository = mount / "repository"
        self.ok("init", repository, "--node", "node1")
        self.peak("backup", node, repository, "--snapshot", "none")
        self.peak("verify", repository, "--data")
        self.peak("restore", repository, "latest", mount / "restored", "--workers", "8")
        for number in range(FILES // 15):
            source, restored = node / f"{number:08d}", mount / "restored" / f"{number:08d}"
            self.assertEqual({name: os.getxattr(source, name) for name in os.listxattr(source)},
                             {name: os.getxattr(restored, name) for name in os.listxattr(restored)})

    def test_map_of_very_many_runs(self):
        mount = self.file_system("btrfs", 1024 + RUNS // 20000)
        repository = mount / "repository"
        self.ok("init", repository, "--node", "node1")
        self.peak_of("backup's catalog", [harness.SYNTHETIC_MAP, str(repository), str(RUNS)])
        self.read(mount, repository)
        self.peak("dump", repository, "latest", "mapped", "--output", mount / "dumped")
        with open(mount / "restored" / "mapped", "rb") as restored, open(mount / "dumped", "rb") as dumped:
            period = bytes(1 + 7 * number % 6 for number in range(6)) * 100_000
            for begin in range(0, RUNS, len(period)):
                wanted = period[:min(len(period), RUNS - begin)]
                self.assertEqual(restored.read(len(period)), wanted)
                self.assertEqual(dumped.read(len(period)), wanted)

    def test_half_of_very_many_runs_changed(self):
        self.changed_runs(2)

    def test_few_of_very_many_runs_changed(self):
        self.changed_runs(10_000)

    def changed_runs(self, every):
        limit = 50 << 20
        mount = self.file_system("btrfs", 1024 + CHANGED_RUNS // 20_000)
        repository = mount / "repository"
        self.ok("init", repository, "--node", "node1")
        self.peak_of("two backups' catalogs", [harness.SYNTHETIC_MAP, str(repository), str(CHANGED_RUNS), "changed", str(every)], limit)
        first = self.backups(repository)[0]["id"]

        def prune(*arguments):
            name = " ".join(("prune", *arguments))
            return json.loads(self.peak(name, repository, "--json", *arguments, command="prune", limit=limit))

        changes = json.loads(self.peak("diff", repository, first, "latest", "--json", limit=46 << 20))
        self.assertEqual(changes["summary"]["changed_bytes"], CHANGED_RUNS // every)
        self.peak("show --files", repository, "latest", "--files", command="show", limit=limit)
        self.peak("verify", repository, limit=limit)
        self.assertEqual(prune("--dry-run", "--max-unused", "0", "--merge")["merged_files"], 1)
        self.assertEqual(prune("--merge=no")["removed_packs"], 0)
        self.peak("forget --dry-run", repository, "--keep-last", "1", "--dry-run", command="forget", limit=limit)
        self.peak("forget", repository, first, limit=limit)
        if every == 2:  # half of each of the first backup's packs
            self.assertGreaterEqual(prune("--max-unused", "0", "--merge=no")["rewritten_packs"], 64)
        self.assertEqual(prune("--merge")["merged_files"], 1)
        self.assertGreaterEqual(prune("--max-unused", "0")["removed_packs"], 64)
        self.ok("verify", repository, "--data")

    def test_very_many_names_changed(self):
        limit, diff_limit = 50 << 20, 60 << 20
        mount = self.file_system("btrfs", 1024 + CHANGED_NAMES // 1000)
        repository = mount / "repository"
        self.ok("init", repository, "--node", "node1")
        self.peak_of("two backups' catalogs", [harness.SYNTHETIC_MAP, str(repository), str(CHANGED_NAMES), "renamed"], limit)
        first = self.backups(repository)[0]["id"]
        self.assertIn(f"0 added, 0 removed, 0 changed, {CHANGED_NAMES} renamed", self.peak("diff", repository, first, "latest", limit=diff_limit))
        self.peak("diff --all --json", repository, first, "latest", "--all", "--json", command="diff", limit=diff_limit)
        self.peak("show --files", repository, "latest", "--files", command="show", limit=limit)
        self.peak("find", repository, "nothing", limit=limit)
        self.peak("verify", repository, limit=limit)
        self.peak("prune", repository, "--merge", limit=limit)
        self.peak("forget", repository, first, limit=limit)
        self.peak("prune", repository, "--max-unused", "0", limit=limit)
        self.ok("verify", repository, "--data")

    def test_very_many_packs(self):
        repository = self.image_directory(PACKS * 28_672) / "repository"
        self.ok("init", repository, "--node", "node1")
        harness.tool(harness.SYNTHETIC_MAP, repository, PACKS, "packs")
        self.peak("verify", repository)
        self.peak("verify a sample", repository, "--data", "--sample", "30%", "--workers", "8", command="verify")
        self.peak("verify the rest", repository, "--data", "--since", "1d", command="verify")
        coverage = self.ok("verify", repository, "--json").json["coverage"]
        self.assertEqual((coverage["packs"], coverage["ever_packs"]), (PACKS, PACKS))
        self.peak("verify a sample of all", repository, "--data", "--sample", "50%", command="verify")


if __name__ == "__main__":
    harness.main()
