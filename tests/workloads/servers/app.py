"""One application for every server, as WSGI (`application`) and as ASGI (`asgi`).

/a/N         200, a few bytes
/missing/N   404
/bytes/N     200, N bytes
/db/N        one statement to MariaDB whose column is named `request_N`, on a connection of this thread
/fault/N     the same for a table that does not exist; 500
/stream/N    200, five chunks, before each of which stands such a statement; no length
/events      200, server-sent events for as long as the client listens
/poll/N      as /db/N, as soon as somebody asks for /release/N
/ws          becomes a WebSocket that sends everything back (ASGI), or a stream of bytes that is sent back (gunicorn)
/out/WAY/N   asks `UPSTREAM` (https) for /a/N by urllib, requests, httpx, pycurl or pyOpenSSL, and answers with its status

Answers carry the worker's pid and the thread's id, X-Worker and X-Thread.
"""

import asyncio
import os
import threading
import time

if "DB_PORT" in os.environ:
    # Before the first request: a driver that appears later is found within a second.
    import MySQLdb

local = threading.local()
released = threading.Event()


def database():
    if not hasattr(local, "database"):
        options = {"host": "127.0.0.1", "port": int(os.environ["DB_PORT"]), "user": "shop", "db": "shop"}
        if "DB_CA" in os.environ:
            options["ssl"] = {"ca": os.environ["DB_CA"]}
        local.database = MySQLdb.connect(**options)
    return local.database


def statement(path):
    _, what, number = path.split("/")
    cursor = database().cursor()
    if what == "db":
        cursor.execute("SELECT %s AS request_" + number, (int(number),))
        return "200 OK", str(cursor.fetchone()[0]).encode()
    try:
        cursor.execute("SELECT * FROM no_such_" + number)
    except Exception as error:
        return "500 Internal Server Error", str(error.args[0]).encode()


def with_urllib(url):
    import ssl
    import urllib.request

    context = ssl.create_default_context(cafile=os.environ["CA"])
    try:
        with urllib.request.urlopen(url, context=context) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def with_requests(url):
    import requests

    return requests.get(url, verify=os.environ["CA"]).status_code


def with_httpx(url):
    import httpx
    import ssl

    context = ssl.create_default_context(cafile=os.environ["CA"])
    with httpx.Client(verify=context) as client:
        return client.get(url).status_code


def with_pycurl(url):
    import pycurl

    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, url)
    curl.setopt(pycurl.CAINFO, os.environ["CA"])
    curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    curl.setopt(pycurl.WRITEFUNCTION, lambda data: len(data))
    curl.perform()
    try:
        return curl.getinfo(pycurl.RESPONSE_CODE)
    finally:
        curl.close()


def with_pyopenssl(url):
    """By the OpenSSL that is inside of `cryptography`'s module."""
    import socket
    from urllib.parse import urlsplit
    from OpenSSL import SSL

    parts = urlsplit(url)
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.load_verify_locations(os.environ["CA"])
    context.set_verify(SSL.VERIFY_PEER)
    with socket.create_connection((parts.hostname, parts.port)) as plain:
        connection = SSL.Connection(context, plain)
        connection.set_tlsext_host_name(parts.hostname.encode())
        connection.set_connect_state()
        connection.do_handshake()
        connection.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
        except SSL.ZeroReturnError:
            connection.shutdown()
    return int(received.split()[1])


def answer(path):
    what = path.split("/")[1]
    if what == "a":
        return "200 OK", b"hello " + path.encode()
    if what == "bytes":
        return "200 OK", b"b" * int(path.split("/")[2])
    if what in ("db", "fault"):
        return statement(path)
    if what == "out":
        _, _, way, number = path.split("/")
        status = globals()["with_" + way](os.environ["UPSTREAM"] + "/a/" + number)
        return "200 OK", str(status).encode()
    return "404 Not Found", b"no such path"


def headers(body):
    return [
        ("Content-Type", "text/plain"),
        ("Content-Length", str(len(body))),
        ("X-Worker", str(os.getpid())),
        ("X-Thread", str(threading.get_native_id())),
    ]


EVENT = b"data: something has happened\n\n"


def chunks(path):
    for number in range(5):
        statement("/db/" + path.split("/")[2])
        yield b"%d" % number * 3000


def events():
    while True:
        yield EVENT
        time.sleep(0.01)


def send_back(connection):
    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: bytes\r\n\r\n")
    while received := connection.recv(4096):
        connection.sendall(received)
    # So gunicorn is told that nothing more is to be said on it.
    raise StopIteration


def application(environ, start_response):
    path = environ["PATH_INFO"]
    what = path.split("/")[1]
    if what in ("stream", "events"):
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return chunks(path) if what == "stream" else events()
    if what == "ws":
        send_back(environ["gunicorn.socket"])
    if what == "poll":
        released.wait(60)
        path = "/db/" + path.split("/")[2]
    elif what == "release":
        released.set()
        path = "/a/" + path.split("/")[2]
    status, body = answer(path)
    start_response(status, headers(body))
    return [body]


async def flow(path, send):
    head = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    if path == "/events":
        while True:
            await send({"type": "http.response.body", "body": EVENT, "more_body": True})
            await asyncio.sleep(0.01)
    for chunk in chunks(path):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})


async def talk(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message.get("bytes") or message["text"].encode()})


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await talk(receive, send)
        return
    path = scope["path"]
    what = path.split("/")[1]
    if what in ("stream", "events"):
        await flow(path, send)
        return
    if what == "poll":
        while not released.is_set():
            await asyncio.sleep(0.005)
    if what == "release":
        released.set()
    if what in ("poll", "release"):
        path = ("/db/" if what == "poll" else "/a/") + path.split("/")[2]
    status, body = answer(path)
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers(body)]
    await send({"type": "http.response.start", "status": int(status.split()[0]), "headers": encoded})
    await send({"type": "http.response.body", "body": body})
