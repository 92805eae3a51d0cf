"""Threads in numbers; for tests of `pyapm record --mode wall`.

usage: crowd.py FOLDER THREADS [BURNERS [SECONDS]]

THREADS threads that sleep SECONDS (a tenth if nothing is said) again and again (`ticking`), as many that wait for what
never comes (`parked`), and BURNERS that compute (`burning`). The main thread waits, too. Prints "ready" when all of them
are in place.
"""
import sys
import threading
import time

THREADS = int(sys.argv[2])
BURNERS = int(sys.argv[3]) if len(sys.argv) > 3 else 0
SECONDS = float(sys.argv[4]) if len(sys.argv) > 4 else 0.1
NEVER = threading.Lock()
NEVER.acquire()
IN_PLACE = threading.Semaphore(0)


def ticking():
    IN_PLACE.release()
    while True:
        time.sleep(SECONDS)


def parked():
    IN_PLACE.release()
    NEVER.acquire()


def burning():
    while True:
        sum(range(1000))


threading.stack_size(256 << 10)
for _ in range(THREADS):
    threading.Thread(target=ticking, daemon=True).start()
    threading.Thread(target=parked, daemon=True).start()
for _ in range(2 * THREADS):
    IN_PLACE.acquire()
# The last of them have a few instructions to go.
time.sleep(0.2)
for _ in range(BURNERS):
    threading.Thread(target=burning, daemon=True).start()
print("ready", flush=True)
NEVER.acquire()
