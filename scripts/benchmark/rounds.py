"""Interleaved rounds: every contender once in each, the limit at the beginning and at the end."""

import os
import subprocess
import time

from . import dataset
from .measure import measure
from .storage import drop_caches


class Bench:
    def __init__(self, volumes, contenders, scratch, operations, check, drift_percent):
        self.source, self.target, self.destination = volumes
        self.contenders = contenders
        self.scratch = scratch
        self.operations = operations
        self.check = check
        self.drift_percent = drift_percent  # a round in which the limit moved further is void
        self.expected = {}

    def case(self, case, rounds, deadline):
        """Measures one case; returns {"rounds": [...], "void": number}. A round is {operation: {contender: Cost}}. None is begun after `deadline`
        (of time.monotonic()) once there is one."""
        good, void = [], []
        while len(good) < rounds and len(void) <= rounds and (not good + void or time.monotonic() < deadline):
            result = self._round(case, len(good) + len(void))
            drift = self._drift(result)
            if drift > self.drift_percent:
                print(f"  void: the limit moved by {drift:.0f} % during this round", flush=True)
                void.append(result)
            else:
                good.append(result)
        # On a machine that isn't steady enough the medians over all rounds say more than those over the few that happened to be.
        steady = len(good) >= min(rounds, len(void))
        return {"rounds": good if steady else good + void, "void": len(void), "steady": steady}

    def _round(self, case, number):
        print(f"case {case}, round {number + 1}", flush=True)
        order = self.contenders[1:]
        order = order[number % len(order):] + order[:number % len(order)] if order else []
        result = {operation: {} for operation in self.operations}
        self._one(case, self.contenders[0], result, "limit")
        for contender in order:
            self._one(case, contender, result, contender.name)
        self._one(case, self.contenders[0], result, "limit again")
        return result

    @staticmethod
    def _drift(result):
        drift = 0.0
        for costs in result.values():
            pair = sorted([costs["limit"].seconds, costs["limit again"].seconds])
            drift = max(drift, 100 * (pair[1] / pair[0] - 1))
        return drift

    def _one(self, case, contender, result, label):
        node = contender.node(self.source.path, case)
        self.target.format()
        self.target.mount()
        store = self.target.path / "store"
        store.mkdir()
        contender.prepare(store)
        if "limit" not in label:
            self._expect(node, case)
        self._cold(contender, self.source, self.target)
        cost = self._measured(contender, contender.backup(node, store), self.source, self.target, label)
        if "backup" in result:
            result["backup"][label] = cost
            self._say("backup", label, cost)
        if "restore" in result:
            self.destination.format()
            self.destination.mount()
            self._cold(contender, self.target, self.destination)
            place = self.destination.path / "node"
            cost = self._measured(contender, contender.restore(node, store, place), self.target, self.destination, label)
            result["restore"][label] = cost
            self._say("restore", label, cost)
            self._compare(contender, case, node, place)
            self.destination.unmount()
        self.target.unmount()

    def _cold(self, contender, *volumes):
        for volume in volumes:
            volume.remount_cold()
        drop_caches()
        subprocess.run(contender.warm_up(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)

    def _measured(self, contender, command, read_from, write_to, label):
        log = self.scratch / f"{label.replace(' ', '-')}.log"
        cost = measure(command, contender.environment, read_from, write_to, log, self.scratch)
        cost.seconds = contender.seconds(log, cost.seconds)
        return cost

    def _expect(self, node, case):
        if case not in self.expected:
            self.expected[case] = dataset.describe(node)

    def _compare(self, contender, case, node, place):
        """That something was restored at all, always; every byte of it, when asked for."""
        restored = contender.restored(node, place)
        if restored is None:
            return
        dataset.compare(contender.name, self.expected[case], node, restored, self.check)

    @staticmethod
    def _say(operation, label, cost):
        print(f"  {operation:8} {label:12} {cost.seconds:7.2f} s wall {cost.cpu_seconds:7.2f} s CPU {cost.peak_bytes >> 20:6} MiB "
              f"read {cost.read_bytes >> 20:6} MiB written {cost.written_bytes >> 20:6} MiB", flush=True)


def check_machine():
    if os.geteuid() != 0:
        raise SystemExit("bench: needs root, for loop devices, mounts and cold caches; run it with sudo")
