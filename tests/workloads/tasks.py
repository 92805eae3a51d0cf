"""Tasks of asyncio that are suspended in known places, each told as `AWAITS: name` beside its line; for tests of
`pyapm dump`. Prints "ready" when all are there. A second loop, in a thread of its own, is held up by a task.
"""
import asyncio
import threading
import time


async def innermost(future):
    await future  # AWAITS: innermost


async def middle(future):
    await innermost(future)  # AWAITS: middle


async def worker(future):
    await middle(future)  # AWAITS: worker


async def sleeper():
    await asyncio.sleep(100_000)  # AWAITS: sleeper


async def finished():
    return 1


async def group():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(sleeper(), name="in the group")


async def held_up():
    time.sleep(100_000)  # AWAITS: held_up


def blocked():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(loop.create_task(held_up(), name="busybody"))


async def main():
    future = asyncio.get_running_loop().create_future()
    first = asyncio.create_task(worker(future), name="first")
    unnamed = asyncio.create_task(sleeper())
    if hasattr(asyncio, "TaskGroup"):  # From 3.11 on.
        asyncio.create_task(group(), name="group")
    done = asyncio.create_task(finished(), name="done")
    await done
    threading.Thread(target=blocked, name="blocked", daemon=True).start()
    asyncio.get_running_loop().call_later(0.5, lambda: print("ready", flush=True))
    await asyncio.gather(first, unnamed)  # AWAITS: main



async def start():
    asyncio.current_task().set_name("main")
    await main()


asyncio.run(start())
