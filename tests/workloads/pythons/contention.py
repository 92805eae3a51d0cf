"""Threads that wait for the interpreter's lock, for one of their own, and for time to pass; for tests that tell them apart.

usage: contention.py FOLDER. `computing` twice, `locking` twice and `sleeping`. Prints "ready" when they run.
"""
import threading
import time

LOCK = threading.Lock()


def computing():
    while True:
        sum(range(1000))


def locking():
    while True:
        with LOCK:
            time.sleep(0.02)


def sleeping():
    while True:
        time.sleep(0.01)


for function in (computing, computing, locking, locking, sleeping):
    threading.Thread(target=function, daemon=True).start()
time.sleep(0.2)
print("ready", flush=True)
threading.Event().wait()
