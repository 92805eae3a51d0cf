"""Raises exceptions that leave the frame that raised them and are caught by its caller: a given number, at a given pace.

usage: flood.py FOLDER. Prints "ready", waits for FOLDER/go, which holds "NUMBER BATCH PAUSE": so many in all, with a sleep
of PAUSE seconds after each BATCH. Prints "done" and stays until it is killed.
"""
import os
import sys
import time

FOLDER = sys.argv[1]


def fail():
    raise ValueError("too much")


def catch():
    try:
        fail()
    except ValueError:
        pass


def main():
    print("ready", flush=True)
    go = os.path.join(FOLDER, "go")
    while not os.path.exists(go) or not open(go).read().endswith("\n"):
        time.sleep(0.01)
    number, batch, pause = open(go).read().split()
    for index in range(int(number)):
        if index and index % int(batch) == 0:
            time.sleep(float(pause))
        catch()
    print("done", flush=True)
    while True:
        time.sleep(1)


main()
