"""Threads that compute in C without the GIL, and the main thread that waits for them. Prints "hash TID" and
"compress TID", then "ready".
"""
import hashlib
import sys
import threading
import zlib

DATA = bytes(range(256)) * 8192


def tell(name):
    # One write: the parts of a `print` of two threads may come mixed.
    sys.stdout.write(f"{name} {threading.get_native_id()}\n")
    sys.stdout.flush()


def hash_without_the_gil():
    while True:
        hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 20_000)
        hashlib.sha256(DATA).digest()


def compress_without_the_gil():
    while True:
        zlib.compress(DATA, 9)


def hash_thread():
    tell("hash")
    started.wait()
    hash_without_the_gil()


def compress_thread():
    tell("compress")
    started.wait()
    compress_without_the_gil()


started = threading.Barrier(3)
threads = [threading.Thread(target=target, daemon=True) for target in (hash_thread, compress_thread)]
for thread in threads:
    thread.start()
started.wait()
print("ready", flush=True)
threads[0].join()
