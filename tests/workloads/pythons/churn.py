"""Makes functions, runs them and frees them, without end. A function's name says its number, its file and its first
line say it too, and the caller that it may have is of the same number. Numbers only grow, up to 90,000. Prints "ready".
"""
PAIR = """{blank}def inner_{number:05}(steps):
    total = 0
    for step in range(steps):
        total += step
    return total


def outer_{number:05}(steps):
    return inner_{number:05}(steps) + 1
"""
LONER = """{blank}def loner_{number:05}(steps):
    total = 0
    for step in range(steps):
        total += step
    return total
"""


def source(text, number):
    return text.format(number=number, blank="\n" * (number % 97))


def made(source, name, number):
    scope = {}
    exec(compile(source, "/churn/%05d.py" % number, "exec"), scope)
    return scope, scope.pop("%s_%05d" % (name, number))


print("ready", flush=True)
number = 0
kept = []
while True:
    for _ in range(50):
        number += 1
        scope, outer = made(source(PAIR, number), "outer", number)
        outer(6_000)
        # Some live longer than others, so that what is freed is not always what was made last.
        if number % 3 == 0:
            kept.append((scope, outer))
        if len(kept) > 7:
            del kept[number % 7]
    scope = outer = None
    # These run long enough to be named, and nothing is left of one when the next is made, which gets its address as a rule.
    for _ in range(6):
        number += 1
        made(source(LONER, number), "loner", number)[1](200_000)
    number %= 90_000
