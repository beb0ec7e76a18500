"""Bits that flip in the repository: redundant parts are read around, reported and healed; lost data is named, never handed out."""

import os
import shutil

import compare
import harness
from torture import fill_with_files


def flip(path, offset, bit=3):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


def footer_places(pack):
    """Offsets of both footers and the stored length, from the trailer; see docs/format.md."""
    with open(pack, "rb") as file:
        file.seek(-4096, os.SEEK_END)
        payload = file.read(4096)[128:192]
    return int.from_bytes(payload[16:24], "little"), int.from_bytes(payload[24:32], "little"), int.from_bytes(payload[32:40], "little")


class Damage(harness.Case):
    def setUp(self):
        super().setUp()
        self.mount = self.file_system("btrfs", 4096)
        self.node = self.subvolume(self.mount / "node")
        fill_with_files(self.node / "files", 400, 3000)
        (self.node / "large").write_bytes(os.urandom(9 << 20))
        with open(self.node / "scattered", "wb") as file:
            for number in range(4000):
                file.seek(number * 8192)
                file.write(os.urandom(4096))
        self.repository_path = self.repository()
        self.ok("backup", self.node, self.repository_path)
        self.wanted = compare.snapshot_of(self.node)
        self.pristine = self.scratch / "pristine"
        shutil.copytree(self.repository_path, self.pristine)
        self.number = 0

    def reset(self):
        shutil.rmtree(self.repository_path)
        shutil.copytree(self.pristine, self.repository_path)

    def objects(self, folder, pattern="*"):
        return sorted(path for path in (self.repository_path / folder).rglob(pattern) if path.is_file())

    def redundant_places(self):
        """(what, file, offset) of one bit in each copy of everything that is stored twice."""
        root = self.repository_path
        yield "repository.json", root / "repository.json", 20
        yield "repository.json.copy", root / "repository.json.copy", 20
        for manifest in self.objects("backups"):
            half = manifest.stat().st_size // 2
            for copy in (0, half):
                yield "manifest header", manifest, copy + 40
                yield "manifest outer part", manifest, copy + 130
                yield "manifest inner part", manifest, copy + 128 + 128 + 10
        for kind in ("packs", "nodes"):
            pack = self.objects(kind, "*.pack")[0]
            size = pack.stat().st_size
            first, second, length = footer_places(pack)
            for name, at in (("first footer", first), ("second footer", second)):
                yield f"{kind} {name}, outer part", pack, at + 9
                yield f"{kind} {name}, inner part", pack, at + length - 3
            yield f"{kind} first trailer", pack, size - 8192 + 50
            yield f"{kind} second trailer", pack, size - 4096 + 140
        nodes = self.objects("nodes", "*.pack")[0]
        first, _, _ = footer_places(nodes)
        yield "metadata nodes, first copy", nodes, 4096 + 100
        yield "metadata nodes, second copy", nodes, first - 4096 - (first - 4096) // 4

    def test_one_copy_of_each_object(self):
        for what, path, offset in list(self.redundant_places()):
            with self.subTest(what=what):
                self.reset()
                flip(path, offset)
                found = self.run_program("verify", self.repository_path, "--json", expect=harness.DAMAGED).json
                self.assertEqual(found["lost_count"], 0, found)
                self.number += 1
                place = self.mount / f"restored{self.number}"
                self.run_program("restore", self.repository_path, "latest", place, expect=(harness.DONE, harness.WARNINGS))
                self.assertEqual(compare.differences(self.wanted, compare.snapshot_of(place)), [])
                harness.tool("btrfs", "subvolume", "delete", place)
                self.ok("repair", self.repository_path)
                self.ok("verify", self.repository_path, "--data")
                self.run_program("restore", self.repository_path, "latest", place, expect=harness.DONE)
                harness.tool("btrfs", "subvolume", "delete", place)

    def test_header_of_a_pack(self):
        for kind in ("packs", "nodes"):
            with self.subTest(kind=kind):
                self.reset()
                flip(self.objects(kind, "*.pack")[0], 60)
                self.run_program("verify", self.repository_path, expect=harness.DAMAGED)
                self.number += 1
                place = self.mount / f"restored{self.number}"
                self.run_program("restore", self.repository_path, "latest", place, expect=(harness.DONE, harness.WARNINGS))
                self.assertEqual(compare.differences(self.wanted, compare.snapshot_of(place)), [])

    def test_file_data_is_named_and_never_handed_out(self):
        pack = self.objects("packs", "*.pack")[0]
        first, _, _ = footer_places(pack)
        for offset in (4096 + 5, first // 2, first - 4096 - 7):
            with self.subTest(offset=offset):
                self.reset()
                # A gap between segments is zeros and doesn't count: hit a byte that isn't one.
                with open(pack, "rb") as file:
                    file.seek(offset)
                    offset += next(number for number, byte in enumerate(file.read(65536)) if byte)
                flip(pack, offset)
                found = self.run_program("verify", self.repository_path, "--data", "--json", expect=harness.DAMAGED).json
                self.assertGreater(found["lost_count"], 0)
                self.assertEqual(len(found["affected"]), 1, found)
                self.assertRegex(found["affected"][0], r"(files/|large|scattered).*bytes")
                self.number += 1
                place = self.mount / f"restored{self.number}"
                result = self.run_program("restore", self.repository_path, "latest", place, expect=harness.DAMAGED)
                self.assertRegex(result.err, r"files/|large|scattered")
                self.assertFalse(place.exists(), "a damaged restore was put in place")

    def test_truncated_missing_and_hostile_objects(self):
        """Never a crash, never success: exit status 5, quickly."""
        victims = [self.objects("backups")[0], self.objects("packs", "*.pack")[0], self.objects("nodes", "*.pack")[0]]
        spoilings = {
            "empty": lambda path: path.write_bytes(b""),
            "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
            "all ones": lambda path: path.write_bytes(b"\xff" * path.stat().st_size),
            "all zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
            "missing": lambda path: path.unlink(),
            "shifted": lambda path: path.write_bytes(b"x" + path.read_bytes()),
        }
        for victim in victims:
            for name, spoil in spoilings.items():
                with self.subTest(victim=victim.parent.parent.name, spoiling=name):
                    self.reset()
                    spoil(victim)
                    gone = name == "missing" and victim.parent.name == "backups"
                    result = self.run_program("verify", self.repository_path, "--data", expect=harness.DAMAGED)
                    if gone:
                        self.run_program("prune", self.repository_path, expect=harness.REFUSED)
                    self.assertNotIn("terminate", result.err)
                    self.number += 1
                    place = self.mount / f"restored{self.number}"
                    result = self.run_program("restore", self.repository_path, "latest", place)
                    if victim.parent.name == "backups" and name == "cut in half":  # what is left is one whole copy
                        self.assertEqual(result.status, harness.WARNINGS, str(result))
                        self.assertEqual(compare.differences(self.wanted, compare.snapshot_of(place)), [])
                        harness.tool("btrfs", "subvolume", "delete", place)
                        continue
                    self.assertIn(result.status, (harness.FAILED, harness.DAMAGED, harness.REFUSED), str(result))
                    self.assertFalse(place.exists())

    def test_the_next_backup_works_beside_a_damaged_one(self):
        os.truncate(self.objects("backups")[0], 5000)
        self.run_program("backup", self.node, self.repository_path, expect=(harness.DONE, harness.WARNINGS))
        self.ok("restore", self.repository_path, "latest", self.mount / "restored")
        self.assertEqual(compare.differences(self.wanted, compare.snapshot_of(self.mount / "restored")), [])

    def test_a_full_backup_heals_what_the_node_still_has(self):
        repository = self.repository_path
        pack = max(self.objects("packs", "*.pack"), key=lambda path: path.stat().st_size)
        flip(pack, pack.stat().st_size // 2)
        planned = self.ok("backup", self.node, repository, "--full", "--dry-run", "--json").json
        made = self.ok("backup", self.node, repository, "--full", "--json").json
        self.assertEqual(made["parent_missing"], "--full was given")
        self.assertIsNone(made["backup"]["parent"])
        self.assertEqual(made["backup"]["referenced_bytes"], 0)
        self.assertGreater(planned["stored_bytes"], 9 << 20)
        self.ok("verify", repository, "latest", "--data")
        self.ok("restore", repository, "latest", self.mount / "healed")
        self.assertEqual(compare.differences(self.wanted, compare.snapshot_of(self.mount / "healed")), [])
        self.assertEqual(self.ok("backup", self.node, repository, "--json").json["backup"]["parent"], made["backup"]["id"])

    def largest_pack(self):
        return max(self.objects("packs", "*.pack"), key=lambda path: path.stat().st_size)

    def check_healed(self, backup):
        """What the node still has is in the newest backup again; the one after it builds on that without a word."""
        repository = self.repository_path
        self.assertIn("missing or damaged", backup["parent_missing"])
        self.assertIsNotNone(backup["backup"]["parent"])
        self.ok("verify", repository, "latest", "--data")
        self.number += 1
        restored = self.mount / f"healed{self.number}"
        self.ok("restore", repository, "latest", restored)
        self.assertEqual(compare.differences(self.wanted, compare.snapshot_of(restored)), [])
        later = self.ok("backup", self.node, repository, "--json").json
        self.assertEqual((later["parent_missing"], later["backup"]["parent"]), ("", backup["backup"]["id"]))

    def test_the_next_backup_heals_what_verify_found(self):
        """Only what lies in the damaged pack is stored again; the rest is compared."""
        (self.node / "other").write_bytes(os.urandom(5 << 20))
        self.wanted = compare.snapshot_of(self.node)
        self.ok("backup", self.node, self.repository_path)
        pack = self.largest_pack()
        flip(pack, pack.stat().st_size // 2)
        unnoticed = self.ok("backup", self.node, self.repository_path, "--json").json
        self.assertEqual(unnoticed["parent_missing"], "")  # nothing of it is read
        self.run_program("verify", self.repository_path, "latest", "--data", expect=harness.DAMAGED)
        unrepaired = self.run_program("repair", self.repository_path, expect=harness.DAMAGED)
        self.assertIn(f"not repaired: the newest backup needs a pack with damaged file data (pack {pack.name.split('.')[0]}", unrepaired.out)
        plan = self.run_program("backup", self.node, self.repository_path, "--dry-run", "--json", expect=harness.DONE).json
        self.assertIn("missing or damaged", plan["parent_missing"])
        healed = self.run_program("backup", self.node, self.repository_path, "--json", expect=harness.WARNINGS)
        told = str(healed.json["warnings"])
        self.assertIn(pack.name.split(".")[0], told)
        self.assertIn("verify` found it damaged", told)
        stored = healed.json["backup"]["stored_bytes"]
        self.assertGreaterEqual(stored, pack.stat().st_size - (1 << 20))
        self.assertLess(stored, pack.stat().st_size + (4 << 20))
        self.assertGreaterEqual(healed.json["backup"]["referenced_bytes"], 5 << 20)
        self.assertEqual(self.ok("repair", self.repository_path, "--json").json["damaged_data_packs"], 0)
        self.check_healed(healed.json)

    def test_the_next_backup_heals_what_is_missing_or_cut_off(self):
        for name, spoil, told in (("missing", os.unlink, "it is missing"), ("cut off", lambda path: os.truncate(path, 1 << 20), "bytes instead of"),
                                  ("empty", lambda path: os.truncate(path, 0), "it has 0 bytes")):
            with self.subTest(name):
                pack = self.largest_pack()
                self.assertEqual(self.ok("status", self.repository_path, "--json").json["lost_packs"], 0)
                spoil(pack)
                status = self.run_program("status", self.repository_path, "--json", expect=harness.DAMAGED).json
                self.assertEqual(status["lost_packs"], 1)
                healed = self.run_program("backup", self.node, self.repository_path, "--json", expect=harness.WARNINGS)
                self.assertIn(told, str(healed.json["warnings"]))
                self.check_healed(healed.json)
                self.assertTrue((self.repository_path / "backups").is_dir())

    def test_a_pack_of_a_forgotten_backup_is_missed(self):
        """The manifest that listed it is gone, but the later backup needs it."""
        first = self.ok("list", self.repository_path, "--json").json["backups"][0]["id"]
        (self.node / "new").write_bytes(os.urandom(1 << 20))
        self.ok("backup", self.node, self.repository_path)
        self.ok("forget", self.repository_path, first)
        for operation in ("forget", "prune"):
            with self.subTest(operation):
                if operation == "prune":
                    # The backup before the one that healed it needs it still.
                    told = self.run_program("prune", self.repository_path, expect=harness.WARNINGS)
                    self.assertIn("packs that backups need are missing", told.err)
                    self.assertEqual(self.ok("backup", self.node, self.repository_path, "--json").json["parent_missing"], "")
                self.largest_pack().unlink()
                self.wanted = compare.snapshot_of(self.node)
                healed = self.run_program("backup", self.node, self.repository_path, "--json", expect=harness.WARNINGS)
                self.check_healed(healed.json)

    def two_more(self):
        """The first backup's packs, which only its manifest lists, and two backups that need them."""
        packs = self.objects("packs", "*.pack")
        first = self.ok("list", self.repository_path, "--json").json["backups"][0]["id"]
        for name in ("second", "third"):
            (self.node / name).write_bytes(os.urandom(1 << 20))
            self.ok("backup", self.node, self.repository_path)
        self.wanted = compare.snapshot_of(self.node)
        return first, packs[0]

    def test_a_pack_is_missed_whatever_became_of_the_inventory(self):
        """Where the inventory doesn't serve, the tree is gone through once; then it is made anew."""
        inventory = self.repository_path / "inventory"
        older = inventory.read_bytes()
        manifest = self.objects("backups")[0]

        def zeroed():
            inventory.write_bytes(bytes(8) + inventory.read_bytes()[8:])

        def manifest_spoiled():
            inventory.write_bytes(older)  # of the time before
            os.truncate(manifest, 100)

        def dropped():
            manifest_spoiled()
            self.ok("repair", self.repository_path, "--drop-lost", f"backups/{manifest.name}")

        for name, forgets, spoil in (("inventory gone", True, inventory.unlink), ("inventory damaged", True, zeroed),
                                     ("older inventory", True, lambda: inventory.write_bytes(older)), ("manifest gone", False, manifest.unlink),
                                     ("manifest spoiled", False, manifest_spoiled), ("manifest dropped", False, dropped)):
            with self.subTest(name):
                self.reset()
                first, pack = self.two_more()
                if forgets:
                    self.ok("forget", self.repository_path, first)
                spoil()
                pack.unlink()
                told = self.run_program("verify", self.repository_path).out
                self.assertEqual("inventory can't be used" in told, name == "inventory damaged", told)
                self.assertEqual("no backup number" in told, name in ("older inventory", "manifest gone"), told)
                status = self.run_program("status", self.repository_path, "--json")
                self.assertEqual((status.status, status.json["lost_packs"]), (harness.DAMAGED, 1), str(status))
                self.assertEqual(self.run_program("repair", self.repository_path).status, harness.DAMAGED)
                healed = self.run_program("backup", self.node, self.repository_path, "--json", expect=harness.WARNINGS)
                self.check_healed(healed.json)
                self.assertEqual(inventory.read_bytes()[:8], b"nodesnap")

    def test_what_verify_misses_the_next_backup_heals(self):
        """Also where the inventory doesn't know of it."""
        first, pack = self.two_more()
        self.ok("forget", self.repository_path, first)
        inventory = self.repository_path / "inventory"
        pack.unlink()
        inventory.unlink()
        (self.node / "fourth").write_bytes(b"x")
        self.wanted = compare.snapshot_of(self.node)
        self.run_program("verify", self.repository_path, expect=harness.DAMAGED)
        self.check_healed(self.run_program("backup", self.node, self.repository_path, "--json", expect=harness.WARNINGS).json)

    def test_an_audit_does_not_vouch_for_what_is_lost(self):
        """Damage that nothing is known of: it reads what is stored where that isn't what the snapshot has, and so can't."""
        pack = self.largest_pack()
        with open(pack, "r+b") as file:
            file.seek(4096)
            file.write(os.urandom(pack.stat().st_size - 4096))  # footers too
        whole = self.ok("show", self.repository_path, "latest", "--json").json["backup"]["data_bytes"]
        audited = self.run_program("backup", self.node, self.repository_path, "--audit", "--json", expect=harness.WARNINGS).json
        self.assertLess(audited["audited_bytes"], whole // 2)
        self.assertIn("cannot all be read", str(audited["warnings"]))

    def test_forget_keeps_what_can_still_be_restored(self):
        """The newest is known to be lost: what is older may have what it lacks."""
        first = self.ok("list", self.repository_path, "--json").json["backups"][0]["id"]
        (self.node / "second").write_bytes(os.urandom(1 << 20))
        before = set(self.objects("packs", "*.pack"))
        self.ok("backup", self.node, self.repository_path)
        pack, = set(self.objects("packs", "*.pack")) - before
        pack.unlink()
        refused = self.run_program("forget", self.repository_path, "--keep-last", "1", "--prune")
        self.assertEqual(refused.status, harness.REFUSED, str(refused))
        self.assertIn("make a new backup first", refused.err)
        self.run_program("forget", self.repository_path, "--keep-last", "1", "--dry-run", expect=harness.WARNINGS)
        self.wanted = compare.snapshot_of(self.node)
        self.run_program("backup", self.node, self.repository_path, expect=harness.WARNINGS)
        self.ok("forget", self.repository_path, "--keep-last", "1", "--allow-mass-expire", "--prune")
        self.assertNotEqual(self.ok("list", self.repository_path, "--json").json["backups"][0]["id"], first)
        self.ok("verify", self.repository_path, "--data")

    def test_packs_without_a_backup_are_told(self):
        for manifest in self.objects("backups"):
            manifest.unlink()
        told = self.run_program("backup", self.node, self.repository_path, expect=harness.WARNINGS)
        self.assertIn("put backups/ back", told.err)
        self.ok("backup", self.node, self.repository_path)

    def test_a_pack_that_nobody_needs_is_not_missed(self):
        """It belonged to a backup that was forgotten, and went by hand."""
        for path in (self.node / "large", self.node / "scattered"):
            path.write_bytes(os.urandom(1 << 20))
        harness.tool("rm", "-r", self.node / "files")
        first = self.ok("list", self.repository_path, "--json").json["backups"][0]["id"]
        old = self.objects("packs", "*.pack")
        self.ok("backup", self.node, self.repository_path)
        self.ok("forget", self.repository_path, first)
        for pack in old:
            pack.unlink()
        self.assertEqual(self.ok("backup", self.node, self.repository_path, "--json").json["parent_missing"], "")

    def test_a_missing_metadata_pack(self):
        """The parent's tree can't be read: everything is stored anew."""
        pack = self.objects("nodes", "*.pack")[0]
        pack.unlink()
        healed = self.run_program("backup", self.node, self.repository_path, "--json", expect=harness.WARNINGS)
        self.assertIn("missing or damaged", str(healed.json["warnings"]))
        self.assertEqual(healed.json["parent_missing"], "the last backup is damaged")
        self.ok("verify", self.repository_path, "latest", "--data")
        self.ok("restore", self.repository_path, "latest", self.mount / "healed")
        self.assertEqual(compare.differences(self.wanted, compare.snapshot_of(self.mount / "healed")), [])
        self.assertEqual(self.ok("backup", self.node, self.repository_path, "--json").json["parent_missing"], "")

    def test_a_lost_inventory_is_made_anew(self):
        first = self.ok("list", self.repository_path, "--json").json["backups"][0]["id"]
        (self.node / "new").write_bytes(os.urandom(1 << 20))
        self.ok("backup", self.node, self.repository_path)
        self.ok("forget", self.repository_path, first)
        inventory = self.repository_path / "inventory"
        before = inventory.read_bytes()
        for name, spoil in (("missing", inventory.unlink), ("flipped", lambda: flip(inventory, len(before) // 2)),
                            ("cut off", lambda: os.truncate(inventory, 100)), ("empty", lambda: os.truncate(inventory, 0))):
            with self.subTest(name):
                spoil()
                self.ok("verify", self.repository_path, "--data")
                self.assertEqual(self.ok("backup", self.node, self.repository_path, "--json").json["parent_missing"], "")
                self.ok("prune", self.repository_path)
                self.assertEqual(inventory.read_bytes()[:8], b"nodesnap")

    def test_repository_json_is_rebuilt(self):
        for name in ("repository.json", "repository.json.copy"):
            (self.repository_path / name).write_bytes(b"{}")
        self.run_program("list", self.repository_path, expect=(harness.DONE, harness.WARNINGS))
        self.ok("repair", self.repository_path)
        self.ok("verify", self.repository_path, "--data")


if __name__ == "__main__":
    harness.main()
