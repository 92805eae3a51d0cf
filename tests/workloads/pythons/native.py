"""Goes back and forth between Python and C, and stays in C. The C module `native` lies in the folder that is given.
Prints "ready", then stays.
"""
import sys

sys.path.insert(0, sys.argv[1])
import native  # noqa: E402


class Callback:
    def __call__(self):
        return innermost()


def innermost():
    print("ready", flush=True)
    native.spin()


def generator():
    yield 1
    yield native.call(Callback())


def key(number):
    return [each for each in generator()]


def outermost():
    sorted([1], key=key)


outermost()
