from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import JSONResponse, ORJSONResponse
from sqlalchemy import func
from sqlalchemy import select as query
from sqlalchemy.orm import Session, selectinload

from app import models

router = APIRouter()
app = FastAPI(default_response_class=ORJSONResponse)  # finds


@router.get("/users")
def old_style(db: Session = Depends(get_db)):
    return db.query(models.User).filter(models.User.active).all()  # finds


@router.get("/users/{number}")
async def one(number: int, session: Database):
    user = await session.get(models.User, number)
    if user is None:
        return JSONResponse({"detail": "no such user"}, 404)
    return user  # finds


@router.get("/orders")
async def in_steps(session: Database):
    result = await session.execute(query(Order).options(selectinload(Order.lines)))
    orders = result.scalars().all()
    return orders  # finds


@router.get("/direct")
async def direct(session: Database):
    return (await session.scalars(query(Order).order_by(Order.id))).all()  # finds


@router.post("/users")
async def create(user: UserIn, session: Database):
    row = models.User(**user.model_dump())
    session.add(row)
    await session.commit()
    await session.refresh(row)
    return row  # finds


@router.get("/fast")
async def fast():
    return ORJSONResponse({"a": 1})  # finds


@router.get("/with-a-model", response_model=list[UserOut])
async def with_a_model(session: Database):
    return (await session.scalars(query(models.User))).all()


@router.get("/with-a-type")
async def with_a_type(session: Database) -> list[UserOut]:
    users = await session.scalars(query(models.User))
    return users.all()


@router.get("/made-into-a-model")
async def made_into_a_model(session: Database):
    user = await session.scalar(query(models.User))
    return UserOut.model_validate(user)


@router.get("/count")
async def count(session: Database):
    number = await session.scalar(query(func.count()).select_from(models.User))
    return number


@router.get("/emails")
async def emails(session: Database):
    found = await session.scalars(query(models.User.email))
    return found.all()


@router.get("/chosen")
async def chosen(session: Database):
    users = (await session.scalars(query(models.User))).all()
    return [{"email": user.email} for user in users]


@router.get("/number-of-users")
def number_of_users(db: Session = Depends(get_db)):
    number = db.query(models.User).count()
    return number


async def in_a_service(session: Database):
    users = await session.scalars(query(models.User))
    return users.all()


@router.get("/cached")
async def cached(cache: Cache):
    value = await cache.get("users", 1)
    return value


@router.get("/config")
def config():  # finds
    return redact(current_config())


@router.get("/memories")
async def memories(user: str):  # finds
    rows = await store.list(user)
    return {"results": [serialise(each) for each in rows]}


@router.get("/memories/{key}")
async def memory(key: str):  # finds
    found = await store.get(key)
    return found


@router.get("/version")
def version():
    return {"version": VERSION, "name": name, "uptime": round(uptime)}


@router.get("/declared", response_model=Config)
def declared():
    return redact(current_config())


@router.get("/page")
def page(request: Request):
    return templates.TemplateResponse(request, "page.html")


@router.delete("/memories/{key}", status_code=204)
async def forget(key: str):
    return await store.forget(key)
