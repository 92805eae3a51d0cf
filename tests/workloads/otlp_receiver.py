"""Receives OTLP by gRPC and by HTTP/protobuf, with the classes that OpenTelemetry publishes for Python: an implementation
that shares nothing with pyapm's.

    otlp_receiver.py FOLDER GRPC_PORT HTTP_PORT [CERTIFICATE KEY CA]

Writes `ready GRPC HTTP` once it listens, each request as a line of JSON to FOLDER/received, and each refusal to FOLDER/refused.
FOLDER/mode says how requests are treated, and is read at each: `ok` (also when there is no such file), `unavailable`, `exhausted`
(503 with Retry-After and 429 over HTTP), `slow` (takes nothing for as long as it says so). With a certificate TLS alone is spoken, and
only to clients whose own certificate comes from the CA.
"""

import gzip
import json
import ssl
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2 as profiles
from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2_grpc as profiles_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces_grpc

folder = Path(sys.argv[1])
lock = threading.Lock()


def mode():
    try:
        return (folder / "mode").read_text().strip() or "ok"
    except FileNotFoundError:
        return "ok"


def write(name, record):
    with lock, open(folder / name, "a") as file:
        file.write(json.dumps(record) + "\n")


def received(signal, message, transport, headers):
    write("received", {"signal": signal, "transport": transport, "headers": headers, "message": MessageToDict(message)})


def wait_while_slow():
    while mode() == "slow":
        time.sleep(0.05)


class Service:
    def __init__(self, signal, response):
        self.signal = signal
        self.response = response

    def Export(self, request, context):
        wait_while_slow()
        codes = {"unavailable": grpc.StatusCode.UNAVAILABLE, "exhausted": grpc.StatusCode.RESOURCE_EXHAUSTED}
        if mode() in codes:
            write("refused", {"signal": self.signal, "mode": mode(), "at": time.monotonic()})
            context.abort(codes[mode()], "not now")
        received(self.signal, request, "grpc", dict(context.invocation_metadata()))
        return self.response()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kinds = {
        "/v1/traces": ("traces", traces.ExportTraceServiceRequest, traces.ExportTraceServiceResponse),
        "/v1/metrics": ("metrics", metrics.ExportMetricsServiceRequest, metrics.ExportMetricsServiceResponse),
        "/v1/logs": ("logs", logs.ExportLogsServiceRequest, logs.ExportLogsServiceResponse),
        "/v1development/profiles": (
            "profiles", profiles.ExportProfilesServiceRequest, profiles.ExportProfilesServiceResponse
        ),
    }

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        signal, request, response = self.kinds[self.path]
        wait_while_slow()
        if mode() in ("unavailable", "exhausted"):
            write("refused", {"signal": signal, "mode": mode(), "at": time.monotonic()})
            self.send_response(503 if mode() == "unavailable" else 429)
            self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        assert self.headers["Content-Type"] == "application/x-protobuf"
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        message = request()
        message.ParseFromString(body)
        received(signal, message, "http", {name.lower(): value for name, value in self.headers.items()})
        answer = response().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *words):
        pass


server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
traces_grpc.add_TraceServiceServicer_to_server(Service("traces", traces.ExportTraceServiceResponse), server)
metrics_grpc.add_MetricsServiceServicer_to_server(Service("metrics", metrics.ExportMetricsServiceResponse), server)
logs_grpc.add_LogsServiceServicer_to_server(Service("logs", logs.ExportLogsServiceResponse), server)
profiles_grpc.add_ProfilesServiceServicer_to_server(
    Service("profiles", profiles.ExportProfilesServiceResponse), server
)
web = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[3])), Handler)
if len(sys.argv) > 4:
    certificate, key, ca = (Path(name).read_bytes() for name in sys.argv[4:7])
    credentials = grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=True)
    port = server.add_secure_port(f"127.0.0.1:{sys.argv[2]}", credentials)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=sys.argv[6])
    context.load_cert_chain(sys.argv[4], sys.argv[5])
    context.verify_mode = ssl.CERT_REQUIRED
    # The handshake is the connection's own thread's matter.
    web.socket = context.wrap_socket(web.socket, server_side=True, do_handshake_on_connect=False)
else:
    port = server.add_insecure_port(f"127.0.0.1:{sys.argv[2]}")
server.start()
web.daemon_threads = True
print("ready", port, web.server_address[1], flush=True)
web.serve_forever()
