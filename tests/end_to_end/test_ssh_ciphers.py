"""Which cipher ssh uses: a fast one, unless the operator has chosen."""

import os
import re
import shutil
from pathlib import Path

import harness
from ssh_host import SSHD, SshHost

FAST = "aes128-gcm@openssh.com"


@harness.unittest.skipUnless(SSHD, "there is no sshd")
class SshCiphers(harness.Case):
    def setUp(self):
        super().setUp()
        self.host = SshHost(self.stack, self.scratch / "sshd")
        # `ssh` by PATH, as without --ssh, with the configuration of this test in the place of root's.
        self.config = self.scratch / "config"
        self.log = self.scratch / "log"
        ways = self.scratch / "bin"
        ways.mkdir()
        (ways / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -v -E {self.log} -F {self.config} "$@"\n')
        (ways / "ssh").chmod(0o755)
        self.path = {"PATH": f"{ways}:{os.environ['PATH']}"}

    def ciphers_used(self, *options, config=""):
        words = self.host.command.split()
        given = dict(word[2:].split("=") for word in words if word.startswith("-o"))
        self.config.write_text(config + f"IdentityFile {self.host.key}\n" + "".join(f"{name} {value}\n" for name, value in given.items() if name != "LogLevel"))
        self.log.unlink(missing_ok=True)
        place = self.host.place(self.scratch / "repository")
        self.run_program("list", place, "--remote-program", harness.PROGRAM, *options, expect=harness.DONE, environment=self.path)
        used = set(re.findall(r"kex: (?:client->server|server->client) cipher: (\S+)", self.log.read_text()))
        self.assertEqual(len(used), 1, self.log.read_text())
        return used.pop()

    def test_fast_where_nothing_was_chosen(self):
        self.repository()
        usual = self.ciphers_used("--ssh", "ssh")
        self.assertEqual(self.ciphers_used("--ssh", "ssh", config=f"Ciphers ^{FAST}\n"), FAST)
        has_aes = re.search(r"^(flags|Features)\b.*\baes\b", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        self.assertEqual(self.ciphers_used(), FAST if has_aes else usual)

    def test_what_the_operator_has_chosen_stays(self):
        self.repository()
        for chosen in ("aes256-ctr", f"chacha20-poly1305@openssh.com,{FAST}"):
            self.assertEqual(self.ciphers_used(config=f"Ciphers {chosen}\n"), chosen.split(",", maxsplit=1)[0])
        # For this host alone.
        self.assertEqual(self.ciphers_used(config="Host 127.0.0.1\n Ciphers aes256-ctr\nHost *\n"), "aes256-ctr")


if __name__ == "__main__":
    harness.main()
