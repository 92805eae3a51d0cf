"""FastAPI with as little around it as can be, on PostgreSQL.

    PG_PORT=... uvicorn lean:application

/statements/N   N statements, one after the other, on a connection of a pool
"""

import contextlib
import os

import asyncpg
from fastapi import FastAPI


async def as_it_is(connection):
    """What a pool asks a connection that comes back would be a statement more."""


@contextlib.asynccontextmanager
async def lifespan(application):
    async with asyncpg.create_pool(
        host="127.0.0.1",
        port=int(os.environ["PG_PORT"]),
        user="app",
        database="postgres",
        min_size=4,
        max_size=4,
        reset=as_it_is,
    ) as application.state.pool:
        yield


application = FastAPI(lifespan=lifespan)


@application.get("/statements/{count}")
async def statements(count: int):
    async with application.state.pool.acquire() as connection:
        names = [await connection.fetchval("SELECT name FROM people WHERE id = $1", 1 + n % 9) for n in range(count)]
    return {"names": len(names)}
