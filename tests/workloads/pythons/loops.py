"""Serves many requests on one thread, under the server that `config.json` in the scratch folder names. A request of
`/PATTERN/NUMBER` asks an echo server three times for `/echo/NUMBER/...`, over connections that all requests share, in
the way that the pattern is called. Every payload so says whose it is. With the ports of `postgresql` and `redis`, the
first of the three is a statement whose column is named `request_NUMBER`, the second a key `request:LETTERS`, each by a
driver with a pool that all requests share."""

import asyncio
import contextvars
import json
import os
import queue
import socket
import sys

SCRATCH = sys.argv[1]
with open(os.path.join(SCRATCH, "config.json")) as file:
    CONFIG = json.load(file)
sys.path.insert(0, os.path.join(SCRATCH, "site"))
ECHO = ("127.0.0.1", CONFIG["echo"])
NUMBER = contextvars.ContextVar("NUMBER")
free = []
free_sockets = queue.SimpleQueue()
background = set()


class Stores:
    """What takes the place of two of the three calls, and of the echo server's client."""

    async def start(self):
        import aiohttp
        import asyncpg
        import redis.asyncio

        address = {"host": "127.0.0.1", "port": CONFIG["postgresql"]}
        self.postgresql = await asyncpg.create_pool(user="app", database="postgres", min_size=25, max_size=25, **address)
        connections = redis.asyncio.BlockingConnectionPool(
            host="127.0.0.1", port=CONFIG["redis"], max_connections=25, socket_timeout=None, timeout=60
        )
        self.redis = redis.asyncio.Redis(connection_pool=connections)
        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=25))

    async def ask(self, number, what):
        if what == "a":
            assert await self.postgresql.execute("SELECT 1 AS request_%d" % number) == "SELECT 1"
        elif what == "b":
            # Numbers are taken out of keys, words are not.
            letters = "".join("ghijklmnop"[int(digit)] for digit in str(number))
            assert await self.redis.get("request:" + letters) is None
        else:
            async with self.http.get("http://%s:%d/echo/%d/c" % (*ECHO, number)) as answer:
                assert answer.status == 200


stores = Stores() if "postgresql" in CONFIG else None


async def ask(number, what):
    if stores:
        await stores.ask(number, what)
        return
    reader, writer = free.pop() if free else await asyncio.open_connection(*ECHO)
    writer.write(b"GET /echo/%d/%s HTTP/1.1\r\nHost: echo\r\n\r\n" % (number, what.encode()))
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200"), answer
    free.append((reader, writer))


def ask_blocking(number, what):
    try:
        connection = free_sockets.get_nowait()
    except queue.Empty:
        connection = socket.create_connection(ECHO)
    connection.sendall(b"GET /echo/%d/%s HTTP/1.1\r\nHost: echo\r\n\r\n" % (number, what.encode()))
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += connection.recv(4096)
    free_sockets.put(connection)


async def plain(number):
    for what in "abc":
        await ask(number, what)


async def gather(number):
    await asyncio.gather(*(ask(number, what) for what in "abc"))


async def group(number):
    if not hasattr(asyncio, "TaskGroup"):
        await asyncio.wait([asyncio.ensure_future(ask(number, what)) for what in "abc"])
        return
    async with asyncio.TaskGroup() as tasks:
        for what in "abc":
            tasks.create_task(ask(number, what))


async def never_answered(number, reader, writer):
    writer.write(b"GET /never/%d HTTP/1.1\r\nHost: echo\r\n\r\n" % number)
    await reader.readuntil(b"\r\n\r\n")


async def wait_for(number):
    """Two waits are cancelled: of a timer, and of a call that is under way."""
    await asyncio.wait_for(ask(number, "a"), 30)
    try:
        await asyncio.wait_for(asyncio.sleep(30), 0.002)
    except asyncio.TimeoutError:
        pass
    reader, writer = await asyncio.open_connection(*ECHO)
    try:
        await asyncio.wait_for(never_answered(number, reader, writer), 0.05)
    except asyncio.TimeoutError:
        writer.close()
        await ask(number, "b")
    await asyncio.wait_for(ask(number, "c"), 30)


async def spawned(number):
    async def later():
        await asyncio.sleep(0.02)
        await ask(number, "b")
        await asyncio.sleep(0.005)
        await ask(number, "c")

    task = asyncio.ensure_future(later())
    background.add(task)
    task.add_done_callback(background.discard)
    await ask(number, "a")


async def executor(number):
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(None, ask_blocking, number, what) for what in "abc"))


async def to_thread(number):
    await asyncio.gather(*(asyncio.to_thread(ask_blocking, number, what) for what in "abc"))


def blocking_handler(number):
    for what in "abc":
        ask_blocking(number, what)


async def blocking(number):
    try:
        from anyio.to_thread import run_sync
    except ImportError:
        run_sync = asyncio.to_thread
    await run_sync(blocking_handler, number)


async def before_answer(number):
    await ask(number, "a")


async def after_answer(number):
    await ask(number, "b")
    await ask(number, "c")


PATTERNS = {
    "plain": plain,
    "gather": gather,
    "group": group,
    "wait_for": wait_for,
    "spawned": spawned,
    "after": before_answer,
    "executor": executor,
    "to_thread": to_thread,
    "blocking": blocking,
}


def parsed(path):
    _, pattern, number = path.split("/")
    return pattern, int(number)


async def application(scope, receive, send):
    """For servers that speak ASGI."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if stores and message["type"] == "lifespan.startup":
                await stores.start()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    if scope["path"] == "/events":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for _ in range(5):
            await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
            await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b""})
        return
    pattern, number = parsed(scope["path"])
    if CONFIG.get("variable"):
        NUMBER.set(number)
    await PATTERNS[pattern](number)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
    if pattern == "after":
        await after_answer(number)


async def converse(reader, writer):
    """For `asyncio.start_server`: one task a connection."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            pattern, number = parsed(head.split(b" ")[1].decode())
            await PATTERNS[pattern](number)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            if pattern == "after":
                await after_answer(number)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def streams():
    if CONFIG.get("eager"):
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    server = await asyncio.start_server(converse, "127.0.0.1", CONFIG["port"], backlog=1024)
    print("ready", flush=True)
    await server.serve_forever()


async def aiohttp_server():
    from aiohttp import web

    async def handle(request):
        pattern, number = parsed(request.path)
        await PATTERNS[pattern](number)
        if pattern == "after":
            response = web.Response(text="ok")
            await response.prepare(request)
            await response.write_eof()
            await after_answer(number)
            return response
        return web.Response(text="ok")

    server = web.Application()
    server.router.add_get("/{pattern}/{number}", handle)
    runner = web.AppRunner(server, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", CONFIG["port"], backlog=1024).start()
    print("ready", flush=True)
    await asyncio.sleep(3600)


def joined(number):
    import gevent

    gevent.joinall([gevent.spawn(ask_blocking, number, what) for what in "abc"])


def pooled(number):
    from gevent.pool import Pool

    Pool(2).map(lambda what: ask_blocking(number, what), "abc")


def nested(number):
    import gevent

    def child(what):
        gevent.spawn(ask_blocking, number, what).join()

    gevent.joinall([gevent.spawn(child, what) for what in "abc"])


unjoined = []


def left(number):
    """The next requests of the connection come while this goes on."""
    import gevent

    def later():
        gevent.sleep(0.02)
        ask_blocking(number, "b")
        gevent.spawn(ask_blocking, number, "c").join()

    unjoined.append(gevent.spawn(later))
    ask_blocking(number, "a")


def settled(number):
    """Answered when what has been left has ended."""
    import gevent

    gevent.joinall(unjoined)


def thread(number):
    import threading

    threads = [threading.Thread(target=ask_blocking, args=(number, what)) for what in "abc"]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


executors = []


def shared(number):
    """A pool of threads for all requests, whose threads are greenlets."""
    from concurrent.futures import ThreadPoolExecutor

    if not executors:
        executors.append(ThreadPoolExecutor(4))
    list(executors[0].map(lambda what: ask_blocking(number, what), "abc"))


def ask_natively(number, what):
    """With a socket that gevent knows nothing of."""
    import _socket

    connection = _socket.socket()
    connection.connect(ECHO)
    connection.sendall(b"GET /echo/%d/%s HTTP/1.1\r\nHost: echo\r\n\r\n" % (number, what.encode()))
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += connection.recv(4096)
    connection.close()


def native(number):
    import gevent

    for what in "abc":
        gevent.get_hub().threadpool.apply(ask_natively, (number, what))


WITH_GREENLETS = {
    "own": blocking_handler,
    "joined": joined,
    "pooled": pooled,
    "nested": nested,
    "left": left,
    "settled": settled,
    "thread": thread,
    "shared": shared,
    "native": native,
}


def handle(environ, start_response):
    """For servers that speak WSGI, on greenlets."""
    pattern, number = parsed(environ["PATH_INFO"])
    WITH_GREENLETS[pattern](number)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def gunicorn_server():
    from gunicorn.app.base import BaseApplication

    asynchronous = CONFIG["worker"] != "gevent"

    class Embedded(BaseApplication):
        def load_config(self):
            self.cfg.set("bind", "127.0.0.1:%d" % CONFIG["port"])
            self.cfg.set("worker_class", CONFIG["worker"])
            self.cfg.set("workers", 1)
            self.cfg.set("worker_connections", 1000)
            self.cfg.set("keepalive", 30)
            self.cfg.set("control_socket_disable", True)
            self.cfg.set("post_worker_init", lambda worker: print("ready", flush=True))

        def load(self):
            if CONFIG.get("factory"):
                from gunicorn.util import import_app

                # As `gunicorn 'factories:flask()'` does.
                return import_app("factories:flask()")
            return application if asynchronous else handle

    # It has an option of that name for itself.
    del sys.argv[1:]
    Embedded().run()


def gevent_server():
    from gevent import monkey

    monkey.patch_all()
    from gevent.pywsgi import WSGIServer

    if CONFIG.get("hidden"):
        import greenlet._greenlet

        # Those that need the library's table of functions have it by now.
        del greenlet._greenlet._C_API

    server = WSGIServer(("127.0.0.1", CONFIG["port"]), handle, log=None, backlog=1024)
    server.start()
    print("ready", flush=True)
    server.serve_forever()


def main():
    server = CONFIG["server"]
    if CONFIG.get("imports"):
        __import__(CONFIG["imports"])
    if server == "gevent":
        gevent_server()
        return
    if server == "gunicorn":
        gunicorn_server()
        return
    if CONFIG.get("loop") == "uvloop" and server in ("streams", "aiohttp"):
        import uvloop

        uvloop.install()
    if server == "streams":
        asyncio.run(streams())
    elif server == "aiohttp":
        asyncio.run(aiohttp_server())
    elif server == "uvicorn":
        import uvicorn

        class Server(uvicorn.Server):
            async def startup(self, *arguments, **named):
                await super().startup(*arguments, **named)
                print("ready", flush=True)

        wrapped = application
        if CONFIG.get("middleware"):
            from starlette.middleware.base import BaseHTTPMiddleware

            async def dispatch(request, call_next):
                # With a variable of its own, and without.
                if parsed(request.url.path)[1] % 2:
                    NUMBER.set(request.url.path)
                return await call_next(request)

            wrapped = BaseHTTPMiddleware(application, dispatch)
        config = uvicorn.Config(
            "factories:starlette" if CONFIG.get("factory") else wrapped,
            factory=bool(CONFIG.get("factory")),
            host="127.0.0.1",
            port=CONFIG["port"],
            loop=CONFIG.get("loop", "asyncio"),
            http=CONFIG.get("http", "h11"),
            ws="wsproto" if CONFIG.get("websocket") else "none",
            log_level="warning",
            access_log=False,
            backlog=1024,
            **CONFIG.get("options", {}),
        )
        Server(config).run()
    elif server == "hypercorn":
        from hypercorn.asyncio import serve
        from hypercorn.config import Config

        config = Config()
        config.bind = ["127.0.0.1:%d" % CONFIG["port"]]
        config.accesslog = None

        async def run():
            task = asyncio.ensure_future(serve(application, config))
            while True:
                try:
                    socket.create_connection(("127.0.0.1", CONFIG["port"])).close()
                    break
                except OSError:
                    await asyncio.sleep(0.02)
            print("ready", flush=True)
            await task

        asyncio.run(run())


if __name__ == "__main__":
    main()
