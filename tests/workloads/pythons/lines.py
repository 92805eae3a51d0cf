"""Works in the standard library, and writes the lines of every code object that it can come by.

usage: lines.py FOLDER. FOLDER/truth.json has them: [address, function, file, first line, [[start, end, line or
null]...]] each, in byte offsets, by the interpreter's own `co_lines()` (from 3.10) or `dis.findlinestarts`. Prints "ready" after that, and
works on.
"""
import ast
import collections
import configparser
import csv
import dataclasses
import difflib
import dis
import email
import gc
import html.parser
import inspect
import io
import json
import logging
import os
import pprint
import random
import re
import statistics
import string
import sys
import textwrap
import tokenize
import traceback
import types
import typing
import urllib.parse
import uuid
import _pydecimal
import xml.etree.ElementTree

FOLDER = sys.argv[1]
SOURCE = inspect.getsource(textwrap) + inspect.getsource(pprint)
LINES = SOURCE.splitlines(True)
FUNCTION = inspect.getsource(textwrap.dedent)
LETTER = "From: a@example.org\nTo: b@example.org\nSubject: =?utf-8?q?hello?=\nMIME-Version: 1.0\n" \
         "Content-Type: multipart/mixed; boundary=xx\n\n--xx\n\nfirst\n--xx\nContent-Type: text/html\n\n<p>2</p>\n--xx--\n"


@dataclasses.dataclass(order=True)
class Point:
    x: int
    y: float = 0.0
    rest: typing.List[int] = dataclasses.field(default_factory=list)


class Page(html.parser.HTMLParser):
    def handle_starttag(self, tag, attrs):
        self.last = tag


def numbers():
    context = _pydecimal.getcontext()
    context.prec = 30
    value = _pydecimal.Decimal(2)
    for _ in range(4):
        value = (value.sqrt() + 1).ln() + 2
    statistics.stdev([float(value), 3.5, 4.25])
    statistics.mean([1, 2, 3])
    random.Random(4).sample(range(100), 20)


def texts():
    textwrap.fill(SOURCE[:1500], 60)
    re.purge()
    re.compile(r"(?P<a>[a-z]+)(?:x|y){2,3}?(?=\d)\s*(?<!q)(?i:abc|[^0-9])").search("abc")
    difflib.SequenceMatcher(None, SOURCE[:300], SOURCE[100:400]).ratio()
    list(difflib.unified_diff(LINES[:40], LINES[10:50]))
    string.Template("$a ${b}").substitute(a=1, b=2)
    urllib.parse.parse_qs(urllib.parse.urlencode({"a": "b c", "d": ["e", "f"]}, doseq=True))


def languages():
    tree = ast.parse(FUNCTION)
    for node in ast.walk(tree):
        ast.dump(node)
    list(tokenize.generate_tokens(io.StringIO(FUNCTION).readline))
    page = Page()
    page.feed("<html><body class='x'><p>hi &amp; there</p><!-- no --></body></html>")
    letter = email.message_from_string(LETTER)
    letter.as_string()
    xml.etree.ElementTree.tostring(xml.etree.ElementTree.fromstring("<a><b c='d'>e</b></a>"))


def structures():
    json.dumps({"a": [1, 2.5, {"b": None}], "c": "\u20ac"}, indent=2)
    json.loads('{"a": [1, 2.5, {"b": null}], "c": "x"}')
    pprint.pformat({"a": list(range(30)), "b": {"c": ("d", "e" * 50)}}, width=40)
    sorted([Point(3), Point(1, 2.0), Point(2)])
    repr(Point(1)), Point(1) == Point(2), dataclasses.asdict(Point(4))
    parser = configparser.ConfigParser()
    parser.read_string("[a]\nb = c\nd = %(b)s\n")
    parser.get("a", "d")
    list(csv.DictReader(io.StringIO("a,b\n1,2\n")))
    collections.Counter("abracadabra").most_common(2)
    collections.namedtuple("Pair", "left right")(1, 2)._replace(left=3)
    uuid.UUID(int=5)
    os.path.relpath("/a/b/c", "/a/d")


def errors():
    try:
        with io.StringIO("x") as file:
            int(file.read())
    except ValueError:
        traceback.format_exc()
    inspect.signature(Point)
    logging.getLogger("x").isEnabledFor(10)
    for found in (number for number in [1, 2, 3] if number > 1):
        [found + other for other in {other for other in range(3)}]


def round():
    numbers()
    texts()
    languages()
    structures()
    errors()


def lines(code):
    size = len(code.co_code)
    if hasattr(code, "co_lines"):
        return [[start, end, line] for start, end, line in code.co_lines() if start < end]
    starts = list(dis.findlinestarts(code)) + [(size, None)]
    spans = [[a[0], b[0], a[1]] for a, b in zip(starts, starts[1:])]
    if spans and spans[0][0] > 0:
        spans.insert(0, [0, spans[0][0], code.co_firstlineno])
    return spans or [[0, size, code.co_firstlineno]]


kept = {}


def keep(code):
    if id(code) not in kept:
        kept[id(code)] = code
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                keep(constant)


round()
round()
for thing in gc.get_objects():
    if isinstance(thing, types.FunctionType):
        keep(thing.__code__)
keep(sys._getframe().f_code)
with open(FOLDER + "/truth.json", "w", encoding="utf-8") as file:
    json.dump([[address, getattr(code, "co_qualname", code.co_name), code.co_filename, code.co_firstlineno, lines(code)]
               for address, code in kept.items()], file)
print("ready", flush=True)
while True:
    round()
