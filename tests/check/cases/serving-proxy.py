import os

import uvicorn
from fastapi import FastAPI, Request
from fastapi.middleware import Middleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware as Forwarded

app = FastAPI()
uvicorn.run(app, host="0.0.0.0", forwarded_allow_ips="*")  # finds
uvicorn.run("main:app", proxy_headers=True, forwarded_allow_ips=["*"], workers=4)  # finds
config = uvicorn.Config(app, forwarded_allow_ips='*')  # finds
options = {"host": "0.0.0.0", "forwarded_allow_ips": "*"}  # finds
forwarded_allow_ips = "*"  # finds
os.environ["FORWARDED_ALLOW_IPS"] = "*"  # finds
app.add_middleware(ProxyHeadersMiddleware, trusted_hosts="*")  # finds
app.add_middleware(Forwarded, trusted_hosts=["*"])  # finds
wrapped = ProxyHeadersMiddleware(app, trusted_hosts="*")  # finds
layers = [Middleware(Forwarded, trusted_hosts="*")]  # finds


def address(request: Request) -> str:
    forwarded = request.headers.get("X-Forwarded-For")  # finds
    if forwarded:
        return forwarded.split(",")[0].strip()
    return request.headers["x-forwarded-for"].split(",")[0]  # finds


uvicorn.run(app, forwarded_allow_ips="10.0.0.7")
uvicorn.run(app, forwarded_allow_ips=os.environ["PROXIES"])
app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=["10.0.4.0/24"])
app.add_middleware(TrustedHostMiddleware, trusted_hosts="*")
allowed_hosts = "*"
known = {"forwarded_allow_ips": settings.proxies}
headers = {"X-Forwarded-For": "203.0.113.9"}


def peer(request: Request) -> str:
    request_id = request.headers.get("X-Request-ID")
    return f"{request.client} {request_id}"
