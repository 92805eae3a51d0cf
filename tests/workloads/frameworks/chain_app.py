"""Flask. An application that asks the next of its kind: `/ask/N/...` asks it for `/N/...`, `/twice/...` does so twice, and
`/leaf/N` answers. Each thread keeps its connection.

usage: NEXT=http://127.0.0.1:8001 gunicorn --threads 4 chain_app:application
"""
import os
import threading

import requests
from flask import Flask, request

application = Flask(__name__)
kept = threading.local()


def session():
    if not hasattr(kept, "session"):
        kept.session = requests.Session()
    return kept.session


@application.route("/")
@application.route("/leaf/<number>")
def leaf(number="0"):
    return number


@application.route("/ask/<path:rest>")
def ask(rest):
    headers = {}
    if "header" in request.args:
        headers["traceparent"] = request.args["header"]
    return session().get("%s/%s" % (os.environ["NEXT"], rest), headers=headers, timeout=60).text


@application.route("/twice/<number>")
def twice(number):
    return " ".join(session().get("%s/leaf/%s-%s" % (os.environ["NEXT"], number, turn), timeout=60).text for turn in "ab")
