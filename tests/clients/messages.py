"""A stand-in for the service that a real client asks: it answers with one edit, and keeps what the
client sends afterwards. So hooks run for real, without an account."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Service:
    """`url` is its address; `asked` what it was asked, in order."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)

    def was_told(self, text: str) -> bool:
        """Whether a client has sent `text` to its model."""
        return any(text in json.dumps(each, ensure_ascii=False) for each in self.asked)


@contextmanager
def service(tool: str, arguments: dict[str, str]) -> Iterator[Service]:
    """The Messages API (https://platform.claude.com/docs/en/build-with-claude/streaming), with a
    model that calls `tool` once, and then says that it is done."""
    made = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._send("", "text/plain")

        def do_GET(self) -> None:
            self._send("{}", "application/json")

        def do_POST(self) -> None:
            given = json.loads(self.rfile.read(int(self.headers["content-length"])))
            made.asked.append(given)
            if "messages" not in given or "count_tokens" in self.path:
                self._send('{"input_tokens": 1}', "application/json")
                return
            names = {each.get("name") for each in given.get("tools", ())}
            wanted = tool in names and "tool_result" not in json.dumps(given["messages"])
            block, stop = _block(tool, arguments) if wanted else _block(None, {})
            if given.get("stream"):
                events = [*_events(given["model"], block, stop)]
                text = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)
                self._send(text, "text/event-stream")
            else:
                message = {**_message(given["model"]), "content": [block], "stop_reason": stop}
                self._send(json.dumps(message), "application/json")

        def _send(self, text: str, kind: str) -> None:
            body = text.encode()
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


def _block(tool: str | None, arguments: dict[str, str]) -> tuple[dict[str, Any], str]:
    if tool is None:
        return {"type": "text", "text": "done"}, "end_turn"
    return {"type": "tool_use", "id": "toolu_1", "name": tool, "input": arguments}, "tool_use"


def _message(model: str) -> dict[str, Any]:
    usage = {"input_tokens": 1, "output_tokens": 1}
    said: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": model}
    return {**said, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}


def _events(model: str, block: dict[str, Any], stop: str) -> Iterator[dict[str, Any]]:
    if block["type"] == "text":
        empty = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": block["text"]}
    else:
        empty = {**block, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    yield {"type": "message_start", "message": _message(model)}
    yield {"type": "content_block_start", "index": 0, "content_block": empty}
    yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    ended = {"stop_reason": stop, "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 1}}
    yield {"type": "message_stop"}
