async def get_session():
    async with SessionFactory() as session:
        checked_out.set(engine.pool.checkedout())  # finds
        yield session


async def of_the_app(request):
    async with request.app.state.factory() as session:
        used.labels("main").set(request.app.state.engine.pool.size())  # finds
        yield session


def by_its_pool(pool):
    used.set(pool.checkedout())  # finds
    yield pool.connect()


checked_out.set_function(lambda: engine.pool.checkedout())


def metrics():
    checked_out.set(engine.pool.checkedout())
    return generate_latest(registry)


async def logged():
    async with SessionFactory() as session:
        print(engine.pool.checkedout())
        yield session
