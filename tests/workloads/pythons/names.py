"""Functions of all kinds, each of which computes for a moment in turn.

usage: names.py FOLDER. FOLDER/truth.json has each one's stack, innermost first, as [[function, file]...], by the
interpreter's own qualified name (from 3.11) or name. Prints "ready" after that.
"""
import importlib
import json
import os
import sys
import zipfile

FOLDER = sys.argv[1]
truth = []
telling = True

SPIN = """
def spin(sign, tell):
    tell()
    total = 0
    for number in range(3000):
        total += number * sign
    return total
"""


def tell():
    """The stack of the caller, as the interpreter has it."""
    if not telling:
        return
    stack, frame = [], sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        stack.append([getattr(code, "co_qualname", code.co_name), code.co_filename])
        frame = frame.f_back
    truth.append(stack)


def named(name, file):
    """A function of this name, from a file of this name, imported or generated."""
    scope = {}
    exec(compile(SPIN.replace("spin", name), file, "exec"), scope)
    return scope[next(key for key in scope if key != "__builtins__")]


def module(file, body):
    with open(os.path.join(FOLDER, file + ".py"), "w", encoding="utf-8") as out:
        out.write(body)
    sys.path.insert(0, FOLDER)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(file)
    finally:
        sys.path.pop(0)


class Outer:
    class Inner:
        def method(self):
            tell()
            for number in range(3000):
                number * number

        @classmethod
        def of_class(cls):
            tell()
            for number in range(3000):
                number * number

        @property
        def value(self):
            tell()
            for number in range(3000):
                number * number


def closure():
    def inside():
        tell()
        for number in range(3000):
            number * number
    return inside


def generator():
    for number in range(3):
        tell()
        for other in range(1500):
            other * number
        yield number


async def coroutine():
    tell()
    for number in range(3000):
        number * number


def run(awaitable):
    try:
        awaitable.send(None)
    except StopIteration:
        pass


def recursive(depth):
    if depth:
        return recursive(depth - 1)
    tell()
    for number in range(3000):
        number * number


def busy(number):
    tell()
    return sum(other * number for other in ())


with zipfile.ZipFile(os.path.join(FOLDER, "packed.zip"), "w") as archive:
    archive.writestr("zipped_module.py", SPIN)
sys.path.insert(0, os.path.join(FOLDER, "packed.zip"))
import zipped_module

NAMES = ["plain", "caf\xe9", "\u0444\u0443\u043d\u043a\u0446\u0438\u044f", "\U00020000\U00020001"]
# The module is imported by its file's name: latin-1, two bytes a character, four bytes a character.
functions = [module("m_" + name, SPIN).spin for name in NAMES]
functions += [named(name, "/generated/" + other + ".py") for name in NAMES for other in NAMES]
functions += [named("of_string", "<string>"), zipped_module.spin]
# Compiled once: what is freed as soon as it has run cannot be named in time.
EVALUATED = compile("[tell(), [number * number for number in range(3000)]]", "<evaluated>", "eval")
plain = [
    Outer.Inner().method,
    Outer.Inner.of_class,
    lambda: Outer.Inner().value,
    closure(),
    lambda: list(generator()),
    lambda: run(coroutine()),
    lambda: recursive(40),
    lambda: (lambda: (tell(), [number * number for number in range(3000)]))(),
    lambda: [busy(number) for number in range(20)],
    lambda: {busy(number) for number in range(20)},
    lambda: {number: busy(number) for number in range(20)},
    lambda: list(busy(number) for number in range(20)),
    lambda: sorted([3, 1, 2], key=lambda number: (tell(), [other for other in range(3000)])[0] or number),
    lambda: eval(EVALUATED),
]


def round():
    for function in functions:
        function(1, tell)
    for function in plain:
        function()


def main():
    global telling
    round()
    telling = False
    with open(FOLDER + "/truth.json", "w", encoding="utf-8") as file:
        json.dump(truth, file)
    print("ready", flush=True)
    while True:
        round()


main()
