"""Runs one command and says what it cost."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass

from .storage import sync_file_system


@dataclass
class Cost:
    seconds: float
    cpu_seconds: float  # of the process and all its descendants, user and system
    busy_seconds: float  # of all CPUs, the kernel's own threads included: what else runs on the machine counts too
    peak_bytes: int  # of the largest process among them
    read_bytes: int  # from the device that is read
    written_bytes: int  # to the device that is written

    def as_dict(self):
        return dict(self.__dict__)


def _busy():
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(field) for field in file.readline().split()[1:]]
    idle = fields[3] + fields[4]
    return (sum(fields[:8]) - idle) / os.sysconf("SC_CLK_TCK")


def measure(command, environment, read_from, write_to, log, directory=None):
    """The command from its start until all that it wrote is durable on `write_to`. Output goes to `log`. Raises RuntimeError if it fails."""
    environment = {**os.environ, **environment}
    read_before, written_before = read_from.transferred()[0], write_to.transferred()[1]
    busy_before = _busy()
    with open(log, "wb") as output:
        start = time.monotonic()
        process = subprocess.Popen(command, env=environment, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
        try:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.returncode is None:  # interrupted: nothing of it may go on using the mounts
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        failed = process.returncode != 0
        if not failed:
            sync_file_system(write_to.path)
        seconds = time.monotonic() - start
    if failed:
        with open(log, encoding="utf-8", errors="replace") as output:
            raise RuntimeError(f"{' '.join(command)}: exit status {process.returncode}\n{output.read()[-2000:]}")
    return Cost(seconds=seconds, cpu_seconds=usage.ru_utime + usage.ru_stime, busy_seconds=_busy() - busy_before, peak_bytes=usage.ru_maxrss * 1024,
                read_bytes=read_from.transferred()[0] - read_before, written_bytes=write_to.transferred()[1] - written_before)
