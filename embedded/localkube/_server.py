"""The server itself: who may connect, and its start and end."""

from __future__ import annotations

import asyncio
import fcntl
import hmac
import json
import os
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from localkube._api import Api
from localkube._errors import ApiError, bad_request
from localkube._kubelet import Kubelet, remove_folder
from localkube._launch import Machine
from localkube._store import Store

#: The largest body that the real API takes, in bytes.
LARGEST_BODY = 3 * 1024 * 1024

_Next = Callable[[web.Request], Awaitable[web.StreamResponse]]
_TOKEN = web.AppKey("token", str)
_HTTP_ERRORS = {
    404: ("NotFound", "the server could not find the requested resource"),
    405: ("MethodNotAllowed", "the server does not allow this method on the requested resource"),
    413: ("RequestEntityTooLarge", f"the request is larger than {LARGEST_BODY} bytes"),
}


class ServerError(Exception):
    """The server could not be started; the text says why and what to do."""


def _answer_error(error: ApiError) -> web.Response:
    return web.json_response(error.status(), status=error.code)


@web.middleware
async def _errors_as_status(request: web.Request, handler: _Next) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        return _answer_error(error)
    except web.HTTPException as error:
        if error.status not in _HTTP_ERRORS:
            raise
        return _answer_error(ApiError(error.status, *_HTTP_ERRORS[error.status]))


@web.middleware
async def _token_holders_only(request: web.Request, handler: _Next) -> web.StreamResponse:
    token = request.app[_TOKEN]
    given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
    in_path = request.path[: len(_path_of(token))].encode(errors="surrogateescape")
    in_header = hmac.compare_digest(given, f"Bearer {token}".encode())
    if not (in_header or hmac.compare_digest(in_path, _path_of(token).encode())):
        raise ApiError(401, "Unauthorized", "Unauthorized")
    if "dryRun" in request.query:
        raise bad_request("localkube has no dry runs")
    return await handler(request)


def _path_of(token: str) -> str:
    """Return the path below which the token counts as given.

    kubectl sends no token over plain HTTP.
    """
    return f"/as/{token}"


def _write_kubeconfig(path: Path, server: str, token: str) -> None:
    name = "localkube"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server}}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [
            {"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}
        ],
        "current-context": name,
    }
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    # JSON is YAML too, and a file that is private from its first byte cannot be read too early.
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
        json.dump(config, file, indent=2)
    draft.replace(path)


@contextmanager
def _owned(state_dir: Path) -> Iterator[None]:
    """Keep a second server out of the same folder, and clear what an earlier one left behind.

    Raises:
        ServerError: another server uses the folder, or it cannot be used.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        lock = (state_dir / "lock").open("w")
    except OSError as error:
        raise ServerError(f"The state folder {state_dir} cannot be used: {error}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServerError(
                f"Another localkube uses the state folder {state_dir}: stop it, or choose "
                "another --state-dir."
            ) from error
        remove_folder(state_dir / "pods")
        yield


async def serve(machine: Machine, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, then end all pods.

    Prints one line when it is ready.

    Args:
        machine: images, environment and state folder.
        host: a loopback address to listen on.
        port: the port to listen on, or 0 for any free one.

    Raises:
        ServerError: the port or the state folder cannot be used.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    with _owned(machine.state_dir):
        store, token = Store(), secrets.token_urlsafe(32)
        kubelet = Kubelet(machine, store)
        app = web.Application(
            middlewares=[_errors_as_status, _token_holders_only], client_max_size=LARGEST_BODY
        )
        app[_TOKEN] = token
        below = web.Application()
        below[_TOKEN] = token
        api = Api(store, kubelet)
        for each in (below, app):
            api.add_routes(each)
        app.add_subapp(_path_of(token), below)
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5
        )
        await runner.setup()
        try:
            await _listen(runner, host, port)
            bound = runner.addresses[0][1]
            url = f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"
            kubeconfig = machine.state_dir / "kubeconfig"
            _write_kubeconfig(kubeconfig, url, token)
            _write_kubeconfig(
                kubeconfig.with_name("kubeconfig-of-kubectl"), url + _path_of(token), token
            )
            print(f"localkube ready at {url}, kubeconfig {kubeconfig}", flush=True)
            await stopped.wait()
        finally:
            await kubelet.stop()
            await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        why = error.strerror or str(error)
        raise ServerError(
            f"localkube cannot listen on {host}:{port}: {why}. Choose another --port, or 0 for "
            "any free one."
        ) from error


def run(machine: Machine, host: str, port: int) -> int:
    """Run the server and return the exit status of the process."""
    try:
        asyncio.run(serve(machine, host, port))
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
