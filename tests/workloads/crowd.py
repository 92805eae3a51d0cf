"""Threads in numbers; for tests of `pyapm record --mode wall`.

usage: crowd.py THREADS [BURNERS]

THREADS threads that sleep a tenth of a second again and again (`ticking`), as many that wait for what never comes
(`parked`), and BURNERS that compute (`burning`). The main thread waits, too. Prints "ready" when all of them are in
place.
"""
import sys
import threading
import time

THREADS = int(sys.argv[1])
BURNERS = int(sys.argv[2]) if len(sys.argv) > 2 else 0
NEVER = threading.Lock()
NEVER.acquire()


def ticking():
    while True:
        time.sleep(0.1)


def parked():
    NEVER.acquire()


def burning():
    while True:
        sum(range(1000))


threading.stack_size(256 << 10)
for _ in range(THREADS):
    threading.Thread(target=ticking, daemon=True).start()
    threading.Thread(target=parked, daemon=True).start()
time.sleep(1)
for _ in range(BURNERS):
    threading.Thread(target=burning, daemon=True).start()
print("ready", flush=True)
NEVER.acquire()
