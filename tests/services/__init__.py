"""Real servers for tests: each has a free loopback port, and none outlives the test process."""

from tests.services.nginx import Nginx
from tests.services.pgbouncer import PgBouncer
from tests.services.postgres import Database, Postgres
from tests.services.process import Server, ServiceFailed, ServiceMissing, free_port
from tests.services.program import Program, serving_process
from tests.services.proxy import Proxy, proxied
from tests.services.redis import Redis
from tests.services.uvicorn import Served, serving

__all__ = [
    "Database",
    "Nginx",
    "PgBouncer",
    "Postgres",
    "Program",
    "Proxy",
    "Redis",
    "Served",
    "Server",
    "ServiceFailed",
    "ServiceMissing",
    "free_port",
    "proxied",
    "serving",
    "serving_process",
]
