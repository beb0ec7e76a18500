"""Resident memory stays below 128 MiB whatever the node holds. NODESNAP_SMALL_FILES, NODESNAP_SPARSE_BYTES, NODESNAP_RUNS and NODESNAP_PACKS set the counts;
scripts/bench-memory runs it in full (1,000,000 files, 1 TiB, 100,000,000 runs)."""

import os
import subprocess

import harness

LIMIT = 128 << 20
FILES = int(os.environ.get("NODESNAP_SMALL_FILES", "60000"))
RUNS = int(os.environ.get("NODESNAP_RUNS", "1000000"))
PACKS = int(os.environ.get("NODESNAP_PACKS", "20000"))
SPARSE_BYTES = int(os.environ.get("NODESNAP_SPARSE_BYTES", str(1 << 40)))


class Memory(harness.Case):
    def peak(self, name, *arguments, command=None):
        """Runs a command of the program."""
        self.peak_of(name, self.command(command or name, *arguments))

    def peak_of(self, name, command):
        """Runs a command, prints its peak resident memory, and fails when that is above the limit."""
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.children.append(child)
        last = b""
        while output := child.stdout.read(1 << 20):
            last = output[-2000:]
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(child.returncode, 0, last)
        peak = usage.ru_maxrss * 1024
        print(f"{name}: {peak / (1 << 20):.0f} MiB", flush=True)
        self.assertLess(peak, LIMIT, f"{name} took {peak >> 20} MiB")

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
