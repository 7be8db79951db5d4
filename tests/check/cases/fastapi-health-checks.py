from http import HTTPStatus

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Response, status
from fastapi.responses import JSONResponse
from sqlalchemy import text

app = FastAPI()
router = APIRouter(prefix="/api")


@router.get("/health", tags=["ops"])
def health(db: Session):
    try:
        db.execute(text("SELECT 1"))
        return {"status": "ok", "database": "connected"}
    except Exception as e:  # finds
        return {"status": "error", "detail": str(e)}


@app.get("/api/v1/readiness")
async def two_services() -> dict[str, object]:
    state = {"database": True, "cache": True}
    try:
        await ask_database()
    except OSError:  # finds
        state["database"] = False
    try:
        await ask_cache()
    except (OSError, TimeoutError):  # finds
        logger.exception("cache")
        state["cache"] = False
    return state


@router.get(path="/healthz")
async def by_a_variable() -> dict[str, str]:
    outcome = "healthy"
    try:
        await ask_database()
    except Exception:  # finds
        outcome = "unhealthy"
    return {"status": outcome}


@router.get("", summary="Health check", response_model=HealthResponse)
async def health_check() -> HealthResponse:
    is_up = await database_is_up()
    return HealthResponse(
        status="healthy" if is_up else "unhealthy",  # finds
    )


@router.get("/readyz")
async def a_tuple() -> object:
    if not await is_up():
        return {"status": "unhealthy"}, 503  # finds
    return {"status": "healthy"}


@router.get("/orders/{number}")
async def a_tuple_of_another_route(number: int) -> object:
    if number < 0:
        return {"error": "no such order"}, HTTPStatus.NOT_FOUND  # finds
    if number == 0:
        return "no order", status.HTTP_404_NOT_FOUND  # finds
    return {"number": number}


@app.get("/ready")
async def by_the_response(response: Response) -> dict[str, str]:
    try:
        await ask_database()
    except Exception:
        response.status_code = 503
        return {"status": "unhealthy"}
    return {"status": "healthy"}


@app.get("/ready/raised")
@app.get("/readyz")
async def raised() -> dict[str, str]:
    try:
        await ask_database()
    except Exception as error:
        raise HTTPException(503, "database is down") from error
    return {"status": "healthy"}


@app.get("/health")
async def told_at_the_end() -> Response:
    state = "up"
    try:
        await ask_database()
    except Exception:
        state = "down"
    return JSONResponse({"database": state}, 200 if state == "up" else 503)


@app.get("/healthz")
async def chosen_status(response: Response) -> dict[str, str]:
    is_up = await database_is_up()
    response.status_code = 200 if is_up else 503
    return {"status": "healthy" if is_up else "unhealthy"}


@app.get("/orders/state")
async def order_state(number: int) -> dict[str, str]:
    return {"state": "error" if number < 0 else "ok"}


@app.get("/livez")
async def livez() -> dict[str, str]:
    return {"mode": "fast" if FAST else "slow"}


@app.get("/orders")
async def no_check() -> dict[str, str]:
    try:
        await ask_database()
    except OSError:
        return {"status": "error"}
    return {"status": "ok"}


@app.get("/alive")
async def alive() -> dict[str, str]:
    try:
        version = read_version()
    except FileNotFoundError:
        version = "unknown"
    return {"version": version}


@router.get("/connector/health")
async def of_an_admin_page(user: User = Depends(current_admin_user)) -> dict[str, object]:
    try:
        await ask_connector()
    except OSError as error:
        return {"connected": False, "error": str(error)}
    return {"connected": True}


@app.get("/sizes")
async def a_pair() -> tuple[int, int]:
    return 200, 404


def helper() -> tuple[dict[str, str], int]:
    return {"status": "unhealthy"}, 503


@app.get("/later")
async def in_a_function() -> dict[str, str]:
    def made() -> tuple[dict[str, str], int]:
        return {}, 500

    body, number = made()
    return {**body, "number": str(number)}


@app.get("/health/db")
async def asks_without_a_bound() -> dict[str, str]:
    await database_ping()  # finds
    return {"status": "ok"}


@app.get("/readyz")
async def readyz(request: Request) -> dict[str, str]:
    async with request.app.state.engine.connect() as connection:
        await connection.execute(text("SELECT 1"))  # finds
    await request.app.state.cache.ping()  # finds
    return {"status": "ok"}


@app.get("/ready")
async def asks_with_a_bound(request: Request) -> dict[str, str]:
    async with asyncio.timeout(2):
        await request.app.state.cache.ping()
    return {"status": "ok"}


@app.get("/health")
async def asks_nobody() -> dict[str, str]:
    await asyncio.sleep(0)
    return {"status": "ok"}


@app.get("/ping")
async def of_another_kind(request: Request) -> dict[str, str]:
    await request.app.state.cache.ping()
    return {"status": "ok"}
