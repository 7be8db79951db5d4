from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import FastAPI, Request
from fastapi.middleware import Middleware
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from starlette.middleware.authentication import AuthenticationMiddleware

from app import middleware

app = FastAPI()


def outer_log() -> FastAPI:
    api = FastAPI()
    api.add_middleware(CorrelationIdMiddleware, header_name="X-Request-ID")
    if settings.access_log:
        api.add_middleware(middleware.AccessLogMiddleware)  # finds
    return api


listed = FastAPI(
    middleware=[
        Middleware(LoggingMiddleware),  # finds
        Middleware(RequestIdMiddleware),
    ]
)


def refuses_outside(api: FastAPI) -> None:
    api.add_middleware(CORSMiddleware, allow_origins=["https://shop.example.com"])
    api.add_middleware(AuthenticationMiddleware, backend=Backend())  # finds


def limits_outside(api: FastAPI) -> None:
    api.add_middleware(
        CORSMiddleware,
        allow_origins=["https://shop.example.com"],
    )
    api.add_middleware(GZipMiddleware)
    api.add_middleware(RateLimitMiddleware, per_minute=60)  # finds


def a_function_outside(api: FastAPI) -> None:
    api.add_middleware(CORSMiddleware, allow_origins=["https://shop.example.com"])

    @api.middleware("http")
    async def check_token(request: Request, call_next):  # finds
        if "Authorization" not in request.headers:
            return JSONResponse({"detail": "no token"}, status_code=401)
        return await call_next(request)


def from_the_inside_out(api: FastAPI) -> None:
    api.add_middleware(LoggingMiddleware)
    api.add_middleware(RequestIDMiddleware)
    api.add_middleware(RateLimitMiddleware)
    api.add_middleware(AuthenticationMiddleware, backend=Backend())
    api.add_middleware(CORSMiddleware, allow_origins=["https://shop.example.com"])


def no_id(api: FastAPI) -> None:
    api.add_middleware(GZipMiddleware)
    api.add_middleware(LoggingMiddleware)


def a_login(api: FastAPI) -> None:
    api.add_middleware(RequestIDMiddleware)
    api.add_middleware(LoginRedirectMiddleware)


from_the_outside_in = FastAPI(
    middleware=[
        Middleware(CORSMiddleware, allow_origins=["https://shop.example.com"]),
        Middleware(RequestIdMiddleware),
        Middleware(LoggingMiddleware),
        Middleware(AuthenticationMiddleware, backend=Backend()),
    ]
)


def a_function_inside(api: FastAPI) -> None:
    @api.middleware("http")
    async def check_token(request: Request, call_next):
        if "Authorization" not in request.headers:
            return JSONResponse({"detail": "no token"}, status_code=401)
        return await call_next(request)

    api.add_middleware(CORSMiddleware, allow_origins=["https://shop.example.com"])


def a_header(api: FastAPI) -> None:
    api.add_middleware(CORSMiddleware, allow_origins=["https://shop.example.com"])

    @api.middleware("http")
    async def add_version(request: Request, call_next):
        response = await call_next(request)
        response.headers["X-Version"] = "1"
        return response
