#!/usr/bin/env python3
"""An HTTP/1.1 server on the standard library alone, one thread per connection: keep-alive, pipelining, chunks in
both directions, 100-continue and HEAD, over TCP or a unix socket. It does nothing else: no routes with patterns,
no database.

    raw_http11.py 127.0.0.1:0        raw_http11.py unix:/path/to/socket

Writes `ready ADDRESS` to stdout when it listens.

    /              12 bytes                          /sleep/MS       waits, then 12 bytes
    /echo          length of the request's body      /chunked/N      N chunks of 1,000 bytes
    /download/N    N bytes                           /status/CODE    that status
"""

import http.server
import os
import socket
import socketserver
import sys
import threading
import time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        received = self.receive()
        name, _, argument = self.path.partition("?")[0].strip("/").partition("/")
        if name == "sleep":
            time.sleep(int(argument) / 1000)
            self.answer(200, b"hello world\n")
        elif name == "echo":
            self.answer(200, b"%d\n" % received)
        elif name == "chunked":
            self.answer_in_chunks(int(argument))
        elif name == "download":
            self.answer(200, b"x" * int(argument))
        elif name == "status":
            self.answer(int(argument), b"as you wish\n")
        elif name == "":
            self.answer(200, b"hello world\n")
        else:
            self.answer(404, b"no such thing\n")

    do_POST = do_PUT = do_HEAD = do_GET

    def receive(self):
        """Reads the body to its end and returns its length."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            total = 0
            while size := int(self.rfile.readline().split(b";")[0], 16):
                total += len(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return total
        return len(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def answer(self, status, body):
        self.begin(status)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

    def answer_in_chunks(self, count):
        self.begin(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.command == "HEAD":
            return
        for _ in range(count):
            self.wfile.write(b"3e8\r\n" + b"y" * 1000 + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def begin(self, status):
        self.send_response(status)
        self.send_header("X-Worker", str(os.getpid()))
        self.send_header("X-Thread", str(threading.get_native_id()))

    def log_message(self, *arguments):
        pass


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def handle_error(self, request, client_address):
        """A client that goes away is what some tests are about."""


class UnixServer(Server):
    address_family = socket.AF_UNIX
    allow_reuse_address = False


def main():
    address = sys.argv[1]
    if address.startswith("unix:"):
        server = UnixServer(address.removeprefix("unix:"), Handler)
    else:
        host, _, port = address.rpartition(":")
        server = Server((host, int(port)), Handler)
        address = "%s:%d" % server.server_address
    print("ready", address, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
