"""Flask, with Elastic's agent inside where the environment asks for it; other agents come by their own launchers.

usage: [ELASTIC=1] [opentelemetry-instrument | ddtrace-run | newrelic-admin run-program] gunicorn agents_app:application
"""
import os

from flask import Flask
from opentelemetry import trace  # noqa: F401 - the interface alone is no agent

application = Flask(__name__)
if os.environ.get("ELASTIC"):
    from elasticapm.contrib.flask import ElasticAPM

    ElasticAPM(application, service_name="inside", disable_send=True, metrics_interval="0s", central_config=False)


@application.route("/")
def answer():
    return "here"
