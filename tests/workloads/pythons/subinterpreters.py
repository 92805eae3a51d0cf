"""Computes in the main interpreter, and in two others on threads of their own. Prints "ready" when all do.

usage: subinterpreters.py FOLDER
"""
import os
import sys
import threading
import time

try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

CODE = """
def inner_%(number)d():
    total = 0
    for number in range(5000):
        total += number

def outer_%(number)d():
    while True:
        inner_%(number)d()

open(%(file)r, "w").close()
outer_%(number)d()
"""


def run(number, file):
    interpreter = interpreters.create()
    interpreters.run_string(interpreter, CODE % {"number": number, "file": file})


def inner_0():
    total = 0
    for number in range(5000):
        total += number


def outer_0():
    while True:
        inner_0()


files = [os.path.join(sys.argv[1], "runs%d" % number) for number in (1, 2)]
for number, file in enumerate(files, 1):
    threading.Thread(target=run, args=(number, file), daemon=True).start()
while not all(os.path.exists(file) for file in files):
    time.sleep(0.01)
print("ready", flush=True)
outer_0()
