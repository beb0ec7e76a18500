"""Resident memory stays below 128 MiB whatever the node holds. NODESNAP_SMALL_FILES and NODESNAP_SPARSE_BYTES set the counts; scripts/bench-memory
runs it in full (1,000,000 files, 1 TiB)."""

import os

import harness

LIMIT = 128 << 20
FILES = int(os.environ.get("NODESNAP_SMALL_FILES", "60000"))
SPARSE_BYTES = int(os.environ.get("NODESNAP_SPARSE_BYTES", str(1 << 40)))


class Memory(harness.Case):
    def peak(self, name, *arguments):
        """Runs a command, returns its peak resident memory; a thin shell in between so that Python's own peak isn't inherited."""
        import resource
        import subprocess
        command = self.command(name, *arguments)
        pid = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.children.append(pid)
        output = pid.stdout.read()
        _, status, usage = os.wait4(pid.pid, 0)
        pid.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(pid.returncode, 0, output[-2000:])
        del resource
        peak = usage.ru_maxrss * 1024
        print(f"{name}: {peak / (1 << 20):.0f} MiB")
        self.assertLess(peak, LIMIT, f"{name} took {peak >> 20} MiB")

    def everything(self, mount, node):
        repository = mount / "repository"
        self.ok("init", repository, "--node", "node1")
        self.peak("backup", node, repository)
        self.peak("verify", repository, "--data")
        self.peak("show", repository, "latest", "--files")
        self.peak("find", repository, "nothing")
        self.peak("restore", repository, "latest", mount / "restored", "--dry-run")
        self.peak("restore", repository, "latest", mount / "restored")
        self.peak("repair", repository)

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


if __name__ == "__main__":
    harness.main()
