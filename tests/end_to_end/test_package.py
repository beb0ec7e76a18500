"""The Debian package that scripts/package makes, and the units that `cmake --install` brings: installed, run, removed and purged.

No systemd need run: what its units say is read from them, and done by hand: the words of ExecStart=, with what the environment file sets, in a mount
namespace and with a capability bounding set as the hardening options would give.
"""

import json
import re
import shlex
import shutil
import subprocess
import unittest
from pathlib import Path

import harness
import hold_case

BUILD = Path(harness.PROGRAM).parent
SOURCES = Path(__file__).resolve().parents[2]
UNITS = Path("lib/systemd/system")
INSTALLED = [Path("/usr/bin/nodesnap"), Path("/usr/share/doc/nodesnap"), *(Path("/usr") / UNITS / name for name in (
    "nodesnap@.service", "nodesnap@.timer", "nodesnap-forget@.service", "nodesnap-forget@.timer", "nodesnap-release.service", "nodesnap-release.timer"))]
STATE = Path("/var/lib/nodesnap")
SETTINGS = Path("/etc/nodesnap")
ENABLED = Path("/etc/systemd/system/timers.target.wants/nodesnap@trial.timer")


def why_not_installed_here():
    """Why no package can be installed, and purged, on this machine; None if one can."""
    for program in ("dpkg", "dpkg-shlibdeps", "cpack", "unshare", "setpriv"):
        if shutil.which(program) is None:
            return f"needs {program}"
    # What a purge takes away must not be anybody's.
    for path in (*INSTALLED, STATE, SETTINGS):
        if path.exists():
            return f"{path} is there: nodesnap is installed, or used, on this machine"
    return None


class Unit:
    """A unit file: its keys' values, in order."""

    def __init__(self, path):
        self.values = {}
        for line in path.read_text().splitlines():
            if line and line[0] not in "#;[":
                key, value = line.split("=", 1)
                self.values.setdefault(key, []).append(value)

    def one(self, key):
        value, = self.values[key]
        return value

    def command(self, instance):
        """As systemd.service(5) says: ${NAME} is one word whatever is in it, $NAME is split at blanks, but not those in quotes."""
        environment = {}
        for line in Path(self.one("EnvironmentFile").replace("%i", instance)).read_text().splitlines():
            if line and line[0] not in "#;":
                name, value = line.split("=", 1)
                quoted = len(value) > 1 and value[0] == value[-1] == '"'
                environment[name] = value[1:-1] if quoted else value
        words = []
        for word in self.one("ExecStart").replace("%i", instance).split():
            if re.fullmatch(r"\$\{\w+\}", word):
                words.append(environment.get(word[2:-1], ""))
            elif word.startswith("$"):
                words += shlex.split(environment.get(word[1:], ""))
            else:
                words.append(word)
        return words

    def sandboxed(self, command):
        """With what the unit takes away: what is read-only, and capabilities."""
        steps = [
            # With all mounts below.
            """made() {
                   [ -d "$1" ] || return 0
                   mount --rbind "$1" "$1"
                   findmnt --submounts --raw --noheadings --output TARGET "$1" | sort -u | while read -r point; do mount -o remount,bind,"$2" "$point"; done
               }"""
        ]
        if self.values.get("ProtectSystem") == ["full"]:
            steps += ["made /usr ro", "made /boot ro", "made /etc ro"]
        steps += [f"made {path.lstrip('-')} rw" for path in self.values.get("ReadWritePaths", [])]
        if self.values.get("ProtectKernelTunables") == ["yes"]:
            steps += ["made /proc/sys ro", "made /sys ro", "made /sys/fs/cgroup rw"]
        if self.values.get("ProtectControlGroups") == ["yes"]:
            steps.append("made /sys/fs/cgroup ro")
        names = self.one("CapabilityBoundingSet").replace("CAP_", "").lower()
        kept = names[1:].split() if names[0] == "~" else names.split()
        bounding = ("" if names[0] == "~" else "-all,") + ",".join(("-" if names[0] == "~" else "+") + name for name in kept)
        steps.append(f'exec setpriv --bounding-set={bounding} -- "$@"')
        return ["unshare", "--mount", "--propagation", "slave", "sh", "-ec", "\n".join(steps), "sh", *command]


class Units(harness.Case):
    def test_installed_elsewhere_they_name_the_program_there(self):
        prefix = self.scratch / "prefix"
        harness.tool("cmake", "--install", BUILD, "--prefix", prefix)
        units = prefix / UNITS
        for name in ("nodesnap@.service", "nodesnap-forget@.service", "nodesnap-release.service"):
            program = Unit(units / name).one("ExecStart").split()[0]
            self.assertEqual(Path(program), prefix / "bin/nodesnap")
            self.assertNotIn("@NODESNAP", (units / name).read_text())
        self.assertTrue((prefix / "share/doc/nodesnap/operations.md").exists())
        self.assertTrue((prefix / "share/doc/nodesnap/examples/node.conf.example").exists())
        if shutil.which("systemd-analyze") is None:
            self.skipTest("needs systemd-analyze for the rest")
        # It tells of keys that it doesn't know, and of programs that aren't there, but not by its exit status.
        said = harness.tool("systemd-analyze", "verify", *(f"./{name.name}" for name in sorted(units.iterdir())), cwd=units)
        self.assertEqual([line for line in said.splitlines() if "nodesnap" in line], [])
        unit = units / "nodesnap@.service"
        unit.write_text(unit.read_text().replace("ProtectSystem", "ProtectSystems"))
        self.assertIn("ProtectSystems", harness.tool("systemd-analyze", "verify", "./nodesnap@.service", cwd=units))


NOT_INSTALLED = why_not_installed_here()


@unittest.skipIf(NOT_INSTALLED, NOT_INSTALLED)
class Package(hold_case.HoldCase):
    def tearDown(self):
        if subprocess.run(["dpkg-query", "--show", "nodesnap"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0:
            harness.tool("dpkg", "--purge", "--force-all", "nodesnap", check=False)
        for path in (STATE, SETTINGS):
            shutil.rmtree(path, ignore_errors=True)
        ENABLED.unlink(missing_ok=True)
        super().tearDown()

    def packed(self):
        output = self.scratch / "package"
        said = subprocess.run([SOURCES / "scripts/package", BUILD.resolve(), output], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=harness.DEADLINE, check=False)
        self.assertEqual(said.returncode, 0, said.stdout + said.stderr)
        return Path(said.stdout.splitlines()[-1])

    def run_unit(self, name, *expected):
        unit = Unit(Path("/usr") / UNITS / name)
        command = unit.command("trial")
        done = subprocess.run(unit.sandboxed(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=harness.DEADLINE, check=False)
        self.assertIn(done.returncode, expected, f"{command}\n{done.stdout}")
        return done.stdout

    def test_installed_run_removed_and_purged(self):
        package = self.packed()
        version = re.match(r"nodesnap (\S+)\n", harness.tool(harness.PROGRAM, "--version")).group(1)
        self.assertEqual(harness.tool("dpkg-deb", "--field", package, "Version").strip(), f"{version}-1")
        self.assertIn("libc6", harness.tool("dpkg-deb", "--field", package, "Depends"))

        harness.tool("dpkg", "--install", package)
        for path in INSTALLED:
            self.assertTrue(path.exists(), path)
        self.assertEqual(harness.tool("/usr/bin/nodesnap", "--version"), f"nodesnap {version}\n")
        self.assertFalse(ENABLED.exists())

        repository = self.scratch / "a repository"
        harness.tool("/usr/bin/nodesnap", "init", repository, "--node", "trial")
        SETTINGS.mkdir()
        (self.node / "a file").write_text("contents")
        (self.node / "left out").write_text("contents")
        holding = self.freezing(self.daemon()[1]) if hold_case.why_no_cgroups() is None else []
        # The example, with this node's settings.
        example = Path("/usr/share/doc/nodesnap/examples/node.conf.example").read_text()
        settings = {"NODE_DIR": self.node, "REPOSITORY": repository, "BACKUP_OPTIONS": '"' + " ".join(map(str, ["--exclude 'left out'", *holding])) + '"',
                    "FORGET_OPTIONS": '"--keep-last 1 --allow-mass-expire"'}
        for name, value in settings.items():
            example, changed = re.subn(rf"^{name}=.*$", f"{name}={value}", example, flags=re.MULTILINE)
            self.assertEqual(changed, 1, name)
        (SETTINGS / "trial.conf").write_text(example)

        for _ in range(2):
            # A machine that gives the guard no protection from the OOM killer says so.
            said = self.run_unit("nodesnap@.service", harness.DONE, *([harness.WARNINGS] if holding else []))
            self.assertIn("is made", said)
        self.assertIn("only what changed", said)
        if holding:
            self.assertIn("consistency: point-in-time", said)
        names = {file["path"] for file in json.loads(harness.tool("/usr/bin/nodesnap", "show", repository, "latest", "--files", "--json"))["files"]}
        self.assertIn("a file", names)
        self.assertNotIn("left out", names)
        self.assertIn("removed 1 of 2 backups", self.run_unit("nodesnap-forget@.service", harness.DONE))
        # A failing backup fails the unit.
        (SETTINGS / "trial.conf").write_text(example.replace(str(repository), str(self.scratch / "nowhere")))
        self.assertIn("hint:", self.run_unit("nodesnap@.service", harness.REFUSED))

        ENABLED.parent.mkdir(parents=True, exist_ok=True)
        ENABLED.symlink_to(Path("/usr") / UNITS / "nodesnap@.timer")
        shutil.rmtree(SETTINGS)
        self.assertTrue(any(STATE.iterdir()))
        harness.tool("dpkg", "--remove", "nodesnap")
        for path in INSTALLED:
            self.assertFalse(path.exists(), path)
        self.assertTrue(any(STATE.iterdir()))
        harness.tool("dpkg", "--purge", "nodesnap")
        for path in (*INSTALLED, STATE, SETTINGS, ENABLED):
            self.assertFalse(path.exists() or path.is_symlink(), path)
        self.assertNotEqual(subprocess.run(["dpkg-query", "--show", "nodesnap"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode, 0)


if __name__ == "__main__":
    harness.main()
