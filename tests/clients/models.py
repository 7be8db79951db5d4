"""Stand-ins for the services that real clients ask: a model that makes one edit, and then says that
it is done. So the hooks of a client run for real, without an account."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Data = dict[str, Any]
Reply = Callable[[Data], list[Data]]
"""From what a client asks to the events that it gets."""


@dataclass
class Service:
    """`url` is its address; `asked` what it was asked, in order."""

    url: str = ""
    asked: list[Data] = field(default_factory=list)

    def was_told(self, text: str) -> bool:
        """Whether a client has sent `text` to its model."""
        return any(text in json.dumps(each, ensure_ascii=False) for each in self.asked)


@contextmanager
def _serving(reply: Reply) -> Iterator[Service]:
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
            if not given.get("stream"):
                self._send("{}", "application/json")
                return
            made.asked.append(given)
            events = reply(given)
            text = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)
            self._send(text, "text/event-stream")

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


def that_calls(tool: str, arguments: Mapping[str, str]) -> AbstractContextManager[Service]:
    """The Messages API (https://platform.claude.com/docs/en/build-with-claude/streaming), as Claude
    Code asks it."""
    return _serving(partial(_messages, tool, arguments))


def that_patches(patch: str) -> AbstractContextManager[Service]:
    """The Responses API (https://platform.openai.com/docs/api-reference/responses-streaming), as
    Codex asks it."""
    return _serving(partial(_responses, patch))


def _messages(tool: str, arguments: Mapping[str, str], given: Data) -> list[Data]:
    empty: Data = {"type": "text", "text": ""}
    delta = {"type": "text_delta", "text": "done"}
    stop = "end_turn"
    names = {each.get("name") for each in given.get("tools", ())}
    if tool in names and "tool_result" not in json.dumps(given["messages"]):
        empty = {"type": "tool_use", "id": "toolu_1", "name": tool, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(arguments)}
        stop = "tool_use"
    usage = {"input_tokens": 1, "output_tokens": 1}
    message: Data = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}
    message |= {"model": given["model"], "usage": usage}
    message |= {"stop_reason": None, "stop_sequence": None}
    ended = {"stop_reason": stop, "stop_sequence": None}
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]


def _responses(patch: str, given: Data) -> list[Data]:
    text = {"type": "output_text", "text": "done", "annotations": []}
    item: Data = {"type": "message", "id": "msg_1", "role": "assistant", "content": [text]}
    names = {each.get("name") for each in given.get("tools", ())}
    if "apply_patch" in names and "call_1" not in json.dumps(given["input"]):
        item = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_1"}
        item |= {"name": "apply_patch", "input": patch, "status": "completed"}
    usage: Data = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    usage |= dict.fromkeys(("input_tokens_details", "output_tokens_details"))
    return [
        {"type": "response.created", "response": {"id": "resp_1"}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"id": "resp_1", "usage": usage}},
    ]
