"""As `conversations.py`, for `async_drivers.py`; and HTTP by aiohttp's client."""

import asyncio
import importlib
import ssl

from conversations import PROCEDURE, SELECT
from servers_of_drivers import HOST, fails, port


def unverified():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def drained(cursor):
    counts = []
    while True:
        counts.append(len(await cursor.fetchall()) if cursor.description else None)
        if not await cursor.nextset():
            return counts


async def mysql(connection):
    cursor = connection.cursor()
    cursor = await cursor if hasattr(cursor, "__await__") else cursor
    await connection.begin()  # call: mysql begin
    await cursor.execute("UPDATE people SET name = 'secret' WHERE id IN (1, 2, 3)")  # call: mysql update
    with fails():
        await cursor.execute("INSERT INTO people VALUES (1, 'secret')")  # call: mysql duplicate
    await connection.rollback()  # call: mysql rollback
    several = "SELECT name FROM people WHERE id < 3; DELETE FROM people WHERE id > 100; SELECT 'secret' UNION SELECT 2"
    await cursor.execute(several)  # call: mysql several
    assert await drained(cursor) == [2, None, 2]
    await cursor.callproc("pair", (3, 0))  # call: mysql procedure
    assert await drained(cursor) == [2, 1, None]
    await cursor.execute("SELECT @_pair_1")  # call: mysql out
    assert (await cursor.fetchone())[0] >= 9


async def mysql_connect(module, tls):
    connection = await importlib.import_module(module).connect(
        host=HOST,
        port=port("MY_PORT"),
        user="shop",
        db="shop",
        autocommit=True,
        client_flag=1 << 16,
        ssl=unverified() if tls else None,
    )
    cursor = connection.cursor()
    cursor = await cursor if hasattr(cursor, "__await__") else cursor
    await cursor.execute(PROCEDURE)
    return connection


async def asyncpg(connection):
    await connection.execute("CREATE TEMP TABLE IF NOT EXISTS rows (id INT, name TEXT)")  # call: asyncpg table
    rows = [(number, "secret") for number in range(3)]
    await connection.copy_records_to_table("rows", records=rows)  # call: asyncpg copy in
    kept = []

    async def keep(piece):
        kept.append(piece)

    await connection.copy_from_query("SELECT * FROM rows WHERE id < 2", output=keep)  # call: asyncpg copy out
    assert kept
    heard = asyncio.get_running_loop().create_future()
    # Others notify, too.
    hear = lambda *told: heard.done() or heard.set_result(told[-1])
    await connection.add_listener("news", hear)  # call: asyncpg listen
    await connection.execute("NOTIFY news, 'secret'")  # call: asyncpg notify
    assert await heard == "secret"
    async with connection.transaction():  # call: asyncpg begin
        cursor = await connection.cursor("SELECT name FROM people WHERE id < 8")  # call: asyncpg cursor
        assert len(await cursor.fetch(4)) == 4  # call: asyncpg fetch
        assert len(await cursor.fetch(4)) == 3  # call: asyncpg fetch rest
    with fails():
        await connection.execute("INSERT INTO people VALUES ($1, 'secret')", 1)  # call: asyncpg duplicate
    # From one line, with one wait for each.
    for number in range(7):
        await connection.fetch("SELECT name FROM people WHERE id < $1", number)  # call: asyncpg loop


async def psycopg(connection):
    cursor = connection.cursor()
    await cursor.execute("CREATE TEMP TABLE IF NOT EXISTS rows (id INT, name TEXT)")  # call: psycopg table
    async with cursor.copy("COPY rows FROM STDIN") as copy:  # call: psycopg copy in
        for number in range(3):
            await copy.write_row((number, "secret"))
    async with cursor.copy("COPY (SELECT * FROM rows WHERE id < 2) TO STDOUT") as copy:  # call: psycopg copy out
        assert len([row async for row in copy.rows()]) == 2
    await cursor.execute("LISTEN news")  # call: psycopg listen
    await cursor.execute("NOTIFY news, 'secret'")  # call: psycopg notify
    assert {notice.payload async for notice in connection.notifies(timeout=10, stop_after=1)} == {"secret"}
    async with connection.transaction():  # call: psycopg begin
        async with connection.cursor(name="server") as server:
            await server.execute("SELECT name FROM people WHERE id < 8")  # call: psycopg declare
            assert len(await server.fetchmany(4)) == 4  # call: psycopg fetch
            await server.close()  # call: psycopg close


async def redis(client):
    """Over TLS: what `async_drivers.py` asks in clear."""
    await client.set("user:42:name", "secret")  # call: redis set
    assert await client.get("user:42:name") == b"secret"  # call: redis get
    with fails():
        await client.lpush("user:42:name", "secret")  # call: redis error
    pipeline = client.pipeline(transaction=False)
    for number in range(3):
        pipeline.get(f"user:{number}:name")
    await pipeline.execute()  # call: redis pipeline


async def redis_connect():
    client = importlib.import_module("redis.asyncio").Redis(
        host=HOST,
        port=port("REDIS_TLS_PORT"),
        protocol=2,
        max_connections=1,
        socket_timeout=None,
        ssl=True,
        ssl_cert_reqs="none",
        ssl_check_hostname=False,
    )
    await client.ping()
    return client


async def aiohttp(given):
    session, base = given
    async with session.get(f"{base}/download/5000?secret=1") as answer:  # call: aiohttp get
        assert len(await answer.read()) == 5000
    async with session.post(f"{base}/echo", data=b"secret") as answer:  # call: aiohttp post
        assert await answer.read() == b"6\n"
    async with session.get(f"{base}/status/503") as answer:  # call: aiohttp error
        await answer.read()


async def aiohttp_connect(tls=False):
    module = importlib.import_module("aiohttp")
    base = f"https://localhost:{port('HTTP2_TLS_PORT')}" if tls else f"http://localhost:{port('HTTP_PORT')}"
    connector = module.TCPConnector(ssl=unverified(), keepalive_timeout=600)
    session = module.ClientSession(connector=connector)
    await (await session.get(f"{base}/")).read()
    return session, base


PATHS = {
    "redis-tls": (redis_connect, redis),
    "aiomysql-whole": (lambda: mysql_connect("aiomysql", False), mysql),
    "aiomysql-whole-tls": (lambda: mysql_connect("aiomysql", True), mysql),
    "asyncmy-whole": (lambda: mysql_connect("asyncmy", False), mysql),
    "asyncmy-whole-tls": (lambda: mysql_connect("asyncmy", True), mysql),
    "aiohttp": (aiohttp_connect, aiohttp),
    "aiohttp-tls": (lambda: aiohttp_connect(True), aiohttp),
}
