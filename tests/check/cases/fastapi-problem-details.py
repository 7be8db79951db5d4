import fastapi
from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import JSONResponse
from starlette.middleware.base import BaseHTTPMiddleware

app = FastAPI()
app.add_exception_handler(HTTPException, on_http_error)  # finds

other = FastAPI(
    exception_handlers={
        HTTPException: on_http_error,  # finds
        RequestValidationError: on_invalid,
    }
)


@other.exception_handler(fastapi.HTTPException)  # finds
async def on_another(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({})


@app.middleware("http")
async def check_token(request: Request, call_next):
    if "Authorization" not in request.headers:
        raise HTTPException(status_code=401, detail="no token")  # finds
    return await call_next(request)


class TokenMiddleware(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next):
        try:
            request.state.user = decode(request.headers["Authorization"])
        except KeyError as error:
            raise HTTPException(401) from error  # finds
        return await call_next(request)


class SizeMiddleware:
    async def __call__(self, scope, receive, send) -> None:
        if too_large(scope):
            raise fastapi.HTTPException(413)  # finds
        await self.app(scope, receive, send)


@app.exception_handler(RequestValidationError)
async def on_invalid(request: Request, exc: RequestValidationError) -> JSONResponse:
    logger.info("invalid: %s", exc.errors())
    return JSONResponse(status_code=422, content={"detail": exc.errors(), "code": 1})  # finds


@app.exception_handler(Exception)
async def on_any(request: Request, exc: Exception) -> JSONResponse:
    logger.error("failed: %s", str(exc))
    return JSONResponse({"message": f"failed: {exc}"}, 500)  # finds


@app.get("/orders")
async def orders() -> list[int]:
    try:
        return await read_orders()
    except Exception as e:
        raise HTTPException(status_code=500, detail=str(e)) from e  # finds


@app.exception_handler(ShopError)
async def on_shop_error(request: Request, exc: ShopError) -> JSONResponse:
    return JSONResponse({"message": str(exc)}, exc.status)


@app.exception_handler(RequestValidationError)
async def on_encoded(request: Request, exc: RequestValidationError) -> JSONResponse:
    return JSONResponse(jsonable_encoder({"detail": exc.errors()}), 422)


@app.exception_handler(RequestValidationError)
async def on_chosen(request: Request, exc: RequestValidationError) -> JSONResponse:
    return JSONResponse({"fields": [each["loc"] for each in exc.errors()]}, 422)


@app.exception_handler(404)
async def on_missing(request: Request, exc: HTTPException) -> JSONResponse:
    return JSONResponse({}, 404)


class AnsweringMiddleware(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next):
        try:
            if "Authorization" not in request.headers:
                raise HTTPException(401)
            return await call_next(request)
        except HTTPException as error:
            return JSONResponse({"detail": error.detail}, error.status_code)


async def require_token(request: Request) -> None:
    if "Authorization" not in request.headers:
        raise HTTPException(401)


@app.get("/names")
async def names() -> list[str]:
    try:
        return await read_names()
    except ValueError as error:
        raise HTTPException(status_code=400, detail=str(error)) from error
    except Exception as error:
        logger.exception("names")
        raise HTTPException(status_code=500, detail="names cannot be read") from error


@router.post("/imports")
async def answers_with_the_text(rows: list[str]) -> int:
    try:
        return await store(rows)
    except Exception as error:
        raise HTTPException(status_code=500, detail=str(error))  # finds


@router.post("/imports/again")
async def answers_with_the_text_in_a_sentence(rows: list[str]) -> int:
    try:
        return await store(rows)
    except Exception as e:
        raise HTTPException(status.HTTP_500_INTERNAL_SERVER_ERROR, f"failed: {e!s}") from e  # finds


@router.post("/imports/right")
async def answers_without_the_text(rows: list[str]) -> int:
    try:
        return await store(rows)
    except ValueError as error:
        raise HTTPException(status_code=500, detail=str(error))
    except LookupError as error:
        raise HTTPException(status_code=404, detail=str(error)) from error
    except Exception as error:
        logger.exception("not stored")
        raise HTTPException(status_code=500, detail="not stored") from error
