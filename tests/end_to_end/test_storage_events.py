"""What the storage does by itself, or its operator, between two snapshots: data moves, is compressed, is checked. A backup may read more then, but
never compares everything, and is what the node is."""

import os
import random

import compare
import harness

MIB = 1 << 20
PAGE = 4096
LARGE, IN_PLACE, PACKED = 32 * MIB, 4 * MIB, 8 * MIB
ALL = LARGE + IN_PLACE + PACKED + MIB
CHANGED = 3 * MIB  # more than change() makes


class StorageEvents(harness.Case):
    def setUp(self):
        super().setUp()
        seed = int(os.environ.get("NODESNAP_SEED", random.SystemRandom().randrange(1 << 32)))
        print(f"seed {seed}")
        self.random = random.Random(seed)
        self.place = self.file_system("btrfs", 1024)
        self.node = self.subvolume(self.place / "node")
        (self.node / "large").write_bytes(self.random.randbytes(LARGE))
        (self.node / "in place").touch()
        harness.tool("chattr", "+C", self.node / "in place")
        (self.node / "in place").write_bytes(self.random.randbytes(IN_PLACE))
        (self.node / "packed").touch()
        harness.tool("chattr", "+c", self.node / "packed")
        (self.node / "packed").write_bytes(self.random.randbytes(1024) * (PACKED // 1024))
        for number in range(100):
            (self.node / f"small{number}").write_bytes(self.random.randbytes(5000))
        self.store = self.repository()
        self.backup()

    def backup(self):
        return self.ok("backup", self.node, self.store, "--json").json

    def change(self):
        """Pages here and there, in each kind of file, and a new one."""
        for name in ("large", "in place", "packed"):
            path = self.node / name
            with open(path, "r+b") as file:
                for page in self.random.sample(range(path.stat().st_size // PAGE), 5):
                    file.seek(page * PAGE)
                    file.write(self.random.randbytes(PAGE))
        (self.node / f"new{len(os.listdir(self.node))}").write_bytes(self.random.randbytes(100_000))

    def after(self, *events, most_read):
        """What the node is after each of these tools has run is what the next backup holds, whether or not something else has changed."""
        for changes in (True, False):
            if changes:
                self.change()
            for event in events:
                harness.tool(*event)
            result = self.backup()
            about = f"{events}, changes: {changes}: {result}"
            self.assertEqual(result["parent_missing"], "", about)
            self.assertLessEqual(result["backup"]["read_bytes"], most_read + (CHANGED if changes else 0), about)
            restored = self.place / "restored"
            self.ok("restore", self.store, "latest", restored)
            self.assertEqual(compare.differences(compare.named_below(self.node), compare.named_below(restored)), [], about)
            harness.tool("btrfs", "subvolume", "delete", restored)
            print(f"{events[0][1:4]}, changes: {changes}: {result['backup']['read_bytes']} bytes read, {result['backup']['stored_bytes']} stored")
        self.ok("backup", self.node, self.store, "--audit")  # reads everything, and would tell a range that was called unchanged and isn't
        self.ok("verify", self.store, "--data")

    def defragment(self, *options):
        return "btrfs", "filesystem", "defragment", "-f", "-r", *options, self.node

    def test_defragmentation(self):
        self.after(self.defragment("-t", "64M"), most_read=ALL)

    def test_defragmentation_that_compresses(self):
        self.after(self.defragment("-czstd"), most_read=ALL)

    def test_balance(self):
        self.after(("btrfs", "balance", "start", "--full-balance", self.place), most_read=ALL)

    def test_scrub(self):
        self.after(("btrfs", "scrub", "start", "-B", self.place), most_read=0)

    def test_mount_options(self):
        self.after(("mount", "-o", "remount,compress-force=zstd", self.place), most_read=0)
        self.after(("mount", "-o", "remount,compress=no,autodefrag", self.place), most_read=LARGE)

    def test_compression_property(self):
        for algorithm in ("zstd", "lzo", "none", ""):
            self.after(*(("btrfs", "property", "set", self.node / name, "compression", algorithm) for name in ("large", "packed", ".")), most_read=0)

    def test_all_at_once(self):
        self.after(self.defragment("-clzo"), ("btrfs", "balance", "start", "--full-balance", self.place), ("btrfs", "scrub", "start", "-B", self.place),
                   self.defragment(), most_read=ALL)


if __name__ == "__main__":
    harness.main()
