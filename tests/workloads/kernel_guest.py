"""The test that `cargo xtask test kernels` runs inside each guest: one whole attach to a real HTTP server.

Truth: `serve` answers each request by `PLAN` below, 20 requests in all, 10 of them over one kept-alive connection
and 10 over one connection each. Requests to /burn/N spend BURN_S of CPU time inside `burn_cpu`. `drive` attaches pyapm
to a running `serve`, sends the plan, stops pyapm with SIGINT and compares what it wrote. The two are started apart, by
the guest's second stage, so that the server is not the child of another Python.

Lines that begin with "@@ note:" go into the report. Exit code 0 when all checks hold, 1 when one does not.
Every limit is in seconds and only ends what hangs: emulation is 10 to 20 times slower than a real machine.
"""

import argparse
import collections
import http.client
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

BURN_S = 0.4
# (method, target, status); the query string is sent and must not be reported.
PLAN = (
    [("GET", f"/item/{n}?secret=hunter2", 200) for n in range(8)]
    + [("POST", "/item", 201)] * 4
    + [("GET", f"/missing/{n}", 404) for n in range(3)]
    + [("GET", "/fail", 500)]
    + [("GET", f"/burn/{n}", 200) for n in range(4)]
)

DOCTOR_LIMIT_S = 600
SERVER_LIMIT_S = 30
ATTACH_LIMIT_S = 400
REQUEST_LIMIT_S = 60
STOP_LIMIT_S = 45
# Only if all else fails: `drive` stops pyapm long before.
DURATION_S = 300


def burn_cpu(seconds):
    """Spends CPU time of this thread, not wall time, so that the sampler must see it."""
    end = time.thread_time() + seconds
    total = 0
    while time.thread_time() < end:
        for number in range(2000):
            total += number * number
    return total


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path.startswith("/burn/"):
            burn_cpu(BURN_S)
            self.answer(200)
        elif path.startswith("/item/"):
            self.answer(200)
        elif path == "/fail":
            self.answer(500)
        else:
            self.answer(404)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(201)

    def answer(self, status):
        body = b"x" * 300
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve(port):
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


class Failed(Exception):
    """A check does not hold; the message is what the reader of the log needs."""


def note(text):
    print(f"@@ note: {text}", flush=True)


def require(holds, text):
    if not holds:
        raise Failed(text)


def doctor(pyapm, pid):
    """Prints what pyapm says about this kernel and this process, for the log. The attach below must work, so it must
    not say otherwise."""
    for extra in ([], ["--pid", str(pid)]):
        command = [pyapm, "doctor", *extra]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=DOCTOR_LIMIT_S)
        ended = f"`{' '.join(command)}` ended with {done.returncode}"
        print(ended, flush=True)
        require(done.returncode == 0, ended)


class Attach:
    """A running `pyapm attach --format json`: collects its lines as they come."""

    def __init__(self, pyapm, pid):
        command = [pyapm, "attach", "--pid", str(pid), "--format", "json", "--duration", str(DURATION_S)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.lines = []
        self.first_line = threading.Event()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            self.first_line.set()
        self.first_line.set()

    def wait_until_attached(self):
        require(self.first_line.wait(ATTACH_LIMIT_S), f"no `attached` line within {ATTACH_LIMIT_S} s")
        if not self.lines:
            raise Failed(f"pyapm ended with {self.process.wait(STOP_LIMIT_S)} before it attached")
        first = json.loads(self.lines[0])
        require(first["type"] == "attached", f"the first line is {first}")
        return first

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"pyapm did not stop within {STOP_LIMIT_S} s of SIGINT") from None
        self.reader.join(STOP_LIMIT_S)
        require(code == 0, f"pyapm ended with {code} after SIGINT")
        return [json.loads(line) for line in self.lines]


def send_plan(port):
    """Sends every second request over one kept-alive connection, each other one over its own."""
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_LIMIT_S)
    for index, (method, target, status) in enumerate(PLAN):
        own = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_LIMIT_S)
        connection = own if index % 2 else kept
        connection.request(method, target, body=b"y" * 100 if method == "POST" else None)
        response = connection.getresponse()
        response.read()
        require(response.status == status, f"{method} {target} answered {response.status}")
        own.close()
    kept.close()


def counted(entries):
    return ", ".join(f"{count} x {entry}" for entry, count in sorted(entries.items(), key=str)) or "none"


def check_transactions(transactions, pid):
    expected = collections.Counter(
        (method, target.partition("?")[0], status) for method, target, status in PLAN
    )
    reported = collections.Counter(
        (line["http.request.method"], line["url.path"], line["http.response.status_code"]) for line in transactions
    )
    require(
        reported == expected,
        f"transactions differ. Missing: {counted(expected - reported)}. Too many: {counted(reported - expected)}",
    )
    for line in transactions:
        require(line["kind"] == "http" and line["pid"] == pid, f"not an HTTP transaction of the server: {line}")
        if line["url.path"].startswith("/burn/"):
            took = line["duration_ns"] / 1e9
            require(took >= BURN_S, f"{line['url.path']} took {took} s, less than its handler spent")


def check_samples(transactions):
    """The handler's function is on a stack sampled inside a transaction that ran it, and in no other."""
    hits = 0
    for line in transactions:
        stacks = line["samples"]
        burning = sum(
            stack["count"]
            for stack in stacks
            if any(frame["function"].rpartition(".")[2] == "burn_cpu" for frame in stack["stack"])
        )
        hits += burning
        require(not burning or line["url.path"].startswith("/burn/"), f"burn_cpu sampled in {line['url.path']}")
    require(hits > 0, "no sample has `burn_cpu` on its stack")
    return hits


def check_summary(summary):
    require(summary["type"] == "summary", f"the last line is {summary}")
    dropped = summary["dropped"]
    require(
        summary["seen"] == summary["delivered"] + sum(dropped.values()), f"the summary does not add up: {summary}"
    )
    require(summary["seen"] > 0, f"the summary counts nothing: {summary}")


def wait_for_server(port):
    end = time.monotonic() + SERVER_LIMIT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=SERVER_LIMIT_S).close()
            return
        except ConnectionRefusedError:
            require(time.monotonic() < end, "the server did not start")
            time.sleep(0.1)


def drive(pyapm, pid, port):
    wait_for_server(port)
    doctor(pyapm, pid)
    started = time.monotonic()
    attach = Attach(pyapm, pid)
    try:
        first = attach.wait_until_attached()
        attached_s = time.monotonic() - started
        send_plan(port)
        lines = attach.stop()
    finally:
        attach.process.kill()
        for line in attach.lines:
            print(line, end="")
    require(os.path.exists(f"/proc/{pid}"), "the server died while it was watched")
    require(pid in first["pids"], f"{first} does not name pid {pid}")
    transactions = [line for line in lines if line["type"] == "transaction"]
    check_transactions(transactions, pid)
    hits = check_samples(transactions)
    summary = lines[-1]
    check_summary(summary)
    note(
        f"attached to Python {first['python']} in {attached_s:.1f} s; {len(transactions)} of {len(PLAN)} requests "
        f"reported; {hits} samples of the handler; {summary['seen']} records seen, "
        f"dropped: {summary['dropped'] or 'none'}"
    )


def main():
    parser = argparse.ArgumentParser()
    roles = parser.add_subparsers(dest="role", required=True)
    roles.add_parser("serve").add_argument("--port", type=int, required=True)
    driver = roles.add_parser("drive")
    driver.add_argument("--pyapm", required=True)
    driver.add_argument("--pid", type=int, required=True)
    driver.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    if arguments.role == "serve":
        serve(arguments.port)
    try:
        drive(arguments.pyapm, arguments.pid, arguments.port)
    except (Failed, subprocess.TimeoutExpired) as failure:
        note(f"FAILED: {failure}")
        sys.exit(1)


if __name__ == "__main__":
    main()
