#!/usr/bin/env python3
"""An HTTP/1.1 server that does next to nothing, for rates that a framework does not reach: processes that serve one
connection at a time, kept alive, and answer every GET with 2 bytes. Headers that come in pieces are not for it.

    quick.py PROCESSES

Writes `ready PORT` to stdout when it listens.
"""

import os
import socket
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def serve(listener):
    while True:
        connection, _ = listener.accept()
        with connection:
            while connection.recv(4096):
                connection.sendall(ANSWER)


def main():
    listener = socket.create_server(("127.0.0.1", 0))
    for _ in range(int(sys.argv[1])):
        if os.fork() == 0:
            serve(listener)
    print("ready", listener.getsockname()[1], flush=True)
    for _ in range(int(sys.argv[1])):
        os.wait()


if __name__ == "__main__":
    main()
