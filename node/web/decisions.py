"""Release and rejection on the page, for sites that switch it on: a form with a name and a reason.

The page has no login. A form has to show that it comes from the page itself: another site in the same browser can send
one here, but it can neither read the token nor take the origin of this page.
"""

import secrets
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from node.approval import release
from node.config import Config
from node.errors import NodeError
from node.ledger import Ledger

LONGEST_FORM_BYTES = 20_000
LONGEST = {"name": 100, "reason": 1000}
"""Characters of what a person writes."""
SEE_OTHER = 303


class Decisions:
    """Takes the forms; `token` is in each of them."""

    def __init__(self, config: Config, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger
        self.token = secrets.token_urlsafe(32)
        """Of this run of the node."""

    def routes(self) -> list[Route]:
        """Where the forms go."""
        return [
            Route("/results/{result_id:int}/release", self._on(self._release), methods=["POST"]),
            Route("/results/{result_id:int}/reject", self._on(self._reject), methods=["POST"]),
        ]

    def _on(self, decide: Callable[[int, str, str], None]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            form = await _form(request)
            _require_own(request, form, self.token)
            name, reason = _written(form, "name"), _written(form, "reason")
            result_id = int(request.path_params["result_id"])
            try:
                await run_in_threadpool(decide, result_id, name, reason)
                job_id = self._ledger.decisions.job_of(result_id)
            except NodeError as error:
                raise HTTPException(409, str(error)) from error
            return RedirectResponse(f"/jobs/{job_id}", SEE_OTHER)

        return answer

    def _release(self, result_id: int, name: str, reason: str) -> None:
        release(self._config, self._ledger, result_id, name, reason)

    def _reject(self, result_id: int, name: str, reason: str) -> None:
        self._ledger.decisions.reject(result_id, name, reason)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form, each at most once."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM_BYTES:
            raise HTTPException(413, "the form is too long")
    try:
        fields = parse_qs(body.decode(), errors="strict", max_num_fields=10)
    except ValueError as error:
        raise HTTPException(400, "the form can not be read") from error
    return {name: values[0] for name, values in fields.items()}


def _require_own(request: Request, form: dict[str, str], token: str) -> None:
    """Refuse what another site has sent; a browser states the origin of every POST."""
    origin, host = request.headers.get("origin", ""), request.headers.get("host", "")
    is_own = urlsplit(origin).netloc == host and _is_of_this_machine(host)
    if not is_own or not secrets.compare_digest(form.get("token", "").encode(), token.encode()):
        raise HTTPException(403, "this form does not come from the page as it is now; load it anew")


def _is_of_this_machine(host: str) -> bool:
    """Whether no other site can have given this name to the machine's address, and so taken the page's origin."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in ("localhost", socket.gethostname().lower()):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _written(form: dict[str, str], what: str) -> str:
    text = form.get(what, "").strip()
    if not text or len(text) > LONGEST[what]:
        raise HTTPException(400, f"a {what} is needed, of at most {LONGEST[what]} characters")
    return text
