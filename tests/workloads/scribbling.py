"""A process that scribbles over its own interpreter's structs while a thread of it sleeps; for tests of `pyapm dump`.

usage: scribbling.py SEED WHAT. WHAT: `state` the sleeping thread's state from its list pointers on, `frame` its
innermost frame's head, `names` the dict of threads and its instances. Prints "ready" when it has, and does nothing
more that could meet the damage.
"""
import ctypes
import random
import sys
import threading
import time

seed, what = int(sys.argv[1]), sys.argv[2]
chance = random.Random(seed)
states = []


def sleeping():
    get = ctypes.pythonapi.PyThreadState_Get
    get.restype = ctypes.c_void_p
    states.append(get())
    time.sleep(100_000)


def word():
    return chance.choice([0, 1, 8, chance.getrandbits(64), chance.getrandbits(47) & ~7, states[0], id(threading)])


def scribble(address, words):
    for index in range(words):
        if chance.random() < 0.5:
            ctypes.c_uint64.from_address(address + 8 * index).value = word()


thread = threading.Thread(target=sleeping, daemon=True, name="sleeping")
thread.start()
while not states:
    time.sleep(0.01)
time.sleep(0.3)
sleep, write = ctypes.CDLL(None).sleep, ctypes.CDLL(None).write
ready = b"ready\n"
if what == "state":
    scribble(states[0], 40)
elif what == "frame":
    for offset in (24, 56, 72):
        pointer = ctypes.c_uint64.from_address(states[0] + offset).value
        if 4096 < pointer < 1 << 47:
            scribble(pointer, 10)
else:
    scribble(id(threading._active) + 16, 4)
    scribble(id(thread) - 32, 4)
    scribble(id(thread) + 8, 5)
# With the lock held for good: nothing of Python's runs any more.
keep = ctypes.PyDLL(None)
keep.write(1, ready, len(ready))
while True:
    keep.sleep(1000)
