"""The status page: what came, what runs, what was sent, and what needs a person.

It reads and changes nothing, unless the site lets persons decide on it (node/web/decisions.py).
"""

import socket
import threading
from pathlib import Path
from typing import Any

import uvicorn
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates

from node.config import Web
from node.errors import NodeError
from node.ledger import Ledger
from node.storage import Storage
from node.view import alarms, counts, full_record, job_record
from node.web.charts import chart_svg
from node.web.decisions import Decisions
from pipelines.finding_bars import findings_table
from pipelines.stability import QUALITY_PICTURE, Finding

JOBS_SHOWN = 100
STOP_TIMEOUT_S = 10.0
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
DECIDING_HEADERS = HEADERS | {
    "Content-Security-Policy": f"{HEADERS['Content-Security-Policy']}; form-action 'self'; base-uri 'none'"
}

templates = Jinja2Templates(Path(__file__).parent / "templates")


def application(ledger: Ledger, decisions: Decisions | None = None, storage: Storage | None = None) -> Starlette:
    """The page's routes."""
    token = decisions.token if decisions else None
    headers = DECIDING_HEADERS if decisions else HEADERS

    def picture_of(job_id: int) -> Path | None:
        path = storage.result_file(job_id, QUALITY_PICTURE) if storage else None
        return path if path and path.is_file() else None

    def overview(request: Request) -> Response:
        jobs = [job_record(job) for job in ledger.jobs.all(limit=JOBS_SHOWN)]
        context = {"counts": counts(ledger), "jobs": jobs, "alarms": alarms(ledger)}
        return templates.TemplateResponse(request, "overview.html", context, headers=HEADERS)

    def job(request: Request) -> Response:
        try:
            record = full_record(ledger, request.path_params["job_id"])
        except NodeError as error:
            raise HTTPException(404, str(error)) from error
        context: dict[str, Any] = {"job": record, "token": token, "has_picture": picture_of(record["id"]) is not None}
        if record["result"]:
            findings = [Finding.model_validate(one) for one in record["result"]["findings"]]
            charts = ledger.trends.of_result(record["result"]["id"])
            # Both escape what they are given.
            context["findings"] = Markup(findings_table(findings)) if findings else ""
            context["charts"] = [(chart, Markup(chart_svg(chart))) for chart in charts]
        return templates.TemplateResponse(request, "job.html", context, headers=headers)

    def picture(request: Request) -> Response:
        path = picture_of(request.path_params["job_id"])
        if path is None:
            raise HTTPException(404, "there is no picture")
        return FileResponse(path, media_type="image/png", headers=HEADERS)

    def status(request: Request) -> Response:
        return JSONResponse(counts(ledger), headers=HEADERS)

    return Starlette(
        routes=[
            Route("/", overview),
            Route("/jobs/{job_id:int}", job),
            Route("/jobs/{job_id:int}/picture.png", picture),
            Route("/status.json", status),
            *(decisions.routes() if decisions else []),
        ],
    )


class Page:
    """The server of the page, on a thread of its own."""

    def __init__(
        self, settings: Web, ledger: Ledger, decisions: Decisions | None = None, storage: Storage | None = None
    ) -> None:  # fmt: skip
        self._settings = settings
        page = application(ledger, decisions, storage)
        self._server = uvicorn.Server(uvicorn.Config(page, log_config=None, access_log=False, server_header=False))
        self._thread: threading.Thread | None = None

    def start(self) -> tuple[str, int]:
        """Listen; returns the address, in which port 0 has become a real one.

        Raises
        ------
        NodeError
            If the address can not be listened on.
        """
        try:
            listening = socket.create_server((self._settings.bind, self._settings.port))
        except OSError as error:
            raise NodeError(f"the status page can not listen (web in node.yaml): {error}") from error
        self._thread = threading.Thread(target=self._server.run, args=([listening],), name="page", daemon=True)
        self._thread.start()
        host, port = listening.getsockname()[:2]
        return str(host), int(port)

    def stop(self) -> None:
        """Stop listening."""
        self._server.should_exit = True
        if self._thread:
            self._thread.join(STOP_TIMEOUT_S)
