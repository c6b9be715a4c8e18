"""A host on the loopback interface that serves weights, and misbehaves when it is told to."""

import contextlib
import hashlib
import http.server
import threading

from i3dcli.checkpoints.download import WeightFile

CONTENT = bytes(range(256)) * 4096  # 1 MiB


def blob_id(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Host(http.server.BaseHTTPRequestHandler):
    """A host that serves `contents` by address, or else CONTENT, and misbehaves as its `faults`, a list of names, say; each
    request takes the next one."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        fault = self.server.faults.pop(0) if self.server.faults else None
        content = self.server.contents.get(self.path, CONTENT)
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.server.starts.append(start)
        if fault == "404":
            return self.send_error(404)
        if fault == "no ranges":
            start = 0
        if start >= len(content):
            return self.send_error(416)
        body = content[start:]
        if fault == "corrupt":
            body = body[:100] + b"X" + body[101:]
        if fault == "odd redirect":
            self.send_response(302)
            self.send_header("Location", "http://[bad")
            return self.end_headers()
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", "abc" if fault == "odd length" else str(len(body)))
        self.end_headers()
        self.wfile.write(body[: 300_000 if fault in ("truncate", "stall") else None])
        if fault == "stall":
            self.server.released.wait(10)
        self.close_connection = True

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def running():
    """A host with its `file`, a WeightFile of CONTENT, until the end of the block."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
    server.daemon_threads = False  # so that server_close waits for every answer to end
    server.contents, server.faults, server.starts, server.released = {}, [], [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    server.file = WeightFile(f"http://127.0.0.1:{server.server_port}/", "weights.pt", blob_id(CONTENT), 1.0)
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
