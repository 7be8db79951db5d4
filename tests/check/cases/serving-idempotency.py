from fastapi import APIRouter, Header

router = APIRouter()


@router.post("/payments")
async def pay(body: Payment, db: Session, idempotency_key: str = Header()) -> Receipt:  # finds
    found = await db.get(Key, idempotency_key)
    if found:
        return found.response
    payment = Payment(amount=body.amount)
    db.add(payment)
    await db.commit()
    db.add(Key(key=idempotency_key, response=payment.receipt))
    await db.commit()
    return payment.receipt


@router.post("/claims")
def claim(body: Claim, db: Session, idempotency_key: str = Header()) -> Receipt:  # finds
    db.add(Key(key=idempotency_key))
    db.commit()
    db.add(Claim(amount=body.amount))
    db.commit()
    return Receipt()


@router.post("/cached")
async def cached(body: Payment, redis: Redis, idempotency_key: str = Header()) -> Receipt:
    stored = await redis.get(idempotency_key)  # finds
    if stored:
        return Receipt.model_validate_json(stored)
    receipt = await charge(body)
    await redis.set(idempotency_key, receipt.model_dump_json(), ex=86400)
    return receipt


class Keys:
    async def answer(self, idempotency_key: str, work: Work) -> bytes:
        cached = await self.redis.get(idempotency_key)  # finds
        if cached is None:
            cached = await work()
            await self.redis.setex(idempotency_key, 3600, cached)
        return cached


@router.post("/once")
async def once(body: Payment, db: Session, idempotency_key: str = Header()) -> Receipt:
    db.add(Key(key=idempotency_key))
    db.add(Payment(amount=body.amount))
    await db.commit()
    return Receipt()


@router.post("/either")
async def either(body: Payment, db: Session) -> Receipt:
    if body.amount:
        db.add(Payment(amount=body.amount))
        await db.commit()
    else:
        await db.commit()
    return Receipt()


async def claimed(redis: Redis, idempotency_key: str) -> bytes | None:
    if await redis.set(idempotency_key, b"", nx=True, ex=60):
        return None
    stored = await redis.get(idempotency_key)
    return stored


async def of_a_job(db: Session) -> None:
    await db.commit()
    await db.commit()


async def a_cache(redis: Redis, key: str) -> bytes:
    value = await redis.get(key)
    if value is None:
        value = await load(key)
        await redis.set(key, value)
    return value
