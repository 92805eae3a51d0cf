"""Computes in two functions, one calling the other. Prints "ready". It runs wherever an interpreter can be: in a
container, under another name, from a file that has been deleted, embedded in another program.
"""


def inner():
    total = 0
    for number in range(5000):
        total += number
    return total


def outer():
    while True:
        inner()


print("ready", flush=True)
outer()
