from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Request, status
from fastapi import HTTPException as Refused

router = APIRouter(prefix="/invoices")


def check_key(request: Request) -> None:
    if request.headers.get("X-API-Key") != KEY:
        raise HTTPException(status_code=status.HTTP_401_UNAUTHORIZED, detail="no key")


@router.get("/")
def listed(request: Request) -> list[int]:
    check_key(request)
    return read_all()


@router.post("/")
def create(request: Request, invoice: Invoice) -> int:
    check_key(request)
    return store(invoice)


@router.delete("/{number}")
def remove(number: int) -> None:  # finds
    delete(number)


async def the_tenant(request: Request) -> str:
    tenant = await find(request.headers.get("Authorization"))
    if tenant is None:
        raise Refused(401)
    return tenant


@router.put("/{number}")
async def rename(number: int, name: str, request: Request) -> None:
    tenant = await the_tenant(request)
    check_key(request)
    await store_name(tenant, number, name)


@router.post("/login")
async def login(name: str, password: str) -> str:
    check_key_of(name)
    return await make_token(name, password)


@router.get("/{number}")
def open_to_all(number: int) -> int:
    check_key_of(number)
    return number


@router.patch("/{number}", dependencies=[Depends(the_tenant)])
async def guarded(number: int) -> None:
    await pay(number)


@router.patch("/{number}/paid")
async def guarded_by_a_parameter(number: int, user: CurrentUser) -> None:
    await pay(number)


def check_number(number: int) -> None:
    if number < 0:
        raise HTTPException(403, "no such invoice")


class InvoiceService:
    def __init__(self, session: Session, limit: int = 100) -> None:  # finds
        self.limit = limit


class MailClient:
    def __init__(self, sender: str | None = None) -> None:  # finds
        self.sender = sender


class Pages:
    def __init__(self, offset: int = 0, limit: int = 100) -> None:
        self.offset = offset


class OrderService:
    def __init__(self, session: Session) -> None:
        self.session = session


class ReportService:
    def __init__(self, pages: Annotated[int, Query()], limit: int = Query(100)) -> None:
        self.pages = pages


class StockService:
    def __init__(self, session: Session, limit: int = 100) -> None:
        self.limit = limit


def get_stock(session: Session) -> StockService:
    return StockService(session)


@router.get("/all")
def everything(
    invoices: Annotated[InvoiceService, Depends(InvoiceService)],
    pages: Annotated[Pages, Depends()],
    orders: Annotated[OrderService, Depends(OrderService)],
    reports: Annotated[ReportService, Depends(ReportService)],
    stock: Annotated[StockService, Depends(get_stock)],
    mail: MailClient = Depends(),
) -> None:
    pass
