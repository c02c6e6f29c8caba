"""A web server on loopback for downloads in tests: it can misbehave in every way that is known.

Files are given by path. What was asked is kept, so that a test can tell a resumed transfer from a
new one.
"""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<!DOCTYPE html><html><title>Sign in</title></html>"


@dataclass
class Asked:
    """One request: its path with the query, and its headers."""

    path: str
    headers: dict[str, str]

    @property
    def first(self) -> int:
        """The first byte that was asked for."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(match[1]) if match else 0


@dataclass
class FileServer:
    """What is served, how it misbehaves, and what was asked.

    Attributes:
        files: path, or path and query -> content.
        cuts: the next bodies end after so many bytes, one each, and the connection closes.
        statuses: the next answers, one each, before files are served.
        status: the answer to everything, when not 0.
        has_ranges: whether Range is understood.
        heeds_if_range: whether If-Range is understood.
        longest: bytes of the longest range that is given.
        validator: `etag`, `date`, or neither, which servers of generated files do.
        has_length: whether bodies announce their size; else they come in chunks.
        content_type: of every file.
        stall_at: every body waits after so many bytes until `go` is set.
        moved: path -> the address that it sends to.
    """

    files: dict[str, bytes]
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    status: int = 0
    has_ranges: bool = True
    heeds_if_range: bool = True
    longest: int = 2**40
    validator: str = "etag"
    has_length: bool = True
    content_type: str = "application/octet-stream"
    stall_at: int = -1
    moved: dict[str, str] = field(default_factory=dict)
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    n_sent: int = 0
    go: threading.Event = field(default_factory=threading.Event)

    def find(self, path: str) -> bytes | None:
        """Return a file by its path, with or without the query."""
        return self.files.get(path, self.files.get(path.partition("?")[0]))

    def count(self, part: str) -> int:
        """Return how many requests had this in their path."""
        return sum(part in asked.path for asked in self.asked)


def make_handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    """Return a request handler that serves one server's files."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = Asked(self.path, dict(self.headers))
            server.asked.append(asked)
            status = server.statuses.pop(0) if server.statuses else server.status
            if status:
                return self._send(status, {"Content-Type": "text/html", "Retry-After": "0"}, PAGE)
            if self.path in server.moved:
                return self._send(303, {"Location": server.moved[self.path]}, b"")
            content = server.find(self.path)
            if content is None:
                return self._send(404, {"Content-Type": "text/html"}, PAGE)
            return self._send_file(asked, content)

        def _send_file(self, asked: Asked, content: bytes) -> None:
            head = {"Content-Type": server.content_type}
            known = {"etag": f'"{hashlib.md5(content).hexdigest()}"', "date": _make_date(content)}
            mine = known.get(server.validator, "")
            if mine:
                head["ETag" if server.validator == "etag" else "Last-Modified"] = mine
            first = asked.first if server.has_ranges else 0
            if server.heeds_if_range and asked.headers.get("If-Range", mine) != mine:
                first = 0
            if first >= len(content) > 0:
                return self._send(416, {"Content-Range": f"bytes */{len(content)}"}, b"")
            last = min(len(content), first + server.longest) if first else len(content)
            if first:
                head["Content-Range"] = f"bytes {first}-{last - 1}/{len(content)}"
            cut = server.cuts.pop(0) if server.cuts else None
            return self._send(206 if first else 200, head, content[first:last], cut)

        def _send(
            self, status: int, head: dict[str, str], body: bytes, cut: int | None = None
        ) -> None:
            self.send_response(status)
            size = {"Content-Length": str(len(body))}
            chunked = {"Transfer-Encoding": "chunked"}
            for name, value in {**head, **(size if server.has_length else chunked)}.items():
                self.send_header(name, value)
            self.end_headers()
            if cut is not None:
                body = body[:cut]
                self.close_connection = True
            self._write(body, is_whole=cut is None)

        def _write(self, body: bytes, is_whole: bool) -> None:
            try:
                for part in self._split(body):
                    text = part if server.has_length else b"%x\r\n%b\r\n" % (len(part), part)
                    self.wfile.write(text)
                    server.n_sent += len(part)
                if is_whole and not server.has_length:
                    self.wfile.write(b"0\r\n\r\n")
            except OSError:  # the client has gone
                self.close_connection = True

        def _split(self, body: bytes) -> Iterator[bytes]:
            if 0 <= server.stall_at < len(body):
                yield body[: server.stall_at]
                self.wfile.flush()
                server.go.wait(60)
                body = body[server.stall_at :]
            if body:
                yield body

    return Handler


class QuietServer(ThreadingHTTPServer):
    """A server whose clients may hang up, or be killed."""

    daemon_threads = True

    def handle_error(self, request: object, address: object) -> None:
        pass


def _make_date(content: bytes) -> str:
    minute, second = (byte % 60 for byte in hashlib.md5(content).digest()[:2])
    return f"Mon, 01 Jan 2024 00:{minute:02d}:{second:02d} GMT"


@contextmanager
def serve_files(files: dict[str, bytes], **faults: object) -> Iterator[FileServer]:
    """Serve files on loopback for as long as the context lasts."""
    server = FileServer(files, **faults)  # type: ignore[arg-type]
    http = QuietServer(("127.0.0.1", 0), make_handler(server))
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.go.set()
        http.shutdown()
        http.server_close()
        thread.join()
