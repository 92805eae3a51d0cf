"""Raises exceptions of every kind, and writes down what Python prints of them.

usage: raising.py FOLDER. Prints "ready", waits for FOLDER/go, raises everything once, and writes FOLDER/truth.json:
{"told": {name: text of traceback.format_exc()}, "quiet": number of exceptions that never left their frame}. Prints
"done" then, and stays until it is killed. Each case runs this file's functions compiled anew under a name of its own,
/srv/raising/NAME.py, so that no two cases raise in the same place.
"""
import asyncio
import concurrent.futures
import json
import os
import sys
import time
import traceback

FOLDER = sys.argv[1]


class Outer:
    class Failure(Exception):
        pass


class Printed(Exception):
    def __str__(self):
        return "printed: " + self.args[0]


class Refusing:
    def __init__(self, depth):
        self.depth = depth
        refuse(self)


class Lazy:
    def __getattr__(self, name):
        raise AttributeError(name)


class Endless:
    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration


class Wrapping:
    """As database layers do: the exception of another class, with the traceback of the first."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, tb):
        if error is not None:
            raise Outer.Failure("wrapped").with_traceback(tb) from error


def refuse(self):
    raise TypeError("no " + type(self).__name__)


def divide(number):
    return 1 / number


def deep(depth):
    return divide(depth) if depth == 0 else deeper(depth)


def deeper(depth):
    return deep(depth - 1)


def lookup(key):
    return {}[key]


def fail(*arguments):
    raise Outer.Failure(*arguments)


def printed():
    raise Printed("x")


def caused():
    try:
        deep(1)
    except ZeroDivisionError as error:
        raise Outer.Failure("from a cause") from error


def in_context():
    try:
        lookup("context")
    except KeyError:
        fail("in a context")


def out_of_context():
    try:
        lookup("suppressed")
    except KeyError:
        raise Outer.Failure("from none") from None


def three():
    try:
        caused()
    except Outer.Failure:
        raise ValueError("third")


def again():
    try:
        deep(1)
    except ZeroDivisionError:
        raise


def again_by_name():
    try:
        deep(1)
    except ZeroDivisionError as error:
        raise error


def at_last():
    try:
        deep(0)
    finally:
        time.sleep(0)


def in_the_same_frame_twice():
    try:
        raise Outer.Failure("twice")
    except Outer.Failure as error:
        raise error


def generate():
    yield 1
    deep(0)


def generated():
    return list(generate())


def comprehended():
    return [divide(number) for number in (1, 0)]


def wrapped():
    with Wrapping():
        lookup("wrapped")


def in_a_pool():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(deep, 1).result()


async def work(depth):
    await asyncio.sleep(0)
    return deep(depth)


async def gathered():
    return await asyncio.gather(asyncio.ensure_future(work(0)))


def in_a_loop():
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(gathered())
    finally:
        loop.close()


CASES = {
    "deep": lambda: deep(3),
    "key": lambda: lookup("it's"),
    "number key": lambda: lookup(-7000000000),
    "no argument": lambda: fail(),
    "none": lambda: fail(None),
    "true": lambda: fail(True),
    "latin": lambda: fail("naïve \xff"),
    "wide": lambda: fail("€ 5"),
    "wider": lambda: fail("\U0001f40d snake"),
    "two": lambda: fail(1064, "near ''"),
    "number": lambda: fail(-1),
    "long": lambda: fail("x" * 1000),
    "missing file": lambda: open("/no/such/file"),
    "printed": printed,
    "caused": caused,
    "in context": in_context,
    "out of context": out_of_context,
    "three": three,
    "again": again,
    "again by name": again_by_name,
    "at last": at_last,
    "same frame twice": in_the_same_frame_twice,
    "generated": generated,
    "comprehended": comprehended,
    "constructor": lambda: Refusing(1),
    "wrapped": wrapped,
    "pool": in_a_pool,
    "loop": in_a_loop,
}


def quiet():
    """Exceptions that are nobody's business: caught where they are raised, or the end of an iteration."""
    for _ in range(1000):
        try:
            {}["x"]
        except KeyError:
            pass
        try:
            next(Endless())
        except StopIteration:
            pass
        getattr(Lazy(), "x", None)
        list(Endless())
    return 4000


def main():
    print("ready", flush=True)
    while not os.path.exists(os.path.join(FOLDER, "go")):
        time.sleep(0.01)
    told = {}
    number = quiet()
    with open(os.path.abspath(__file__)) as file:
        source = file.read()
    alive = []
    for name in CASES:
        # Modules of real programs stay: code that has gone can be named by nobody.
        scope = {"__name__": "raising"}
        alive.append(scope)
        exec(compile(source, "/srv/raising/" + name + ".py", "exec"), scope)
        try:
            scope["CASES"][name]()
        except Exception:
            told[name] = traceback.format_exc()
    with open(os.path.join(FOLDER, "truth.json"), "w") as file:
        json.dump({"told": told, "quiet": number, "scopes": len(alive)}, file)
    print("done", flush=True)
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main()
