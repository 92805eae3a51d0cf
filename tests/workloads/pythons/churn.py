"""Makes functions, runs them and frees them, without end. A function's name says its number, its file and its first
line say it too, and it has one caller, of the same number. Prints "ready".
"""
SOURCE = """{blank}def inner_{number:05}():
    total = 0
    for step in range(6000):
        total += step
    return total


def outer_{number:05}():
    return inner_{number:05}() + 1
"""

print("ready", flush=True)
number = 0
kept = []
while True:
    number = (number + 1) % 100_000
    scope = {}
    source = SOURCE.format(number=number, blank="\n" * (number % 97))
    exec(compile(source, "/churn/%05d.py" % number, "exec"), scope)
    scope["outer_%05d" % number]()
    # Some live longer than others, so that what is freed is not always what was made last.
    if number % 3 == 0:
        kept.append(scope)
    if len(kept) > 7:
        del kept[number % 7]
