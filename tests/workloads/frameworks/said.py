"""What the applications of this folder share: the file in which they put down what Python prints of an exception."""
import json
import os
import traceback


def put_down(path):
    """Called where the framework has caught an exception: `FOLDER/tracebacks`, one JSON object a line."""
    line = json.dumps({"path": path, "traceback": traceback.format_exc(), "pid": os.getpid()})
    with open(os.path.join(os.environ["FOLDER"], "tracebacks"), "a") as file:
        file.write(line + "\n")


def divide(number):
    return 1 / number


def deep(depth):
    if depth:
        return deep(depth - 1)
    return divide(depth)


class Refused(Exception):
    pass


def refuse():
    """Fails because of another exception."""
    try:
        lookup("refused")
    except KeyError as error:
        raise Refused("not today") from error


def lookup(key):
    return {}[key]


def catch():
    """Handles what another function raises: nobody's failure."""
    try:
        number("handled")
    except ValueError:
        return "caught"


def number(text):
    return int(text)


def attribute(thing):
    return thing.absent
