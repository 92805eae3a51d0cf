"""Takes what is posted, and writes it down: `webhook.py FILE REFUSALS`.

The first REFUSALS requests are answered by 503, the others by 200. Each becomes one line of JSON in FILE: `status`,
`headers` (names in lower case) and `body`. `ready PORT` on stdout says that it listens.
"""

import http.server
import json
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    refusals = int(sys.argv[2])

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 503 if Handler.refusals else 200
        Handler.refusals = max(0, Handler.refusals - 1)
        headers = {name.lower(): value for name, value in self.headers.items()}
        with open(sys.argv[1], "a") as file:
            file.write(json.dumps({"status": status, "headers": headers, "body": json.loads(body)}) + "\n")
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    print("ready", server.server_address[1], flush=True)
    server.serve_forever()
