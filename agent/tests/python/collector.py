"""Makes garbage and collects it when told to, and says what has come of it.

Prints "ready". For each line, a JSON list of how often each generation is to be collected, it does so and prints
`gc.get_stats()` as JSON. Nothing is collected in between.
"""
import gc
import json
import sys


class Node:
    pass


def cycles(count):
    for _ in range(count):
        node = Node()
        node.itself = node


gc.disable()
print("ready", flush=True)
while True:
    line = sys.stdin.readline()
    if not line:
        break
    for generation, times in enumerate(json.loads(line)):
        for time in range(times):
            cycles(10 * generation + time)
            gc.collect(generation)
    print(json.dumps(gc.get_stats()), flush=True)
