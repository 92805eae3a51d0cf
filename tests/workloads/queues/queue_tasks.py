"""Tasks of Celery. Each sets one key of its own, whose name says which task it was. BROKER and BACKEND are addresses,
QUEUE is what tasks go by, REDIS_PORT is where the keys go."""

import os
import threading

import redis
from celery import Celery

app = Celery("queue_tasks", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.task_default_queue = os.environ["QUEUE"]
app.conf.broker_connection_retry_on_startup = True
cache = redis.Redis(port=int(os.environ["REDIS_PORT"]), db=3)

both = threading.Barrier(2)


@app.task
def add(number):
    cache.set(f"added:{number}", number)
    return number + 1


@app.task
def fail(number):
    cache.set(f"failed:{number}", number)
    raise ValueError(f"not {number}")


@app.task(bind=True, max_retries=3)
def retry(self, number):
    """Fails at first, and is well the second time."""
    cache.set(f"retried:{number}", number)
    if self.request.retries == 0:
        raise self.retry(exc=ValueError("not yet"), countdown=0)


@app.task
def chain(number):
    cache.set(f"chained:{number}", number)
    add.delay(number)


@app.task
def pair(number):
    """Two of them are done at once, by threads of one process: each waits for the other."""
    both.wait(60)
    cache.set(f"paired:{number}", number)


@app.task
def leave(number):
    cache.set(f"left:{number}", number)
    raise SystemExit(number)


@app.task
def inline(number):
    """Runs another task by itself: that one is a part of this."""
    cache.set(f"inlined:{number}", number)
    add.apply((number,))
