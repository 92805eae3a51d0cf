"""Makes contexts, in numbers that are known: copies of the current one by `copy_context`, by `call_soon` and by a task
each, and empty ones. It says how many of each, does so at every request of `go`, and what it did lies in `done`."""

import asyncio
import contextvars
import os
import sys
import time

SCRATCH = sys.argv[1]
COPIES, SOON, TASKS, EMPTY = 1000, 200, 100, 300


async def nothing():
    pass


async def on_a_loop():
    loop = asyncio.get_running_loop()
    for _ in range(SOON):
        loop.call_soon(int)
    for _ in range(TASKS):
        # Each task copies once; its steps, and its end that nobody waits for, copy nothing.
        loop.create_task(nothing())
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def main():
    loop = asyncio.new_event_loop()
    print("ready", flush=True)
    while not os.path.exists(os.path.join(SCRATCH, "go")):
        time.sleep(0.01)
    kept = [contextvars.copy_context() for _ in range(COPIES)]
    del kept
    # Again, now out of the free list.
    for _ in range(COPIES):
        contextvars.copy_context()
    print("addresses", id(contextvars.copy_context()), flush=True)
    kept = [contextvars.Context() for _ in range(EMPTY)]
    with open(os.path.join(SCRATCH, "plain"), "w") as done:
        done.write("done")
    while not os.path.exists(os.path.join(SCRATCH, "loop")):
        time.sleep(0.01)
    loop.run_until_complete(on_a_loop())
    with open(os.path.join(SCRATCH, "looped"), "w") as done:
        done.write("done")
    time.sleep(600)


main()
