"""What `drivers.py` and `async_drivers.py` have in common: where their servers are, and calls that must fail."""

import os

HOST = "127.0.0.1"


def port(name):
    return int(os.environ[name])


def http2_base(tls):
    """By a name, which has to be looked up."""
    return f"https://localhost:{port('HTTP2_TLS_PORT')}" if tls else f"http://localhost:{port('HTTP2_PORT')}"


class fails:
    """Calls that must fail, do: their error is what is looked at."""

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        assert kind is not None, "it did not fail"
        return issubclass(kind, Exception)
