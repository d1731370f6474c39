"""The web application: a form, the state of a job, and its timeline."""

import asyncio
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from jmer.base.errors import UserError
from jmer.corpora import transcript
from jmer.media import decoding
from jmer.pages.render import render
from jmer.pages.timeline import timeline
from jmer.runs import answers
from jmer.serve.jobs import BusyError, Job, Jobs
from jmer.serve.reader import Task

_MOST_TEXT = 200_000  # bytes of a dialogue that is typed
_UPLOADS = 2  # that are received at a time; others wait
_RECEIVING = 600  # seconds until an upload has to be here, since it keeps others waiting
_DOWNLOADS = (".csv", ".json", ".srt", ".vtt", ".rttm", ".TextGrid")
_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",
    b"cache-control": b"no-store",
}


def make_app(jobs: Jobs, *, model: str, most_bytes: int, seconds: float, hosts: tuple[str, ...]) -> Starlette:
    """Returns the application.

    Args:
      model: what answers, for the page.
      most_bytes: of one upload.
      seconds: that a job may take, for the page.
      hosts: the names by which the page may be asked for. Another name is refused, since a page from elsewhere could
        otherwise give its own name this machine's address and read what users have uploaded.
    """
    receiving = asyncio.Semaphore(_UPLOADS)

    async def home(_: Request) -> Response:
        return _page("demo", 200, model=model, megabytes=most_bytes >> 20, seconds=seconds, suffixes=_kinds())

    async def submit(request: Request) -> Response:
        origin = request.headers.get("origin")
        if origin and urlsplit(origin).netloc != request.headers.get("host"):
            raise HTTPException(403, "the form of another page was sent here")
        length = request.headers.get("content-length", "")
        if not length.isdecimal():
            raise HTTPException(411, "the length of the upload is not known")
        if int(length) > most_bytes:
            raise HTTPException(413, f"the upload has {int(length) >> 20} MB, and {most_bytes >> 20} MB are allowed")
        job = jobs.new("the sample")
        try:
            async with (
                receiving,
                asyncio.timeout(_RECEIVING),
                request.form(max_files=2, max_fields=4, max_part_size=_MOST_TEXT) as form,
            ):
                task = await run_in_threadpool(_received, dict(form), job)
        except TimeoutError as error:
            jobs.discard(job)
            raise HTTPException(408, f"the upload took more than {_RECEIVING} s") from error
        except BaseException:  # also where the user has gone away meanwhile
            jobs.discard(job)
            raise
        jobs.submit(job, task)
        return RedirectResponse(f"/jobs/{job.name}", status_code=303)

    def wanted(request: Request) -> Job:
        job = jobs.find(request.path_params["name"])
        if job is None:
            raise HTTPException(404, "this page was removed, or never was; what is uploaded is kept for a while only")
        return job

    async def show(request: Request) -> Response:
        job = wanted(request)
        if job.state == "failed":
            return _page("trouble", 422, message=job.message)
        if job.state != "done":
            return _page("job", 200, script="job", job=job, ahead=jobs.ahead_of(job))
        return HTMLResponse(await run_in_threadpool(_timeline, job))

    async def state(request: Request) -> Response:
        job = wanted(request)
        return JSONResponse({"state": job.state, "read": job.read, "total": job.total, "ahead": jobs.ahead_of(job)})

    async def media(request: Request) -> Response:
        clips, number = wanted(request).clips, request.path_params["number"]
        if number >= len(clips):
            raise HTTPException(404, "there is no such video or sound")
        return FileResponse(clips[number])

    async def download(request: Request) -> Response:
        job, suffix = wanted(request), request.path_params["suffix"]
        if suffix not in _DOWNLOADS or job.state != "done":
            raise HTTPException(404, "there is no such file")
        file = job.folder / f"emotions{suffix}"
        await run_in_threadpool(answers.write, file, job.shown)
        return FileResponse(file, filename=file.name)

    return Starlette(
        routes=[
            Route("/", home),
            Route("/jobs", submit, methods=["POST"]),
            Route("/jobs/{name}", show),
            Route("/jobs/{name}/state", state),
            Route("/jobs/{name}/media/{number:int}", media),
            Route("/jobs/{name}/emotions{suffix}", download),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts)), Middleware(_WithHeaders)],
        exception_handlers={HTTPException: _refused, BusyError: _busy, UserError: _unfit},
    )


class _WithHeaders:
    """Adds `_HEADERS` to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_HEADERS.items()]}
            await send(message)

        await self._app(scope, receive, with_headers)


def _received(form: Mapping[str, Any], job: Job) -> Task:
    """Moves what a form holds into the folder of a job. No name that a user chose becomes a path.

    Raises:
      UserError: the form holds nothing to read, or files of other kinds.
    """
    recording, spoken = _file(form, "recording"), _file(form, "transcript")
    typed = str(form.get("dialogue") or "").strip()
    if "sample" in form:
        return Task()
    if typed and (recording or spoken):
        raise UserError("a dialogue was typed, and a file was given as well; give one of them")
    if typed:
        job.title, file = "the dialogue", job.folder / "dialogue.txt"
        file.write_text(typed, encoding="utf-8", errors="replace")
        return Task(transcript=file)
    if not (recording or spoken):
        raise UserError("nothing was given; choose a video, a sound or a transcript, or type a dialogue")
    given: dict[str, Path] = {}
    for kind, upload in (("recording", recording), ("transcript", spoken)):
        if upload is None:
            continue
        suffix = _suffix(upload)
        given[kind] = job.folder / f"{kind}{suffix}"
        with given[kind].open("wb") as out:
            shutil.copyfileobj(upload.file, out, 1 << 20)
        if kind == "transcript" and suffix not in transcript.SUFFIXES:
            raise UserError(f"the transcript is no file that ends in {', '.join(transcript.SUFFIXES)}")
        if kind == "recording" and not decoding.is_media(given[kind]):
            raise UserError("the recording is no video and no sound")
    job.title = str((recording or spoken).filename)  # pyright: ignore[reportOptionalMemberAccess]
    return Task(**given)


def _file(form: Mapping[str, Any], name: str) -> UploadFile | None:
    """Returns a file of the form; None where none was chosen."""
    upload = form.get(name)
    return upload if isinstance(upload, UploadFile) and upload.filename and upload.size else None


def _suffix(upload: UploadFile) -> str:
    """Returns the suffix of a file's name, if it is a plain one."""
    match = re.search(r"\.[A-Za-z0-9]{1,8}$", upload.filename or "")
    return match[0].lower() if match else ""


def _timeline(job: Job) -> str:
    clips = job.clips
    downloads = [
        (suffix, f"/jobs/{job.name}/emotions{suffix}")
        for suffix in _DOWNLOADS
        if _has_times(job) or suffix in (".csv", ".json")
    ]
    return timeline(
        job.shown,
        title=f"Emotions of {job.title}",
        source=lambda clip: f"/jobs/{job.name}/media/{clips.index(clip)}",
        links=[("Read another one", "/"), *((f"as {suffix}", address) for suffix, address in downloads)],
    )


def _has_times(job: Job) -> bool:
    return all(p.start is not None and p.end is not None for d in job.shown for p in d.predictions)


def _kinds() -> str:
    return ",".join(transcript.SUFFIXES)


def _page(template: str, status: int, **values: Any) -> HTMLResponse:
    return HTMLResponse(render(template, title="jmer", **values), status_code=status)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _page("trouble", error.status_code, message=error.detail)


async def _busy(_: Request, error: Exception) -> Response:
    return _page("trouble", 503, message=str(error))


async def _unfit(_: Request, error: Exception) -> Response:
    return _page("trouble", 400, message=str(error))
