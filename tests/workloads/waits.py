"""Functions that wait, each for one thing, and that measure themselves; for tests of `pyapm record --mode wall`.

usage: waits.py SECONDS FOLDER

The main thread calls one function after the other, and helpers let it wait: `sleeping` for time to pass, `locking`
for a lock, `receiving` for a socket, `accepting` for a connection, `piping` for a pipe, `polling` for any of two
pipes, `syncing` for the disk, `parenting` for a child, and `computing` for the interpreter's lock, which a second thread
that computes takes from it. Prints "ready", and begins when there is a file `go` in FOLDER. The last line is `measured ` and an object: for each function, in
nanoseconds, the time from its call to its return, what of that its thread had on a CPU, and what it waited for a
CPU (by the kernel's own account, `schedstat` of proc(5)).
"""
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time

SECONDS, FOLDER = float(sys.argv[1]), sys.argv[2]
LOCK = threading.Lock()
NEAR, FAR = socket.socketpair()
SERVER = socket.create_server(("127.0.0.1", 0))
READ, WRITE = os.pipe()
OTHER, _KEPT = os.pipe()
FILE = os.open(os.path.join(FOLDER, "waits.data"), os.O_RDWR | os.O_CREAT)
BLOCK = os.urandom(1 << 20)
measured = {}


def sleeping():
    time.sleep(0.05)


def locking():
    LOCK.acquire()


def receiving():
    FAR.recv(1)


def accepting():
    return SERVER.accept()


def piping():
    os.read(READ, 1)


def polling():
    poll = select.poll()
    poll.register(READ, select.POLLIN)
    poll.register(OTHER, select.POLLIN)
    poll.poll()


def syncing():
    # Straight system calls, one after the other: the disk is what takes the time.
    until = time.monotonic() + 0.05
    number = 0
    while time.monotonic() < until:
        os.pwrite(FILE, BLOCK, (number & 7) << 20)
        os.fsync(FILE)
        number += 1


def parenting(child):
    os.waitpid(child, 0)


def computing(until):
    while time.monotonic() < until:
        sum(range(2000))


def rival(until):
    while time.monotonic() < until:
        sum(range(2000))


def queued_ns():
    with open("/proc/thread-self/schedstat") as file:
        return int(file.read().split()[1])


def measure(function, *arguments):
    queued, cpu, began = queued_ns(), time.thread_time_ns(), time.monotonic_ns()
    result = function(*arguments)
    ended, cpu_then = time.monotonic_ns(), time.thread_time_ns()
    sums = measured.setdefault(function.__name__, {"wall": 0, "cpu": 0, "queued": 0})
    sums["wall"] += ended - began
    sums["cpu"] += cpu_then - cpu
    sums["queued"] += queued_ns() - queued
    return result


def later(seconds, what, *arguments):
    def helper():
        time.sleep(seconds)
        what(*arguments)
    thread = threading.Thread(target=helper)
    thread.start()
    return thread


def connect():
    socket.create_connection(SERVER.getsockname()).close()


def work():
    measure(sleeping)

    LOCK.acquire()
    helper = later(0.05, LOCK.release)
    measure(locking)
    LOCK.release()
    helper.join()

    for function, let in ((receiving, (NEAR.send, b"x")), (piping, (os.write, WRITE, b"x")),
                          (polling, (os.write, WRITE, b"x"))):
        helper = later(0.05, *let)
        measure(function)
        helper.join()
    os.read(READ, 1)

    helper = later(0.05, connect)
    measure(accepting)[0].close()
    helper.join()

    measure(syncing)

    child = subprocess.Popen(["sleep", "0.05"])
    measure(parenting, child.pid)
    child.returncode = 0

    until = time.monotonic() + 0.15
    helper = threading.Thread(target=rival, args=(until,))
    helper.start()
    measure(computing, until)
    helper.join()


def settle():
    while not os.path.exists(os.path.join(FOLDER, "go")):
        time.sleep(0.01)


print("ready", flush=True)
settle()
end = time.monotonic() + SECONDS
while time.monotonic() < end:
    work()
print("measured", json.dumps(measured), flush=True)
