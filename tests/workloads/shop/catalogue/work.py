"""Requests that wait and requests that compute, by known amounts."""

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
