"""One thread computes and counts its rounds, the others wait; all are equally deep. Prints "ready".

usage: burden.py FOLDER, with BURDEN_THREADS and BURDEN_DEPTH in the environment. FOLDER/rounds begins with the number of
rounds, 8 bytes, little-endian.
"""
import mmap
import os
import struct
import sys
import threading

THREADS = int(os.environ["BURDEN_THREADS"])
DEPTH = int(os.environ["BURDEN_DEPTH"])
sys.setrecursionlimit(DEPTH + 1000)


def one_round():
    total = 0
    for number in range(500):
        total += number * number % 7
    return total


def compute():
    with open(os.path.join(sys.argv[1], "rounds"), "w+b") as file:
        file.truncate(mmap.PAGESIZE)
        counter = mmap.mmap(file.fileno(), mmap.PAGESIZE)
    rounds = 0
    print("ready", flush=True)
    while True:
        one_round()
        rounds += 1
        counter[:8] = struct.pack("<Q", rounds)


def wait():
    deep_enough.release()
    threading.Event().wait()


def descend(left, then):
    if left == 0:
        return then()
    return descend(left - 1, then)


deep_enough = threading.Semaphore(0)
for _ in range(THREADS - 1):
    threading.Thread(target=descend, args=(DEPTH - 2, wait), daemon=True).start()
for _ in range(THREADS - 1):
    deep_enough.acquire()
descend(DEPTH - 3, compute)
