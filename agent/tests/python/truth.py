"""Holds code objects of many kinds and writes what is true of them; then sleeps.

usage: truth.py OUTPUT MAX_NAME MAX_FILE. Prints "ready" when OUTPUT (JSON) is written.
"""
import dis
import importlib
import json
import sys
import sysconfig
import types

OUTPUT, MAX_NAME, MAX_FILE = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

MODULES = """argparse ast asyncio.base_events asyncio.tasks asyncio.locks collections configparser csv
dataclasses difflib email.message enum functools heapq http.client http.server inspect json.decoder json.encoder
logging logging.handlers os pathlib pickle platform pprint queue random re selectors shutil socket socketserver
statistics string subprocess tarfile tempfile textwrap threading tokenize traceback types typing unittest.mock
urllib.parse urllib.request uuid weakref xml.etree.ElementTree zipfile _pydecimal""".split()


def shown(text, most):
    cut = text[:most] + ("\u2026" if len(text) > most else "")
    return "".join("\\u%04x" % ord(c) if 0xD800 <= ord(c) < 0xE000 else c for c in cut)


def lines(code):
    """[[start, end, line or None]...] in byte offsets, covering the whole bytecode."""
    size = len(code.co_code)
    if hasattr(code, "co_lines"):
        return [[start, end, line] for start, end, line in code.co_lines() if start < end]
    starts = list(dis.findlinestarts(code)) + [(size, None)]
    spans = [[a[0], b[0], a[1]] for a, b in zip(starts, starts[1:])]
    if spans and spans[0][0] > 0:
        spans.insert(0, [0, spans[0][0], code.co_firstlineno])
    return spans or [[0, size, code.co_firstlineno]]


seen = {}


def keep(code):
    if id(code) in seen:
        return
    seen[id(code)] = code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            keep(constant)


def walk(owner, module, depth=0):
    for value in list(vars(owner).values()):
        value = getattr(value, "__func__", value)
        if isinstance(value, property):
            value = value.fget
        value = getattr(value, "__wrapped__", value)
        if isinstance(value, types.FunctionType) and value.__module__ == module:
            keep(value.__code__)
        elif isinstance(value, type) and value.__module__ == module and depth < 4:
            walk(value, module, depth + 1)


for name in MODULES:
    module = importlib.import_module(name)
    walk(module, name)
    # The module's own code: classes, decorators, big literals, jumps over hundreds of lines.
    with open(module.__file__, encoding="utf-8") as file:
        keep(compile(file.read(), module.__file__, "exec"))

# Every width of characters, in names and in files.
FILES = ["/tmp/plain.py", "/tmp/gr\xf6\xdfe.py", "/tmp/\u0444\u0430\u0439\u043b.py", "/tmp/\U00020000\U0001f40d.py",
         "/tmp/\udcff\udc80.py", "/tmp/\ud800.py", "", "/" + "f" * (MAX_FILE - 1), "/" + "\u20ac" * (MAX_FILE + 900)]
NAMES = ["plain", "gr\xf6\xdfe", "\u0444\u0443\u043d\u043a\u0446\u0438\u044f", "\U00020000\u540d", "x" * MAX_NAME,
         "\U00020000" * (MAX_NAME + 1), "nul\0nul", "\udc80", "", "\x7f", "\x80", "\xff", "\u0100", "\uffff", "\U0010ffff"]


class Text(str):
    """Not an exact str: its characters lie outside the object."""


def template():
    def function(a, b):
        total = a

        for item in b:
            total += item
        return [total
                for _ in range(3)
                if total]
    return function.__code__


for file in FILES + [Text("/tmp/subclass.py"), Text("/tmp/\u20ac.py")]:
    for name in NAMES + [Text("subclass"), Text("unter\xfcbung"), Text("\u20ac"), Text("\U0001f40d")]:
        if len(file) > 100 and name != "plain" or len(name) > 100 and file != "/tmp/plain.py":
            continue
        changes = {"co_filename": file, "co_name": name}
        if hasattr(template(), "co_qualname"):
            changes["co_qualname"] = Text("Outer.") + name
        keep(template().replace(**changes))

# Lines far apart, backwards, and more than 127 or 255 at once.
FAR = "def f(x):\n    y = (x,\n" + "\n" * 700 + "        1,\n" + "\n" * 300 + "  2)\n    return y + (\n x,\n  " + "+ (".join(
    "x \n" + "\n" * (i * 37 % 300) for i in range(40)) + ")" * 39 + ",)\n"
keep(compile(FAR, "/tmp/far.py", "exec"))
# A function of more than 64 KiB of bytecode.
keep(compile("def g(x):\n" + "".join("    x = x + %d * x\n\n" % i for i in range(5000)), "/tmp/long.py", "exec"))
TRY = "def h(x):\n    try:\n        with open(x) as a, open(a) as b:\n            yield from b\n    except ValueError as e:\n" \
      "        raise KeyError from e\n    finally:\n        del x\n"
keep(compile(TRY, "/tmp/try.py", "exec"))

codes = [{
    "address": address,
    "function": shown(getattr(code, "co_qualname", code.co_name), MAX_NAME),
    "file": shown(code.co_filename, MAX_FILE),
    "firstlineno": code.co_firstlineno,
    "lines": lines(code),
} for address, code in seen.items()]
with open(OUTPUT, "w", encoding="utf-8") as file:
    json.dump({
        "version": "%d.%d.%d" % sys.version_info[:3],
        "hex": sys.hexversion,
        "shared": bool(sysconfig.get_config_var("Py_ENABLE_SHARED")),
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "codes": codes,
    }, file)
print("ready", flush=True)
sys.stdin.read()
