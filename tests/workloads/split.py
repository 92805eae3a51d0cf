"""Three functions that burn CPU time of this process in the ratio 60 : 30 : 10.

    split.py SECONDS [CHILDREN]

Each round gives `sixty` 6 ms, `thirty` 3 ms and `ten` 1 ms of the process's own CPU time, measured with the clock
that the kernel keeps for it, so that a loaded machine changes nothing about the ratio. A debt is carried over: what
a function took too much in one round it gets less in the next. CHILDREN are forked before and do the same under
another name. The line `ready` says that work begins; the last line says what each function has really had, in
seconds: `done SIXTY THIRTY TEN`.
"""

import os
import sys
import time


def sixty(until):
    while time.process_time() < until:
        pass


def thirty(until):
    while time.process_time() < until:
        pass


def ten(until):
    while time.process_time() < until:
        pass


def work(seconds):
    spent = [0.0, 0.0, 0.0]
    parts = ((sixty, 0.006), (thirty, 0.003), (ten, 0.001))
    rounds = 0
    while sum(spent) < seconds:
        rounds += 1
        for number, (function, share) in enumerate(parts):
            before = time.process_time()
            function(before + share * rounds - spent[number])
            spent[number] += time.process_time() - before
    return spent


def in_a_child(seconds):
    work(seconds)


def main():
    seconds = float(sys.argv[1])
    children = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    print("ready", flush=True)
    pids = []
    for _ in range(children):
        pid = os.fork()
        if pid == 0:
            in_a_child(seconds)
            os._exit(0)
        pids.append(pid)
    spent = work(seconds)
    for pid in pids:
        os.waitpid(pid, 0)
    print("done", *(f"{part:.6f}" for part in spent), flush=True)


if __name__ == "__main__":
    main()
