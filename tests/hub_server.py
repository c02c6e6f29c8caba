"""A stand-in for the Hugging Face hub on loopback: real downloads in tests, without the network.

    python tests/hub_server.py --repo timm/resnet18.a1_in1k --file model.safetensors=PATH --port 0

prints its address, for `HF_ENDPOINT=http://127.0.0.1:PORT python -m tlcnn.train init=imagenet`.
It answers HEAD and GET of /REPO/resolve/REVISION/FILE as the hub does: commit, ETag (the sha256,
as for large files), length and ranges. Paths under /plain/ are served without the hub's headers.
"""

import argparse
import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FAULTS = ("", "short", "wrong", "cut", "unavailable")


@dataclass
class Hub:
    """What is served, how it misbehaves, and what was asked.

    Attributes:
        files: (repository, file) -> content.
        fault: `short`: a body that ends early; `wrong`: other bytes of the right length; `cut`:
            the connection breaks once, halfway; `unavailable`: status 500 for everything.
        requests: method and path of each request, in order.
    """

    files: dict[tuple[str, str], bytes]
    fault: str = ""
    url: str = ""
    requests: list[str] = field(default_factory=list)
    n_cuts: int = 0


def make_handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    """Return a request handler that serves one hub."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, *args: object) -> None:
            pass

        def _answer(self, with_body: bool) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            if hub.fault == "unavailable":
                return self._send(500, {}, b"", with_body)
            match = re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", self.path)
            repo, name = (match[1], match[3]) if match else ("plain", Path(self.path).name)
            if not any(known == repo for known, _ in hub.files):
                return self._send(404, {"X-Error-Code": "RepoNotFound"}, b"", with_body)
            head = {"X-Repo-Commit": COMMIT} if match else {}
            content = hub.files.get((repo, name))
            if content is None:
                return self._send(404, {**head, "X-Error-Code": "EntryNotFound"}, b"", with_body)
            if match:
                head["ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            return self._send_content(content, head, with_body)

        def _send_content(self, content: bytes, head: dict[str, str], with_body: bool) -> None:
            if with_body and hub.fault == "wrong":
                content = bytes(len(content))
            if with_body and hub.fault == "short":
                content = content[: len(content) // 2]
            start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            first = int(start[1]) if start else 0
            if first:
                head["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            cut = with_body and hub.fault == "cut" and not hub.n_cuts
            self._send(206 if first else 200, head, content[first:], with_body, cut)

        def _send(
            self,
            status: int,
            head: dict[str, str],
            content: bytes,
            with_body: bool,
            cut: bool = False,
        ) -> None:
            self.send_response(status)
            for name, value in {**head, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                hub.n_cuts += 1
                self.close_connection = True

    return Handler


@contextmanager
def serve(files: dict[tuple[str, str], bytes], fault: str = "", port: int = 0) -> Iterator[Hub]:
    """Serve files on loopback for as long as the context lasts."""
    hub = Hub(files, fault)
    server = ThreadingHTTPServer(("127.0.0.1", port), make_handler(hub))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    """Serve the files named on the command line until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repo", required=True, help="such as timm/resnet18.a1_in1k")
    parser.add_argument("--file", required=True, action="append", help="NAME=PATH, repeatable")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--fault", choices=FAULTS, default="")
    args = parser.parse_args()
    pairs = [entry.partition("=") for entry in args.file]
    files = {(args.repo, name): Path(path).read_bytes() for name, _, path in pairs}
    with serve(files, args.fault, args.port) as hub:
        print(hub.url, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(*hub.requests, sep="\n")


if __name__ == "__main__":
    main()
