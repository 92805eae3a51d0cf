"""Sleeps for moments in two places whose stacks differ in depth and functions. Prints "ready"."""
import time


def shallow():
    time.sleep(0.0001)


def deep():
    deeper()


def deeper():
    deepest()


def deepest():
    time.sleep(0.0001)


def flutter():
    while True:
        shallow()
        deep()


print("ready", flush=True)
flutter()
