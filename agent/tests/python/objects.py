"""Objects of every kind that is read from outside, and where they are; then waits for a line on stdin.

usage: objects.py OUTPUT. Prints "ready" when OUTPUT (JSON) is written.
"""
import collections
import json
import sys
import threading


class Plain:
    def __init__(self):
        self.first = 1
        self.second = "two"


class Slotted:
    __slots__ = ("first",)

    def __init__(self):
        self.first = 1


class Raised(Exception):
    def __init__(self):
        self.first = 1


class Text(str):
    pass


class Mine(dict):
    pass


def shuffled():
    """Attributes in another order than the class's other instances, one deleted, one that no other has."""
    plain = Plain()
    del plain.first
    plain.first = 1
    plain.alone = None
    return plain


def through_its_dict():
    plain = Plain()
    plain.__dict__["third"] = 3
    return plain


large = {f"key {number}": number for number in range(1000)}
holed = dict(large)
for number in range(0, 1000, 2):
    del holed[f"key {number}"]
Point = collections.namedtuple("Point", "x y")

REPRS = [
    None, True, False, 0, 1, -1, 255, 256, -5, 2**30 - 1, 2**30, -2**30, 2**60, -(2**90) + 1, 2**119, 0.0, -0.0,
    1.5, -2.25e-7, 1e16, 1e22, 123456789.125, float("inf"), float("nan"), "", "hello", "größe", "\u20ac", "\U0001f40d",
    "it's", "tab\tand\nline", "x" * 80, "back\\slash",
]
SIZED = [([], "<list of 0>"), ([1, 2, 3], "<list of 3>"), ((), "<tuple of 0>"), ((1, 2), "<tuple of 2>"),
         ({}, "<dict of 0>"), ({"a": 1}, "<dict of 1>"), (large, "<dict of 1000>"), (holed, "<dict of 500>"),
         (b"abc", "<bytes of 3>"), (set(), "<set of 0>"), ({1, 2}, "<set of 2>"),
         (frozenset("ab"), "<frozenset of 2>"), (Point(1, 2), "<Point of 2>"), (Mine(a=1), "<Mine of 1>"),
         (collections.OrderedDict(a=1), "<OrderedDict of 1>"), ("y" * 81, "'" + "y" * 80 + "\u2026'"),
         (2**4000, "<int of up to 4020 bits>")]
CLASSED = [Plain(), Text("a"), Plain, object(), sys, len, threading.Lock(), 1j, bytearray(b"a")]

plain, shuffle, materialised, slotted, raised = Plain(), shuffled(), through_its_dict(), Slotted(), Raised()
looked_at = Plain()
vars(looked_at)
DICTS = [{}, {"a": 1, 2: "b"}, large, holed, vars(threading), vars(plain.__class__()), Mine(a=1)]

TUPLES = [(), (1,), (1, "a", None)]
LISTS = [[], [1], list(large)]


def name_of(value):
    return f"<{type(value).__name__} object at {id(value):#x}>"


def written(value):
    # Python has two kinds of quotes to choose from.
    return "'it\\'s'" if value == "it's" else repr(value)


found = {
    "reprs": [[id(value), written(value)] for value in REPRS]
             + [[id(value), text] for value, text in SIZED]
             + [[id(value), name_of(value)] for value in CLASSED],
    "dicts": [[id(value), [[id(key), id(item)] for key, item in value.items()]] for value in DICTS],
    "attributes": [
        [id(value), [[name, id(item)] for name, item in expected.items()]]
        for value, expected in [
            (plain, {"first": 1, "second": plain.second}),
            (shuffle, {"first": 1, "second": shuffle.second, "alone": None}),
            (materialised, {"first": 1, "second": materialised.second, "third": 3}),
            (looked_at, {"first": 1, "second": looked_at.second}),
            (slotted, {}),
            (raised, {"first": 1}),
            (threading.main_thread(), {"_name": threading.main_thread()._name}),
        ]
    ],
    "tuples": [[id(value), [id(item) for item in value]] for value in TUPLES],
    "lists": [[id(value), [id(item) for item in value]] for value in LISTS],
    "modules": [["sys", id(vars(sys))], ["threading", id(vars(threading))], ["no_such_module", 0]],
    "ident": threading.get_ident(),
}


class Hidden:
    pass


# One of them is old by now, the other young; nothing leads to them but the other.
first, second = Hidden(), Hidden()
first.other, second.other = second, first
found["tracked"] = [id(Hidden), sorted([id(first), id(second)])]
FOREVER = threading.Lock()
FOREVER.acquire()
for name in ["worker one", "größer"]:
    threading.Thread(target=FOREVER.acquire, name=name, daemon=True).start()
found["threads"] = [[thread.ident, thread.name] for thread in threading.enumerate()]
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump(found, file)
print("ready", flush=True)
sys.stdin.readline()
