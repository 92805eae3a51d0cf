"""ASGI, no framework: `/sleeps` and `/burns` hold up the loop for 0.3 s and 0.9 s, `/waits` lets others go on meanwhile.

usage: uvicorn blocking_app:application
"""
import asyncio
import time

SECONDS = 0.3


async def sleeps():
    time.sleep(SECONDS)


async def burns():
    end = time.thread_time() + 3 * SECONDS
    while time.thread_time() < end:
        pass


async def waits():
    await asyncio.sleep(SECONDS)


HANDLERS = {"/sleeps": sleeps, "/burns": burns, "/waits": waits}


async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    handler = HANDLERS.get(scope["path"])
    if handler:
        await handler()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
