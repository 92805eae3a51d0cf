"""A client of HTTPS servers: tls_load.py PORT CA CLIENTS REQUESTS CLOSE PATH...

Each of CLIENTS threads sends REQUESTS requests, the paths in turn; with CLOSE 1 each on a connection of its own.
Prints one line for each answer: its path and its status. `ready` is said once every thread has a connection, and with
CLOSE `wait` the requests are sent when stdin has a line. With CLOSE `numbered` each thread asks for PATH/NUMBER on and on, a
number that is its own and so many milliseconds apart as REQUESTS says, until stdin has a line; its answers are then told
with two times more, of the wall clock in nanoseconds: when it asked, and when it had the answer.
"""

import http.client
import ssl
import sys
import threading
import time

port, ca, clients, count, close = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
paths = sys.argv[6:]
context = ssl.create_default_context(cafile=ca)
answers = []
go = threading.Event()
connected = threading.Barrier(clients + 1)


def connect():
    connection = http.client.HTTPSConnection("localhost", port, context=context)
    connection.connect()
    return connection


def client(number):
    connection = connect()
    if close in ("wait", "numbered"):
        # The session has spoken before: what follows is in its middle.
        ask(connection, paths[0])
    connected.wait()
    if close == "numbered":
        ask_numbered(connection, number)
        return
    go.wait()
    for turn in range(count):
        if connection is None:
            connection = connect()
        path = paths[(turn * clients + number) % len(paths)]
        answers.append((path, ask(connection, path)))
        if close == "1":
            connection.close()
            connection = None


def ask_numbered(connection, own):
    turn = 0
    while not go.wait(count / 1000):
        path = "%s/%d" % (paths[turn % len(paths)], own * 1_000_000 + turn)
        began = time.time_ns()
        status = ask(connection, path)
        answers.append((path, status, began, time.time_ns()))
        turn += 1


def ask(connection, path):
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    return response.status


threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
for thread in threads:
    thread.start()
connected.wait()
print("ready", flush=True)
if close in ("wait", "numbered"):
    sys.stdin.readline()
go.set()
for thread in threads:
    thread.join()
for answer in answers:
    print(*answer)
assert close == "numbered" or len(answers) == clients * count
print("done", flush=True)
