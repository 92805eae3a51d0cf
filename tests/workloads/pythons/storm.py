"""Forks children that compute for a moment and end in every way there is: by returning from the script (so that the
interpreter shuts down), by `os._exit`, by becoming another program, by a signal. Prints "ready", and "round N" after
each round.

usage: storm.py FOLDER
"""
import os
import signal
import sys


def moment():
    total = 0
    for number in range(20_000):
        total += number


def child(way):
    if way == 0:
        moment()
        sys.exit(0)
    elif way == 1:
        os._exit(0)
    elif way == 2:
        os.execv(sys.executable, [sys.executable, "-S", "-E", "-c", "sum(range(100000))"])
    elif way == 3:
        moment()
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        grandchild = os.fork()
        moment()
        if grandchild:
            os.waitpid(grandchild, 0)
        os._exit(0)


def storm(number):
    pids = []
    for way in range(10):
        pid = os.fork()
        if pid == 0:
            child(way % 5)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    moment()


print("ready", flush=True)
number = 0
while True:
    storm(number)
    number += 1
    print("round %d" % number, flush=True)
