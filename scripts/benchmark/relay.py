"""A TCP relay that holds everything back for a fixed time in each direction, for kernels without netem.

What a longer way costs a protocol is the waiting for answers, and windows that are too small for the bytes on the way: both are shown as they are. TCP's own window
isn't, since each half of the connection ends here. What one side has sent and the other doesn't take is bounded, as on a network.

  relay.py PORT DELAY_MS    from a port of its own, which it prints, to PORT, both on the loopback, until its standard input ends
"""

import collections
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOM = 64 << 20  # bytes on the way in one direction: 6 GB/s at 10 ms, more than anything here sends
PIECE = 1 << 20


class _Direction:
    def __init__(self, source, sink, delay):
        self.source, self.sink, self.delay = source, sink, delay
        self.pieces = collections.deque()  # (when it is due, bytes)
        self.bytes = 0
        self.reading = self.writing = True
        self.blocked = False  # the sink takes nothing just now

    def wants_to_read(self):
        return self.reading and self.bytes < ROOM

    def read(self):
        try:
            data = self.source.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.reading = bool(data)
        self.pieces.append((time.monotonic() + self.delay, memoryview(data)))
        self.bytes += len(data)

    def due_in(self):
        """Seconds; None if there is nothing that only has to wait."""
        return max(0, self.pieces[0][0] - time.monotonic()) if self.pieces and not self.blocked else None

    def write(self):
        self.blocked = False
        while self.pieces and self.pieces[0][0] <= time.monotonic():
            due, data = self.pieces[0]
            try:
                if not data:  # the end
                    self._close()
                    return
                sent = self.sink.send(data)
            except BlockingIOError:
                self.blocked = True
                return
            except OSError:
                self._close()
                return
            self.bytes -= sent
            if sent < len(data):
                self.pieces[0] = (due, data[sent:])
            else:
                self.pieces.popleft()

    def _close(self):
        self.reading = self.writing = False
        self.pieces.clear()
        for end, how in ((self.sink, socket.SHUT_WR), (self.source, socket.SHUT_RD)):
            try:
                end.shutdown(how)
            except OSError:  # it has gone
                pass


def _run(port, delay):
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    pairs = []
    while True:
        directions = [direction for pair in pairs for direction in pair]
        waits = [due for due in (direction.due_in() for direction in directions) if due is not None]
        readable, writable, _ = select.select([sys.stdin, listener, *(each.source for each in directions if each.wants_to_read())],
                                              [each.sink for each in directions if each.blocked], [], min(waits, default=None))
        if sys.stdin in readable:
            return
        if listener in readable:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", port))
            for end in (near, far):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pairs.append((_Direction(near, far, delay), _Direction(far, near, delay)))
        for direction in directions:
            if direction.source in readable:
                direction.read()
            if not direction.blocked or direction.sink in writable:
                direction.write()
        for pair in [pair for pair in pairs if not any(each.writing for each in pair)]:
            pairs.remove(pair)
            for direction in pair:
                direction.source.close()


class Relay:
    """`stack` ends it."""

    def __init__(self, stack, port, delay_ms):
        process = stack.enter_context(subprocess.Popen([sys.executable, "-B", str(Path(__file__)), str(port), str(delay_ms)],
                                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        self.port = int(process.stdout.readline())


if __name__ == "__main__":
    _run(int(sys.argv[1]), float(sys.argv[2]) / 1000)
