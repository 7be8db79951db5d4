"""An override that nobody removes signs in the next test, and one of another function does nothing."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from tests.proofs.harness import Block, Witness


@dataclass
class User:
    name: str
    is_admin: bool


@dataclass
class Shop:
    """An application whose rows only an admin may delete."""

    app: FastAPI = field(default_factory=FastAPI)
    rows: list[int] = field(default_factory=lambda: [1, 2, 3])
    real: int = 0
    """How often the real dependency ran."""

    def __post_init__(self) -> None:
        bearer: Any = Depends(HTTPBearer(auto_error=False))

        async def get_user(token: HTTPAuthorizationCredentials | None = bearer) -> User:
            self.real += 1
            raise HTTPException(401)

        self.get_user = get_user

        def require_role(role: str) -> Any:
            async def check(user: Any = Depends(get_user)) -> None:
                if role == "admin" and not user.is_admin:
                    raise HTTPException(403)

            return check

        self.require_role = require_role
        router = APIRouter(dependencies=[Depends(require_role("admin"))])

        @router.delete("/rows/{number}", status_code=204)
        async def remove(number: int) -> None:
            self.rows.remove(number)

        self.app.include_router(router)

    async def delete(self, number: int, at: str = "/rows") -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.delete(f"{at}/{number}")


@contextmanager
def _one_test(block: Block, shop: Shop, get_user: Any = None) -> Iterator[User]:
    """The fixture of the block, around the body as around a test."""
    module = block.run(app=shop.app, get_user=get_user or shop.get_user, User=User)
    function: Any = inspect.unwrap(module.signed_in)
    assert function is not module.signed_in  # which is a fixture
    with pytest.MonkeyPatch.context() as monkeypatch:
        wanted = inspect.signature(function).parameters
        made = function(**({"monkeypatch": monkeypatch} if wanted else {}))
        if isinstance(made, User):
            yield made
            return
        yield next(made)
        assert next(made, None) is None


async def _then_without_a_token(block: Block) -> tuple[int, int, list[int]]:
    """The statuses of a delete with the override and of one in the next test, and what is left."""
    shop = Shop()
    with _one_test(block, shop) as user:
        assert user == User("ada", is_admin=True)
        first = (await shop.delete(1)).status_code
    return first, (await shop.delete(2)).status_code, shop.rows


async def test_incorrect_signs_in_the_next_test(incorrect: Block, witness: Witness) -> None:
    assert await _then_without_a_token(incorrect) == (204, 204, [3])
    witness.observed(incorrect="in the next test a request without a token: 204, the row is gone")


async def test_correct_asks_the_next_test_for_a_token(correct: Block, witness: Witness) -> None:
    assert await _then_without_a_token(correct) == (204, 401, [2, 3])
    witness.observed(correct="in the next test a request without a token: 401, the row is there")


async def test_incorrect_does_not_notice_another_function(incorrect: Block) -> None:
    shop = Shop()
    with _one_test(incorrect, shop, shop.require_role("admin")):
        assert (await shop.delete(1)).status_code == 401
    assert shop.real == 1


async def test_correct_notices_another_function(correct: Block, witness: Witness) -> None:
    shop = Shop()
    with (
        pytest.raises(AssertionError, match="no request used get_user") as noticed,
        _one_test(correct, shop, shop.require_role("admin")),
    ):
        assert (await shop.delete(1)).status_code == 401
    assert shop.real == 1
    witness.saw(noticed.value)
    assert shop.app.dependency_overrides == {}


async def test_a_function_that_is_kept_can_be_overridden() -> None:
    shop = Shop()
    check = shop.require_role("admin")
    shop.app.get("/kept", dependencies=[Depends(check)])(lambda: None)
    shop.app.dependency_overrides[check] = lambda: None
    transport = httpx.ASGITransport(shop.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/kept")).status_code == 200
    assert shop.real == 0  # nor what it depends on


async def test_a_patched_module_has_no_effect_on_a_declared_route(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = Shop()
    monkeypatch.setattr(shop, "get_user", lambda: User("ada", is_admin=True))
    assert (await shop.delete(1)).status_code == 401
    # Nor has the key that the patched name gives.
    monkeypatch.setitem(shop.app.dependency_overrides, shop.get_user, shop.get_user)
    assert (await shop.delete(1)).status_code == 401
    assert shop.real == 2


def test_a_module_under_two_names_has_two_functions(tmp_path: Path) -> None:
    path = tmp_path / "deps.py"
    path.write_text("def get_user(): ...\n")

    def imported(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    first, second = imported("deps"), imported("app.deps")
    assert first.get_user is not second.get_user
    assert second.get_user not in {first.get_user: None}


async def test_a_mounted_app_has_its_own_overrides() -> None:
    shop, main = Shop(), FastAPI()
    main.mount("/shop", shop.app)
    outer = Shop(app=main)
    main.dependency_overrides[shop.get_user] = lambda: User("ada", is_admin=True)
    assert (await outer.delete(1, "/shop/rows")).status_code == 401
    shop.app.dependency_overrides[shop.get_user] = lambda: User("ada", is_admin=True)
    assert (await outer.delete(1, "/shop/rows")).status_code == 204


async def test_a_plain_call_runs_the_real_function() -> None:
    app = FastAPI()

    def get_name() -> str:
        return "real"

    @app.get("/")
    async def names(name: Any = Depends(get_name)) -> list[str]:
        return [name, get_name()]

    app.dependency_overrides[get_name] = lambda: "test"
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/")).json() == ["test", "real"]


async def test_the_parameters_of_a_mock_are_asked_of_the_request(witness: Witness) -> None:
    shop = Shop()
    mock = Mock(return_value=User("ada", is_admin=True))
    shop.app.dependency_overrides[shop.get_user] = mock
    refused = await shop.delete(1)
    assert refused.status_code == 422
    witness.saw(refused.text)
    shop.app.dependency_overrides[shop.get_user] = lambda: mock()  # noqa: PLW0108 - takes nothing
    assert (await shop.delete(1)).status_code == 204
    mock.assert_called_once_with()
