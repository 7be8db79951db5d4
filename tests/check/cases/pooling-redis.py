import redis
import redis.asyncio as aioredis
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis, from_url

by_url = Redis.from_url(url, max_connections=10, decode_responses=True)  # finds
by_function = from_url(url, max_connections=5)  # finds
by_host = aioredis.Redis(host="cache", max_connections=50)  # finds
pool = ConnectionPool.from_url(url, max_connections=20)  # finds

unbounded = Redis.from_url(url, decode_responses=True)  # finds
waits = BlockingConnectionPool.from_url(url, max_connections=10, timeout=1)
by_pool = Redis.from_pool(waits)
in_threads = redis.Redis(max_connections=10)  # finds


def make() -> redis.Redis:
    arguments = {"host": host, "db": 1}
    return redis.StrictRedis(**arguments)  # finds


def make_bounded() -> redis.Redis:
    arguments = {"host": host, "socket_timeout": 2}
    return redis.StrictRedis(**arguments)


bounded = Redis.from_url(url, decode_responses=True, socket_timeout=2)
of_a_pool = Redis(connection_pool=waits, decode_responses=True)
plain = Redis.from_url(url)
