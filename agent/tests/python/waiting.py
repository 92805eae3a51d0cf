"""Threads that wait in known places; writes where each one is, by the interpreter's own account; then waits.

usage: waiting.py OUTPUT. Prints "ready" when OUTPUT (JSON) is written. After a line on stdin it forks a child
that waits in the same place, prints the child's pid, and goes on waiting.
"""
import asyncio
import json
import os
import select
import sys
import threading
import time

FOREVER = threading.Lock()
FOREVER.acquire()
tids = {}


class Deep:
    def method(self, depth):
        if depth:
            return self.method(depth - 1)
        return [größe for größe in self.numbers()] if False else list(self.numbers())

    def numbers(self):
        yield 1
        (lambda:
            FOREVER.acquire(  # WAITS
            ))()
        yield 2


def in_a_generator():
    Deep().method(7)


async def inner():
    time.sleep(  # WAITS
        3600)


async def outer():
    await asyncio.gather(
        inner())


def in_a_coroutine():
    asyncio.new_event_loop().run_until_complete(
        outer())


def in_select():
    r, _ = os.pipe()
    select.select([r], [],
                  [])


def recursive(depth):
    if depth:
        recursive(depth - 1)
    FOREVER.acquire()


def busy():
    while True:
        pass


def run(function, name):
    def body():
        tids[name] = (threading.get_native_id(), threading.get_ident())
        function()
    threading.Thread(target=body, daemon=True).start()


WAITING = {"generator": in_a_generator, "coroutine": in_a_coroutine, "select": in_select,
           "deep": lambda: recursive(150)}
for name, function in WAITING.items():
    run(function, name)


def stacks():
    """Frames of every thread but this one, innermost first."""
    found = {}
    frames = sys._current_frames()
    for name, (tid, ident) in list(tids.items()):
        frame, stack = frames[ident], []
        while frame:
            code = frame.f_code
            stack.append([getattr(code, "co_qualname", code.co_name), code.co_filename, frame.f_lineno])
            frame = frame.f_back
        found[name] = {"tid": tid, "stack": stack}
    return found


def write():
    """When every thread has been in the same place for a while, that is where it waits."""
    before, steady = None, 0
    while steady < 10 or len(before) < len(WAITING) + 1:
        time.sleep(0.02)
        now = stacks()
        steady = steady + 1 if now == before else 0
        before = now
    run(busy, "busy")
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(before, file)
    print("ready", flush=True)


def wait_for_the_test():
    tids["main"] = (threading.get_native_id(), threading.get_ident())
    threading.Thread(target=write, daemon=True).start()
    sys.stdin.readline()
    pid = os.fork()
    if pid == 0:
        while os.read(0, 1):
            pass
        os._exit(0)
    print(pid, flush=True)
    sys.stdin.readline()
    os.kill(pid, 9)


wait_for_the_test()
