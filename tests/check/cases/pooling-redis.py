import redis
import redis.asyncio as aioredis
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis, from_url

by_url = Redis.from_url(url, max_connections=10, decode_responses=True)  # finds
by_function = from_url(url, max_connections=5)  # finds
by_host = aioredis.Redis(host="cache", max_connections=50)  # finds
pool = ConnectionPool.from_url(url, max_connections=20)  # finds

unbounded = Redis.from_url(url, decode_responses=True)
waits = BlockingConnectionPool.from_url(url, max_connections=10, timeout=1)
by_pool = Redis.from_pool(waits)
in_threads = redis.Redis(max_connections=10)
