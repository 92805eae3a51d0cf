"""ASGI, no framework: requests that wait and requests that hold others up, on one event loop. Each says what it has
measured itself, in nanoseconds.

    PG_PORT=... REDIS_PORT=... uvicorn waiting_app:application

Those that wait (`/sleep/MS`, `/cache/MS`, `/sql/MS`, `/thread/MS`) answer with how long that was (`wall_ns`), and how
much of it the loop was not idle (`busy_ns`): its thread was on a CPU, waited for one, or slept. `/burn/MS/N` and
`/block/MS/N` begin once N others have begun to wait.
"""

import asyncio
import json
import os
import struct
import time

blocked_ns = 0
begun = 0
connections = {}


def queued_ns():
    with open("/proc/thread-self/schedstat") as file:
        return int(file.read().split()[1])


def stolen_ns():
    """What the machine's host did not give it: on a CPU for the scheduler, and not for the thread's clock."""
    with open("/proc/stat") as file:
        return int(file.readline().split()[8]) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def loop_busy_ns():
    return time.thread_time_ns() + queued_ns() + blocked_ns


async def measured(what):
    global begun
    begun += 1
    stolen, busy, wall = stolen_ns(), loop_busy_ns(), time.perf_counter_ns()
    await what
    wall, busy = time.perf_counter_ns() - wall, loop_busy_ns() - busy
    return {"wall_ns": wall, "busy_ns": busy, "stolen_ns": stolen_ns() - stolen}


async def sleep(milliseconds):
    return await measured(asyncio.sleep(milliseconds / 1000))


async def thread(milliseconds):
    return await measured(asyncio.to_thread(time.sleep, milliseconds / 1000))


async def cache(milliseconds):
    reader, writer = connections["redis"]

    async def call():
        seconds = b"%.3f" % (milliseconds / 1000)
        writer.write(b"*3\r\n$5\r\nBLPOP\r\n$7\r\nnothing\r\n$%d\r\n%s\r\n" % (len(seconds), seconds))
        assert (await reader.readline()).startswith(b"*-1")

    return await measured(call())


def send(writer, kind, body):
    """PostgreSQL's protocol 3: each message is a letter, its length and its body."""
    writer.write(kind + struct.pack("!I", len(body) + 4) + body)


async def until_ready(reader):
    kind = None
    while kind != b"Z":
        kind, length = struct.unpack("!cI", await reader.readexactly(5))
        await reader.readexactly(length - 4)
        assert kind != b"E"


async def sql(milliseconds):
    reader, writer = connections["postgresql"]

    async def call():
        send(writer, b"Q", b"SELECT pg_sleep(%.3f)\0" % (milliseconds / 1000))
        await until_ready(reader)

    return await measured(call())


async def connect():
    """The first request of all."""
    connections["redis"] = await asyncio.open_connection("127.0.0.1", int(os.environ["REDIS_PORT"]))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(os.environ["PG_PORT"]))
    send(writer, b"", struct.pack("!I", 3 << 16) + b"user\0app\0database\0postgres\0\0")
    await until_ready(reader)
    connections["postgresql"] = reader, writer
    return {}


async def when_waiting(count):
    while begun < count:
        await asyncio.sleep(0.001)


async def burn(milliseconds, count):
    await when_waiting(count)
    stolen, began = stolen_ns(), time.thread_time_ns()
    while time.thread_time_ns() < began + milliseconds * 1_000_000:
        pass
    return {"cpu_ns": time.thread_time_ns() - began, "stolen_ns": stolen_ns() - stolen}


async def block(milliseconds, count):
    global blocked_ns
    await when_waiting(count)
    stolen = stolen_ns()
    queued, cpu, wall = queued_ns(), time.thread_time_ns(), time.perf_counter_ns()
    time.sleep(milliseconds / 1000)
    wall, cpu, queued = time.perf_counter_ns() - wall, time.thread_time_ns() - cpu, queued_ns() - queued
    blocked_ns += wall - cpu - queued
    return {"slept_ns": wall - cpu - queued, "stolen_ns": stolen_ns() - stolen}


HANDLERS = {one.__name__: one for one in (sleep, thread, cache, sql, burn, block)}


async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    _, name, *numbers = scope["path"].split("/")
    handler = HANDLERS.get(name)
    answer = json.dumps(await (handler(*map(int, numbers)) if handler else connect())).encode()
    headers = [(b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
