"""Requests that wait and requests that compute, by known amounts."""

import os
import socket
import tempfile
import threading
import time

from django.http import JsonResponse


def sleep(request, milliseconds):
    """Waits this long, and says for how long it really did."""
    before = time.perf_counter_ns()
    time.sleep(milliseconds / 1000)
    return JsonResponse({"slept_ns": time.perf_counter_ns() - before})


def cpu(request, milliseconds):
    """Computes this long on the CPU: 60 % in one function, 30 % in another, 10 % in a third."""
    spend_sixty(milliseconds * 0.6)
    spend_thirty(milliseconds * 0.3)
    spend_ten(milliseconds * 0.1)
    return JsonResponse({"spent": milliseconds})


def measured(function):
    """Calls it; how long that took, what of it the thread was on a CPU, and what it waited for a CPU (`schedstat` of
    proc(5))."""
    queued, cpu, wall = queued_ns(), time.thread_time_ns(), time.perf_counter_ns()
    function()
    wall, cpu = time.perf_counter_ns() - wall, time.thread_time_ns() - cpu
    return JsonResponse({"wall_ns": wall, "cpu_ns": cpu, "queued_ns": queued_ns() - queued})


def queued_ns():
    with open("/proc/thread-self/schedstat") as file:
        return int(file.read().split()[1])


def lock(request, milliseconds):
    """Waits for a lock that another thread holds this long."""
    held = threading.Lock()
    held.acquire()
    threading.Timer(milliseconds / 1000, held.release).start()
    return measured(held.acquire)


def rival(request, milliseconds):
    """Computes this long while another thread does, too: each waits for the interpreter's lock half of the time."""
    end = time.perf_counter() + milliseconds / 1000

    def compute():
        while time.perf_counter() < end:
            sum(range(2000))

    def both():
        # The start waits for the lock, too: the new thread has it first.
        threading.Thread(target=compute).start()
        compute()

    return measured(both)


def peer(request, milliseconds):
    """Waits for a server on loopback that takes this long to answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            with listener.accept()[0] as connection:
                time.sleep(milliseconds / 1000)
                connection.sendall(b".")

        server = threading.Thread(target=answer)
        server.start()
        with socket.create_connection(listener.getsockname()) as connection:
            answered = measured(lambda: connection.recv(1))
        server.join()
    return answered


def sync(request, times):
    """Writes a megabyte to the disk so many times."""
    block = os.urandom(1 << 20)
    # Not where temporary files may be kept in memory.
    with tempfile.TemporaryFile(dir=os.getcwd()) as file:

        def write():
            for number in range(times):
                os.pwrite(file.fileno(), block, number << 20)
                os.fsync(file.fileno())

        return measured(write)


# By the thread's CPU clock: a machine under load takes longer, and the shares stay as they are.
# The inner loops are long, so that reading the clock is no part worth mentioning of what is sampled.


def spend_sixty(milliseconds):
    end = time.thread_time() + milliseconds / 1000
    total = 0
    while time.thread_time() < end:
        for number in range(500):
            total += number * number
    return total


def spend_thirty(milliseconds):
    end = time.thread_time() + milliseconds / 1000
    total = 0
    while time.thread_time() < end:
        for number in range(500):
            total += number * number
    return total


def spend_ten(milliseconds):
    end = time.thread_time() + milliseconds / 1000
    total = 0
    while time.thread_time() < end:
        for number in range(500):
            total += number * number
    return total
