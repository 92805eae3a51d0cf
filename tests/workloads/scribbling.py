"""A process that scribbles over its own interpreter's structs while a thread of it sleeps; for tests of `pyapm dump`.

usage: scribbling.py SEED WHAT. WHAT: `state` the sleeping thread's state from its list pointers on, `frame` its
innermost frame's head, `names` the dict of threads and its instances. Prints "ready" when it has, and does nothing
more that could meet the damage.
"""
import ctypes
import gc
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
# What follows must not meet the damage: no collector, nothing new to be looked up.
gc.disable()
keep = ctypes.PyDLL(None)
write, sleep = keep.write, keep.sleep
ready = b"ready\n"
if what == "state":
    scribble(states[0], 22)
elif what == "frame":
    offset = 24 if sys.version_info < (3, 11) else 56 if sys.version_info < (3, 13) else 72
    scribble(ctypes.c_uint64.from_address(states[0] + offset).value, 8)
else:
    scribble(id(threading._active) + 16, 4)
    scribble(id(thread) + 8, 2)
# With the lock held for good: nothing of Python's runs any more.
write(1, ready, len(ready))
while True:
    sleep(1000)
