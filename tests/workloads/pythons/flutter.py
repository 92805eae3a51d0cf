"""Alternates two leaf functions, each of which is reachable from one caller only. Prints "ready"."""


def leaf_one():
    total = 0
    for number in range(8):
        total += number


def leaf_two():
    total = 0
    for number in range(8):
        total -= number


def only_one():
    leaf_one()


def only_two():
    leaf_two()


def flutter():
    while True:
        only_one()
        only_two()


print("ready", flush=True)
flutter()
