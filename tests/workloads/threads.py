"""Named threads that stay in known places, each told as `WAITS: name` beside its line; for tests of `pyapm dump`.

usage: threads.py [--sleepers N] [--depth N] [--no-busy]

Prints "ready" when every thread is in its place, and counts its own progress: each line on stdin is answered by
the counts of the threads that work, so that whoever looks on can see that none was held up.
"""
import argparse
import hashlib
import queue
import select
import socket
import subprocess
import sys
import threading
import time

GATE = threading.Lock()
GATE.acquire()
QUEUE = queue.Queue()
NEAR, FAR = socket.socketpair()
SERVER = socket.create_server(("127.0.0.1", 0))
CLIENT = socket.create_connection(SERVER.getsockname())
POLLED, _KEPT = socket.socketpair()
# Long enough to be on the CPU, with the lock released, for most of the time.
BLOCK = b"x" * (8 << 20)
counts = {"hashing": 0, "busy-1": 0, "busy-2": 0, "ticking": 0}
entered = []


class Shape:
    def __init__(self):
        self.sides = 3


def sleeping(secret="sesame", shape=Shape()):
    number, negative, large, ratio, nothing, yes = 42, -7, 1 << 100, 2.5, None, True
    huge, text, raw = 1 << 4000, "it's\n\u20ac", b"abc"
    items, pair, table, members = [1, 2, 3], (1, 2), {"a": 1}, {1, 2}
    cell = "in a cell"
    entered.append(lambda: cell)
    time.sleep(100_000)  # WAITS: sleeping
    unbound = 1


def locking():
    GATE.acquire()  # WAITS: locking


def receiving():
    FAR.recv(1)  # WAITS: receiving


def receiving_tcp():
    CLIENT.recv(1)  # WAITS: receiving-tcp


def getting():
    QUEUE.get()  # WAITS: getting


def polling():
    poll = select.poll()
    poll.register(POLLED, select.POLLIN)
    poll.poll()  # WAITS: polling


def child():
    subprocess.Popen(["sleep", "100000"]).wait()  # WAITS: child


def hashing():
    while True:
        hashlib.sha256(BLOCK).digest()  # WAITS: hashing
        counts["hashing"] += 1


def busy(name):
    while True:
        counts[name] += 1  # WAITS: busy


def ticking():
    while True:
        time.sleep(0.001)
        counts["ticking"] += 1


def recursive(depth):
    if depth:
        return recursive(depth - 1)  # WAITS: recursive
    time.sleep(100_000)


def start(name, function, *arguments):
    threading.Thread(target=function, args=arguments, name=name, daemon=True).start()


def answer():
    while True:
        line = sys.stdin.readline()  # WAITS: MainThread
        if not line:
            return
        print(*(f"{name}={count}" for name, count in sorted(counts.items())), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sleepers", type=int, default=0)
    parser.add_argument("--depth", type=int, default=500)
    parser.add_argument("--no-busy", action="store_true")
    options = parser.parse_args()
    sys.setrecursionlimit(options.depth + 1000)
    threading.stack_size(64 << 20)
    start("recursive", recursive, options.depth)
    threading.stack_size(1 << 20)
    for name, function in [("sleeping", sleeping), ("locking", locking), ("receiving", receiving),
                           ("receiving-tcp", receiving_tcp), ("getting", getting), ("polling", polling),
                           ("child", child)]:
        start(name, function)
    for number in range(options.sleepers):
        start(f"sleeper-{number}", time.sleep, 100_000)
    time.sleep(0.5)
    if not options.no_busy:
        start("hashing", hashing)
        start("busy-1", busy, "busy-1")
        start("busy-2", busy, "busy-2")
        start("ticking", ticking)
        while not all(counts.values()):
            time.sleep(0.01)
    print("ready", flush=True)
    answer()


main()
