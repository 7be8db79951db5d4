"""An nginx in front of a web server."""

import socket
from collections.abc import Sequence

from tests.services.process import (
    HOST,
    Server,
    ServiceMissing,
    command,
    find_program,
    unpacked,
    version_of,
)

NAME = "nginx"
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def find_nginx() -> list[str]:
    """Give the command that starts nginx as `make servers` unpacked it, or as it is installed."""
    installed = find_program(NAME, "/usr/sbin", "/usr/local/sbin")
    for place in (*unpacked(NAME), *([installed] if installed else [])):
        return [str(word) for word in command(place, NAME)]
    raise ServiceMissing("no nginx: `make servers` unpacks one where apt is; else install nginx")


class Nginx(Server):
    """An nginx that passes every request to a port on 127.0.0.1. Its error log is `log`."""

    name = "nginx"

    def __init__(self, to: int, *, location: Sequence[str], upstream: Sequence[str] = ()) -> None:
        """Take the port, and directives without their semicolon; `location` has a `proxy_pass`.

        The address of the web server is `http://app`.
        """
        self._command = find_nginx()
        self.version = version_of(self._command, "-v")
        self._location = location
        self._upstream = (f"server {HOST}:{to}", *upstream)
        super().__init__()

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"http://{self.host}:{self.port}"

    def _argv(self) -> list[str]:
        # One process, which logs to stderr and writes nowhere but into its folder.
        temporary = "".join(f"{name}_temp_path {self.folder}/{name};\n" for name in TEMPORARY)
        path = self.folder / "nginx.conf"
        path.write_text(
            f"""
            daemon off;
            master_process off;
            pid {self.folder}/pid;
            events {{}}
            http {{
                {temporary}
                access_log off;
                upstream app {{ {_directives(self._upstream)} }}
                server {{
                    listen {self.host}:{self.port};
                    location = /pid {{ return 200 $pid; }}
                    location / {{ {_directives(self._location)} }}
                }}
            }}
            """,
            "utf-8",
        )
        return [*self._command, "-p", str(self.folder), "-e", "stderr", "-c", str(path)]

    def _answers(self, pid: int) -> bool:
        # Asks for the process id, since a server of someone else may listen there.
        with socket.create_connection((self.host, self.port), timeout=1) as connection:
            connection.sendall(b"GET /pid HTTP/1.0\r\n\r\n")
            with connection.makefile("rb") as answer:
                return answer.read().endswith(b"\r\n\r\n%d" % pid)


def _directives(lines: Sequence[str]) -> str:
    return " ".join(f"{line};" for line in lines)
