import pytest
import pytest_asyncio
from pytest import fixture
from fastapi.testclient import TestClient


@pytest.fixture
def signed_in():
    app.dependency_overrides[get_user] = lambda: User("ada")  # finds
    return User("ada")


@fixture(scope="module")
def client():
    main.app.dependency_overrides[get_db] = get_test_db  # finds
    with TestClient(main.app) as client:
        yield client


def test_delete():
    app.dependency_overrides[get_user] = fake_user  # finds
    assert client.delete("/rows/1").status_code == 204


async def test_of_a_role(client):
    app.dependency_overrides[require_role("admin")] = fake_user  # finds
    try:
        assert (await client.delete("/rows/1")).status_code == 204
    finally:
        app.dependency_overrides.clear()


@pytest_asyncio.fixture
async def removed_again():
    app.dependency_overrides[get_user] = fake_user
    yield
    app.dependency_overrides.pop(get_user)


@pytest.fixture
def all_removed():
    app.dependency_overrides[get_user] = fake_user
    yield
    app.dependency_overrides = {}


@pytest.fixture
def undone(monkeypatch):
    monkeypatch.setitem(app.dependency_overrides, get_user, fake_user)


@pytest.fixture
def an_app_for_each_test():
    app = create_app()
    app.dependency_overrides[get_user] = fake_user
    return app


def create_test_app():
    app = create_app()
    app.dependency_overrides[get_user] = fake_user
    return app


def override(app, dependency, value):
    app.dependency_overrides[dependency] = lambda: value


def test_of_a_read():
    assert app.dependency_overrides[get_user] is fake_user
