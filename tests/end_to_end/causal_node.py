"""A daemon of one node: appends each number that it is told to its log, and answers when the log has it. See cluster_case.py.

    causal_node.py DIRECTORY SOCKET
"""

import os
import socket
import sys

directory, path = sys.argv[1:3]
log = os.open(os.path.join(directory, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(1)
while True:
    client, _ = listener.accept()
    with client:
        while number := client.recv(16, socket.MSG_WAITALL):
            os.write(log, number)
            client.sendall(b".")
