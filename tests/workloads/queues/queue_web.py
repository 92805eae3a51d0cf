"""An application of Flask: /TASK/NUMBER sends that task and answers with its id."""

import queue_tasks
from flask import Flask

app = Flask(__name__)


@app.get("/<name>/<int:number>")
def send(name, number):
    return queue_tasks.app.tasks[f"queue_tasks.{name}"].delay(number).id


@app.get("/ready")
def ready():
    return "ready"
