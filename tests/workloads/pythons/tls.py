"""An HTTPS server of the standard library and its own client, in one process, which needs nothing but Python.

The folder that is given has `cert.pem` and `key.pem`. Says `ready` when the server listens; asks once the folder has a
file `go`: 20 requests, /a/0 to /a/19, two of them answered with 404, each on a connection of its own, then 20 more on one
connection, and makes the file `done`. A thread serves each connection.
"""

import http.client
import http.server
import os
import ssl
import sys
import threading
import time

folder = sys.argv[1]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = b"hello " + self.path.encode()
        self.send_response(404 if self.path in ("/a/3", "/a/7") else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem"))
server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
trust = ssl.create_default_context(cafile=os.path.join(folder, "cert.pem"))


def connect():
    return http.client.HTTPSConnection("127.0.0.1", server.server_address[1], context=trust)


def ask(connection, number):
    connection.request("GET", "/a/%d" % number)
    response = connection.getresponse()
    response.read()


print("ready", flush=True)
while not os.path.exists(os.path.join(folder, "go")):
    time.sleep(0.01)
for number in range(20):
    connection = connect()
    ask(connection, number)
    connection.close()
connection = connect()
for number in range(20):
    ask(connection, number)
open(os.path.join(folder, "done"), "w").close()
while True:
    time.sleep(1)
