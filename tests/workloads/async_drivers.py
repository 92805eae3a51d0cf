"""An ASGI application that asks databases and caches through one asynchronous driver a path, and does nothing else.

    PG_PORT=... MY_PORT=... REDIS_PORT=... HTTP2_PORT=... HTTP2_TLS_PORT=... uvicorn async_drivers:application

Each path runs its calls one after the other, and each call stands on a line of its own with a mark (`# call: NAME`).
Connections are made when the application comes up, but for the paths below `/fresh/`, which make their own. Paths can
be asked for all at once: each has a connection to itself. Drivers that are not installed answer 501.
"""

import asyncio
import importlib

import async_conversations
from servers_of_drivers import HOST, fails, http2_options, port

SELECT = "SELECT name FROM people WHERE id < %s"


async def asyncpg(connection):
    for number in (3, 4):
        rows = await connection.fetch("SELECT name FROM people WHERE id < $1", number)  # call: asyncpg select
        assert len(rows) == number - 1
    await connection.execute("UPDATE people SET name = 'secret' WHERE id = 1")  # call: asyncpg update
    with fails():
        await connection.fetch("SELECT 1 / (id - $1::int) FROM people WHERE id = 1", 1)  # call: asyncpg error
    async with connection.transaction():  # call: asyncpg begin
        await connection.executemany("UPDATE people SET name = $1 WHERE id = 2", [("x",), ("y",)])  # call: asyncpg many


async def asyncpg_connect(tls=False):
    return await importlib.import_module("asyncpg").connect(
        host=HOST, port=port("PG_PORT"), user="app", database="postgres", ssl="require" if tls else False
    )


async def psycopg(connection):
    cursor = connection.cursor()
    for number in (3, 4):
        await cursor.execute(SELECT, (number,))  # call: psycopg select
        assert len(await cursor.fetchall()) == number - 1
    with fails():
        await cursor.execute("SELECT 1 / (id - %s) FROM people WHERE id = 1", (1,))  # call: psycopg error
    async with connection.pipeline():
        await cursor.execute("UPDATE people SET name = 'secret' WHERE id = %s", (3,))  # call: psycopg pipeline
        await cursor.execute("UPDATE people SET name = 'secret' WHERE id = %s", (4,))  # call: psycopg pipeline 2


async def psycopg_connect(tls="disable"):
    return await importlib.import_module("psycopg").AsyncConnection.connect(
        f"host={HOST} port={port('PG_PORT')} user=app dbname=postgres sslmode={tls}", autocommit=True
    )


async def aiomysql(connection):
    cursor = await connection.cursor()
    await cursor.execute(SELECT, (3,))  # call: aiomysql select
    assert len(await cursor.fetchall()) == 2
    await cursor.execute("INSERT INTO people VALUES (20, 'secret'), (21, 'secret')")  # call: aiomysql insert
    await cursor.execute("DELETE FROM people WHERE id IN (20, 21)")  # call: aiomysql delete
    with fails():
        await cursor.execute("SELECT secret FROM nosuch")  # call: aiomysql error


async def aiomysql_connect():
    return await importlib.import_module("aiomysql").connect(
        host=HOST, port=port("MY_PORT"), user="shop", db="shop", autocommit=True
    )


async def asyncmy(connection):
    cursor = connection.cursor()
    await cursor.execute(SELECT, (3,))  # call: asyncmy select
    assert len(await cursor.fetchall()) == 2
    await cursor.execute("INSERT INTO people VALUES (30, 'secret'), (31, 'secret')")  # call: asyncmy insert
    await cursor.execute("DELETE FROM people WHERE id IN (30, 31)")  # call: asyncmy delete
    with fails():
        await cursor.execute("SELECT secret FROM nosuch")  # call: asyncmy error


async def asyncmy_connect():
    return await importlib.import_module("asyncmy").connect(
        host=HOST, port=port("MY_PORT"), user="shop", db="shop", autocommit=True
    )


async def redis(client):
    await client.set("user:42:name", "secret")  # call: redis set
    assert await client.get("user:42:name") == b"secret"  # call: redis get
    with fails():
        await client.lpush("user:42:name", "secret")  # call: redis error
    pipeline = client.pipeline(transaction=False)
    for number in range(3):
        pipeline.get(f"user:{number}:name")
    await pipeline.execute()  # call: redis pipeline
    await client.publish("news:7", "secret")  # call: redis publish


async def redis_connect(hiredis=True):
    asynchronous = importlib.import_module("redis.asyncio")
    parsers = importlib.import_module("redis._parsers")
    parser = parsers._AsyncHiredisParser if hiredis else parsers._AsyncRESP2Parser
    # With a timeout it sends in a task of its own (`asyncio.wait_for` before Python 3.12), which nobody's line is in.
    pool = asynchronous.ConnectionPool(
        host=HOST, port=port("REDIS_PORT"), protocol=2, parser_class=parser, max_connections=1, socket_timeout=None
    )
    client = asynchronous.Redis(connection_pool=pool)
    await client.ping()
    return client


async def pubsub(channel):
    """The subscriber gets what it publishes: an answer that nobody asked for at that moment."""
    client, subscriber = channel
    await subscriber.subscribe("news:7")  # call: pubsub subscribe
    await client.publish("news:7", "secret")  # call: pubsub publish
    while (message := await subscriber.get_message(timeout=5)) and message["type"] != "message":
        pass
    assert message and message["data"] == b"secret"
    await subscriber.unsubscribe("news:7")  # call: pubsub unsubscribe


async def pubsub_connect():
    client, listener = await redis_connect(), await redis_connect()
    return client, listener.pubsub()


async def http2(client):
    await client.get("/download/70000?secret=1")  # call: http2 get
    await client.post("/echo", content=b"secret")  # call: http2 post
    await client.get("/status/503")  # call: http2 error


async def http2_gathered(client):
    """Streams of one connection, all at once."""
    await asyncio.gather(*[client.get(f"/download/{number}") for number in range(1, 11)])  # call: http2 gather


async def http2_connect(tls=False):
    httpx = importlib.import_module("httpx")
    importlib.import_module("h2")
    client = httpx.AsyncClient(**http2_options(httpx, tls))
    await client.get("/")
    return client


async def http2_shared(client, number):
    """One client for many requests at a time: each asks for what has its own number."""
    await client.get(f"/download/{number}")  # call: http2 shared
    await client.post(f"/echo?number={number}", content=b"x" * number)  # call: http2 shared post


PATHS = {
    "asyncpg": (asyncpg_connect, asyncpg),
    # Its TLS is that of Python's `ssl` over memory.
    "asyncpg-tls": (lambda: asyncpg_connect(True), asyncpg),
    "psycopg": (psycopg_connect, psycopg),
    "psycopg-tls": (lambda: psycopg_connect("require"), psycopg),
    "aiomysql": (aiomysql_connect, aiomysql),
    "asyncmy": (asyncmy_connect, asyncmy),
    "redis": (redis_connect, redis),
    "redis-python": (lambda: redis_connect(False), redis),
    "pubsub": (pubsub_connect, pubsub),
    "http2": (http2_connect, http2),
    "http2-tls": (lambda: http2_connect(True), http2),
    "http2-gathered": (http2_connect, http2_gathered),
    "asyncpg-whole": (asyncpg_connect, async_conversations.asyncpg),
    "asyncpg-whole-tls": (lambda: asyncpg_connect(True), async_conversations.asyncpg),
    "psycopg-whole": (psycopg_connect, async_conversations.psycopg),
    "psycopg-whole-tls": (lambda: psycopg_connect("require"), async_conversations.psycopg),
} | async_conversations.PATHS
# By a number behind their name, all on the client that is opened under it.
SHARED = {"http2-shared": http2_shared, "http2-shared-tls": http2_shared}
OPEN = {}


async def connect_all():
    shared = {name: lambda tls=name.endswith("-tls"): http2_connect(tls) for name in SHARED}
    for name, connect in ({name: connect for name, (connect, _) in PATHS.items()} | shared).items():
        try:
            OPEN[name] = await connect()
        except (ImportError, KeyError) as missing:
            print(f"without {name}: {missing!r}", flush=True)


async def lifespan(receive, send):
    while True:
        kind = (await receive())["type"]
        if kind == "lifespan.startup":
            await connect_all()
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    path = scope["path"].strip("/")
    fresh, name = path.startswith("fresh/"), path.removeprefix("fresh/")
    name, _, number = name.partition("/")
    if name not in OPEN:
        await send({"type": "http.response.start", "status": 501, "headers": [(b"content-length", b"0")]})
        return await send({"type": "http.response.body"})
    if name in SHARED:
        await SHARED[name](OPEN[name], int(number))
    else:
        connect, run = PATHS[name]
        await run(await connect() if fresh else OPEN[name])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    await send({"type": "http.response.body", "body": b"ok\n"})
