"""What `drivers.py` and `async_drivers.py` have in common: where their servers are, and calls that must fail."""

import os

HOST = "127.0.0.1"


def port(name):
    return int(os.environ[name])


def http2_options(httpx, tls):
    """Without HTTP/1 a client speaks HTTP/2 at once, also where no TLS agrees on it. Its connection is kept."""
    scheme, name = ("https", "HTTP2_TLS_PORT") if tls else ("http", "HTTP2_PORT")
    return {
        # By a name, which has to be looked up.
        "base_url": f"{scheme}://localhost:{port(name)}",
        "http1": False,
        "http2": True,
        "limits": httpx.Limits(keepalive_expiry=None),
        "timeout": 60,
        "trust_env": False,
        "verify": False,
    }


class fails:
    """Calls that must fail, do: their error is what is looked at."""

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        assert kind is not None, "it did not fail"
        return issubclass(kind, Exception)
