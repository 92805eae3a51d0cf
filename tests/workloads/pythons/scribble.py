"""A child writes nonsense over the thread state and the frames of one of its threads, while that thread computes in C
without the GIL and cannot notice. Children that die of it are replaced. Prints "ready", then "round N" after each
child.

usage: scribble.py FOLDER
"""
import ctypes
import hashlib
import os
import random
import sys
import threading
import time

STATE = ctypes.pythonapi.PyThreadState_Get
STATE.restype = ctypes.c_void_p


def compute(found):
    found.append(STATE())
    found.append(id(sys._getframe()))
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 400_000_000)


def words(chance, state, count):
    """Addresses that lead nowhere, in circles, into the kernel, or half into a page; and plain noise."""
    choices = [0, 1, 3, 8, state, state + 8, state | 1, 0x10, 0xFFFF_FFFF_8000_0000, 0x8000_0000_0000, 0x7FFF_FFFF_FFF8,
               2 ** 64 - 8, chance.getrandbits(64), chance.getrandbits(47), chance.getrandbits(47) & ~7, id(choices_of)]
    return [chance.choice(choices) for _ in range(count)]


def choices_of():
    pass


def pages():
    """What can be written, as (start, end)."""
    with open("/proc/self/maps") as maps:
        return [tuple(int(part, 16) for part in line.split()[0].split("-")) for line in maps if " rw" in line]


def scribble(seed):
    chance = random.Random(seed)
    found = []
    threading.Thread(target=compute, args=(found,), daemon=True).start()
    while len(found) < 2:
        time.sleep(0.001)
    time.sleep(0.05)
    state, frame = found
    for target, size in [(frame, 128), (state, 320)] * 3:
        for _ in range(30):
            at = target + 8 * chance.randrange(size // 8)
            for value in words(chance, target, 1 + chance.randrange(3)):
                if any(start <= at < end - 8 for start, end in writable):
                    ctypes.c_uint64.from_address(at).value = value
                at += 8
            time.sleep(0.002)


writable = pages()
print("ready", flush=True)
number = 0
while True:
    pid = os.fork()
    if pid == 0:
        writable = pages()
        scribble(number)
        os._exit(0)
    os.waitpid(pid, 0)
    number += 1
    print("round %d" % number, flush=True)
