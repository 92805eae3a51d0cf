"""Threads that compute for ever at the end of recursions of known depths; with `naps` they sleep for moments there, with
`sleeps` for ever.

usage: depth.py FOLDER [naps|sleeps]. FOLDER/truth.json has, by native thread id, the functions of each thread's stack as the
interpreter itself walks it, from the caller of `spin`, `nap` or `sleep` outwards: [[function, times in a row]...]. Prints
"ready" after that.
"""
import json
import os
import sys
import threading
import time

DEPTHS = [10, 300, 1_000, 3_980, 4_000, 6_000, 20_000]
truth = {}
told = threading.Barrier(len(DEPTHS) + 1)


def spin():
    while True:
        pass


def nap():
    while True:
        time.sleep(0.02)


def sleep():
    time.sleep(100_000)


def down(left):
    if left > 1:
        return down(left - 1)
    runs, frame = [], sys._getframe()
    while frame is not None:
        name = getattr(frame.f_code, "co_qualname", frame.f_code.co_name)
        if runs and runs[-1][0] == name:
            runs[-1][1] += 1
        else:
            runs.append([name, 1])
        frame = frame.f_back
    truth[threading.get_native_id()] = runs
    told.wait()
    END()


END = {"spin": spin, "naps": nap, "sleeps": sleep}[sys.argv[2] if len(sys.argv) > 2 else "spin"]
sys.setrecursionlimit(100_000)
# Up to 3.10 a call from Python to Python is one of C too.
threading.stack_size(256 << 20)
for depth in DEPTHS:
    threading.Thread(target=down, args=(depth,), daemon=True).start()
told.wait()
with open(os.path.join(sys.argv[1], "truth.json"), "w", encoding="utf-8") as out:
    json.dump(truth, out)
print("ready", flush=True)
threading.Event().wait()
