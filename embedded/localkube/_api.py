"""The requests that are answered, in the paths and words of the Kubernetes API.

The HTTP side is plain aiohttp, which kmock, an emulator of the Kubernetes API on the same
library, would have brought along. kmock 0.8 is made for tests and could not carry this: it
stores and announces an object before any handler can refuse it, its lists and watches ignore
label and field selectors and resource versions, a delete removes the object at once where a pod
needs its grace period, its errors have reasons that clients do not know ("Object Already
Exists") and tracebacks in their details, and it keeps every request, and so every secret, in
memory for as long as it runs.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import re
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from localkube import _selectors as selectors
from localkube._admission import (
    check_priority,
    check_quota,
    check_quotas,
    check_service_account,
    doubled_variables,
    not_strict,
    unknown_fields,
)
from localkube._defaults import quality_of_service, with_defaults
from localkube._errors import (
    ApiError,
    Json,
    Problems,
    bad_request,
    check_preconditions,
    conflict,
)
from localkube._kubelet import Kubelet
from localkube._pods import check_pod, check_pod_change
from localkube._store import Change, Store, now
from localkube._validation import (
    MAP,
    MAX_INT,
    META,
    Shape,
    check_meta,
    check_shape,
    is_secret_key,
    name_object,
    without_nulls,
)

KINDS = {
    "namespaces": "Namespace",
    "pods": "Pod",
    "secrets": "Secret",
    "events": "Event",
    "serviceaccounts": "ServiceAccount",
    "resourcequotas": "ResourceQuota",
}
_SHORT_NAMES = {
    "namespaces": ["ns"],
    "pods": ["po"],
    "secrets": [],
    "events": ["ev"],
    "serviceaccounts": ["sa"],
    "resourcequotas": ["quota"],
}
_VERBS = {
    "namespaces": ["create", "get", "list", "watch"],
    "pods": ["create", "delete", "get", "list", "patch", "watch"],
    "secrets": ["create", "delete", "get", "list", "patch", "update", "watch"],
    "events": ["get", "list", "watch"],
    "serviceaccounts": ["create", "delete", "get", "list"],
    "resourcequotas": ["create", "delete", "get", "list"],
}
_SECRET_LIMIT = 1024 * 1024
_SECRET_SHAPE: Shape = {"metadata": META, "data": MAP, "stringData": MAP, "type": str}
_PLAIN_SHAPES: dict[str, Shape] = {
    "serviceaccounts": {"metadata": META},
    "resourcequotas": {"metadata": META, "spec": {"hard": MAP}},
}
_PRECONDITIONS: Shape = {"uid": str, "resourceVersion": str}
_OPTIONS_SHAPE: Shape = {"gracePeriodSeconds": int, "preconditions": _PRECONDITIONS}
#: What the log of a container without an image waits for.
_WAITING_FOR_IMAGE = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}
#: The least that a log request may ask for.
_LEAST = {"tailLines": 0, "sinceSeconds": 1, "limitBytes": 1}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _flag(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "false").lower()
    return text not in ("false", "0")


def _number(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if not text:
        return None
    if not re.fullmatch("-?[0-9]{1,18}", text):
        raise bad_request(f"{name}: parsing {json.dumps(text)}: invalid syntax")
    return int(text)


async def _body(request: web.Request, *types: str) -> Json:
    """Return the JSON object that a request carries.

    Raises:
        ApiError: 415 for other types of content, 400 for what is no JSON object.
    """
    # Without a word about the type it is JSON, as for the real API.
    given = request.content_type if "Content-Type" in request.headers else "application/json"
    if given not in types:
        message = f"the body must be {' or '.join(types)}, not {given}"
        raise ApiError(415, "UnsupportedMediaType", message)
    try:
        body = json.loads(await request.read())
        # Half of a surrogate pair is no text, and could not be given to a process.
        json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise bad_request("the body is not valid JSON in UTF-8") from error
    if not isinstance(body, dict):
        raise bad_request("the body must be a JSON object")
    return body


def _merged(target: Any, patch: Any) -> Any:
    """Return JSON with a merge patch applied: null removes a field (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key.startswith("$"):
            raise bad_request(f"patch directives such as {key} are not supported here")
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _log_options(request: web.Request) -> Json:
    """Return what a request wants of a log.

    Raises:
        ApiError: 400 for what cannot be read, 422 for what is out of range.
    """
    problems, numbers = Problems(), {name: _number(request, name) for name in _LEAST}
    for name, least in _LEAST.items():
        number = numbers[name]
        if number is not None and number < least:
            why = f"must be greater than {'or equal to ' if least == 0 else ''}0"
            problems.invalid(name, number, why)
    if "stream" in request.query:
        problems.forbidden("stream", "may not be specified")
    since = numbers["sinceSeconds"]
    oldest = None if since is None else datetime.now(UTC) - timedelta(seconds=since)
    if text := request.query.get("sinceTime"):
        if since is not None:
            why = "at most one of `sinceTime` or `sinceSeconds` may be specified"
            problems.forbidden("[]", why)
        try:
            oldest = datetime.fromisoformat(text).astimezone(UTC).replace(microsecond=0)
        except ValueError:
            raise bad_request(f"parsing time {json.dumps(text)}: it is none of RFC 3339") from None
    problems.raise_if_any("PodLogOptions", request.match_info["name"])
    return {
        "follow": _flag(request, "follow"),
        "tail": numbers["tailLines"],
        "oldest": oldest,
        "timestamps": _flag(request, "timestamps"),
    }


def _as_item(obj: Json) -> Json:
    """Return an object as lists have it: its kind is that of the list."""
    return {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}


def _answer(obj: Json, status: int = 200) -> web.Response:
    return web.json_response(obj, status=status)


class Api:
    """Answers requests from the store, and hands pods to the kubelet."""

    def __init__(self, store: Store, kubelet: Kubelet) -> None:
        self._store = store
        self._kubelet = kubelet
        store.create("namespaces", _namespace({"name": "default"}))

    def add_routes(self, app: web.Application) -> None:
        """Add every path to an application."""
        router, core = app.router, "/api/v1"
        for path, document in _discovery().items():
            # The Python client asks with a slash at the end, kubectl without.
            router.add_get(path, _serve(document))
            router.add_get(f"{path}/", _serve(document))
        for resource in KINDS:
            router.add_get(f"{core}/{resource}", self._list(resource))
        router.add_post(f"{core}/namespaces", self._create_namespace)
        router.add_get(f"{core}/namespaces/{{name}}", self._get("namespaces"))
        for resource in KINDS.keys() - {"namespaces"}:
            path = f"{core}/namespaces/{{namespace}}/{resource}"
            router.add_get(path, self._list(resource))
            router.add_get(f"{path}/{{name}}", self._get(resource))
        pods, secrets = (f"{core}/namespaces/{{namespace}}/{r}" for r in ("pods", "secrets"))
        router.add_post(pods, self._create_pod)
        router.add_patch(f"{pods}/{{name}}", self._patch_pod)
        router.add_delete(f"{pods}/{{name}}", self._delete_pod)
        router.add_get(f"{pods}/{{name}}/log", self._log)
        router.add_route("*", f"{pods}/{{name}}/{{sub:exec|attach|portforward|proxy}}", _forbidden)
        router.add_post(secrets, self._create_secret)
        router.add_put(f"{secrets}/{{name}}", self._replace_secret)
        router.add_patch(f"{secrets}/{{name}}", self._patch_secret)
        router.add_delete(f"{secrets}/{{name}}", self._delete("secrets"))
        for resource, shape in _PLAIN_SHAPES.items():
            path = f"{core}/namespaces/{{namespace}}/{resource}"
            router.add_post(path, self._create_plain(resource, shape))
            router.add_delete(f"{path}/{{name}}", self._delete(resource))

    # Reading, the same for every resource

    def _get(self, resource: str) -> Handler:
        async def get(request: web.Request) -> web.StreamResponse:
            path = request.match_info
            return _answer(self._store.get(resource, path.get("namespace", ""), path["name"]))

        return get

    def _list(self, resource: str) -> Handler:
        async def list_or_watch(request: web.Request) -> web.StreamResponse:
            label = selectors.label_selector(request.query.get("labelSelector", ""))
            field = selectors.field_selector(resource, request.query.get("fieldSelector", ""))
            namespace = request.match_info.get("namespace")

            def selected(obj: Json) -> bool:
                here = namespace in (None, obj["metadata"].get("namespace", ""))
                return here and label(obj) and field(obj)

            if _flag(request, "watch"):
                return await self._watch(request, resource, selected)
            return _answer(
                {
                    "kind": f"{KINDS[resource]}List",
                    "apiVersion": "v1",
                    "metadata": {"resourceVersion": str(self._store.version)},
                    "items": [_as_item(o) for o in self._store.list(resource, None) if selected(o)],
                }
            )

        return list_or_watch

    async def _watch(
        self, request: web.Request, resource: str, selected: selectors.Match
    ) -> web.StreamResponse:
        since, seconds = _number(request, "resourceVersion"), _number(request, "timeoutSeconds")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)

        async def send(kind: str, obj: Json) -> None:
            await response.write(json.dumps({"type": kind, "object": obj}).encode() + b"\n")

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                try:
                    await self._send_changes(resource, selected, since or 0, send)
                except ApiError as error:
                    await send("ERROR", error.status())
        return response

    async def _send_changes(
        self,
        resource: str,
        selected: selectors.Match,
        since: int,
        send: Callable[[str, Json], Awaitable[None]],
    ) -> None:
        if not since:
            since = self._store.version
            for obj in [o for o in self._store.list(resource, None) if selected(o)]:
                await send("ADDED", obj)
        async for change in self._store.changes(resource, since):
            event = _watch_event(change, selected)
            if event is not None:
                await send(*event)

    # Namespaces

    async def _create_namespace(self, request: web.Request) -> web.StreamResponse:
        body = await _new_object(request, "Namespace", {"metadata": META})
        problems = Problems()
        check_meta(problems, body["metadata"], label_name=True)
        problems.raise_if_any("Namespace", body["metadata"].get("name", ""))
        return _answer(self._store.create("namespaces", _namespace(body["metadata"])), 201)

    def _place(self, request: web.Request, obj: Json) -> None:
        """Put a new object into the namespace of the path, which must exist."""
        namespace = request.match_info["namespace"]
        meta = obj["metadata"]
        if meta.get("namespace", namespace) != namespace:
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the "
                "request"
            )
        meta["namespace"] = namespace
        self._store.get("namespaces", "", namespace)

    # Pods

    async def _create_pod(self, request: web.Request) -> web.StreamResponse:
        body = await _new_object(request, "Pod", {"metadata": META})
        self._place(request, body)
        check_pod(body)
        validation = request.query.get("fieldValidation", "Warn")
        unknown = [] if validation == "Ignore" else unknown_fields(body)
        if unknown and validation == "Strict":
            raise not_strict(unknown)
        self._admit(body)
        pod = {"kind": "Pod", "apiVersion": "v1", "metadata": body["metadata"]}
        status = {"phase": "Pending", "qosClass": quality_of_service(body)}
        pod |= {"spec": with_defaults(body["spec"]), "status": status}
        created = self._store.create("pods", pod)
        self._kubelet.run(created)
        answer = _answer(created, 201)
        for warning in [*unknown, *doubled_variables(created)]:
            answer.headers.add("Warning", f"299 - {json.dumps(warning)}")
        return answer

    def _admit(self, pod: Json) -> None:
        """Refuse a pod without a service account, or beyond a quota."""
        namespace = pod["metadata"]["namespace"]

        def there(resource: str) -> list[Json]:
            return self._store.list(resource, namespace)

        accounts = (each["metadata"]["name"] for each in there("serviceaccounts"))
        check_service_account(pod, accounts)
        check_priority(pod)
        check_quotas(pod, there("resourcequotas"), there("pods"))

    async def _patch_pod(self, request: web.Request) -> web.StreamResponse:
        def check(old: Json, new: Json) -> None:
            check_pod_change(old, new)
            new["status"] = old["status"]

        pod = await self._patch(request, "pods", {"metadata": META}, check)
        self._kubelet.annotated(pod)
        return _answer(pod)

    async def _delete_pod(self, request: web.Request) -> web.StreamResponse:
        options = await _delete_options(request)
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        pod = self._store.get("pods", namespace, name)
        meta = pod["metadata"]
        check_preconditions("Pod", meta, options.get("preconditions", {}))
        grace = options.get("gracePeriodSeconds", _number(request, "gracePeriodSeconds"))
        if grace is None:
            grace = pod["spec"]["terminationGracePeriodSeconds"]
        if not 0 <= grace <= MAX_INT:
            raise bad_request(f"gracePeriodSeconds must be 0 to {MAX_INT}")
        if pod["status"]["phase"] in ("Succeeded", "Failed"):
            grace = 0
        # A deletion that has begun can only be made shorter.
        if grace >= meta.get("deletionGracePeriodSeconds", MAX_INT + 1):
            return _answer(pod)

        def mark(obj: Json) -> None:
            obj["metadata"]["deletionTimestamp"] = now(grace)
            obj["metadata"]["deletionGracePeriodSeconds"] = grace

        pod = self._store.update("pods", namespace, name, mark)
        self._kubelet.delete(pod, grace)
        return _answer(pod)

    async def _log(self, request: web.Request) -> web.StreamResponse:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        pod = self._store.get("pods", namespace, name)
        container = pod["spec"]["containers"][0]["name"]
        asked = request.query.get("container") or container
        if asked != container:
            raise bad_request(f"container {asked} is not valid for pod {name}")
        options = _log_options(request)
        if _flag(request, "previous"):
            raise bad_request(
                f'previous terminated container "{container}" in pod "{name}" not found'
            )
        log = self._kubelet.log(pod)
        state = pod["status"].get("containerStatuses", [{}])[0].get("state")
        if state is None:
            raise bad_request(f'container "{container}" in pod "{name}" is not available')
        if log is None and "waiting" in state:
            reason = state["waiting"]["reason"]
            why = _WAITING_FOR_IMAGE.get(reason, reason)
            raise bad_request(f'container "{container}" in pod "{name}" is waiting to start: {why}')
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        if log is not None:
            left = _number(request, "limitBytes") or sys.maxsize
            async for chunk in log.read(**options):
                await response.write(chunk[:left])
                left -= len(chunk)
                if left <= 0:
                    break
        return response

    # Secrets

    async def _create_secret(self, request: web.Request) -> web.StreamResponse:
        body = await _new_object(request, "Secret", _SECRET_SHAPE)
        self._place(request, body)
        return _answer(self._store.create("secrets", _secret(body)), 201)

    async def _replace_secret(self, request: web.Request) -> web.StreamResponse:
        body = await _new_object(request, "Secret", _SECRET_SHAPE)
        self._place(request, body)
        if body["metadata"].get("name") != request.match_info["name"]:
            raise bad_request("the name of the object does not match the name of the request")
        return _answer(self._change(request, "secrets", lambda _old: _secret(body)))

    async def _patch_secret(self, request: web.Request) -> web.StreamResponse:
        def check(_old: Json, new: Json) -> None:
            new.update(_secret(new))
            new.pop("stringData", None)

        return _answer(await self._patch(request, "secrets", _SECRET_SHAPE, check))

    # Service accounts and quotas, which only pods are checked against

    def _create_plain(self, resource: str, shape: Shape) -> Handler:
        async def create(request: web.Request) -> web.StreamResponse:
            body = await _new_object(request, KINDS[resource], shape)
            self._place(request, body)
            problems = Problems()
            check_meta(problems, body["metadata"])
            problems.raise_if_any(KINDS[resource], body["metadata"].get("name", ""))
            if resource == "resourcequotas":
                check_quota(body)
            kind = {"kind": KINDS[resource], "apiVersion": "v1"}
            return _answer(self._store.create(resource, {**kind, **body}), 201)

        return create

    def _delete(self, resource: str) -> Handler:
        async def delete(request: web.Request) -> web.StreamResponse:
            await _delete_options(request)
            namespace, name = request.match_info["namespace"], request.match_info["name"]
            gone = self._store.delete(resource, namespace, name)
            details = {"name": name, "kind": resource, "uid": gone["metadata"]["uid"]}
            status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
            return _answer({**status, "details": details})

        return delete

    # Changes

    async def _patch(
        self,
        request: web.Request,
        resource: str,
        shape: Shape,
        check: Callable[[Json, Json], None],
    ) -> Json:
        patch = await _body(
            request, "application/merge-patch+json", "application/strategic-merge-patch+json"
        )

        def patched(old: Json) -> Json:
            new = _merged(old, patch)
            try:
                check_shape(new, shape, "")
            except ApiError as error:
                raise ApiError(422, "Invalid", error.message) from None
            for field in ("name", "namespace"):
                if new["metadata"].get(field) != old["metadata"][field]:
                    raise bad_request(f"the {field} of the object does not match the URL's")
            check(old, new)
            return new

        return self._change(request, resource, patched)

    def _change(self, request: web.Request, resource: str, change: Callable[[Json], Json]) -> Json:
        """Keep what `change` makes of an object, apart from its identity."""
        namespace, name = request.match_info["namespace"], request.match_info["name"]

        def edit(obj: Json) -> None:
            meta = dict(obj["metadata"])
            new = change(obj)
            if (
                new["metadata"].get("resourceVersion", meta["resourceVersion"])
                != (meta["resourceVersion"])
            ):
                raise conflict(resource, name)
            for key in ("labels", "annotations"):
                meta.pop(key, None)
                if new["metadata"].get(key):
                    meta[key] = new["metadata"][key]
            obj.clear()
            obj.update({**new, "metadata": meta})

        return self._store.update(resource, namespace, name, edit)


def _watch_event(change: Change, selected: selectors.Match) -> tuple[str, Json] | None:
    """Return what a watch shows of a change: objects come into a selection and leave it."""
    was = change.old is not None and selected(change.old)
    if change.new is not None and selected(change.new):
        return ("MODIFIED" if was else "ADDED"), change.new
    if not was or change.old is None:
        return None
    # A watch goes on from the version of the last object it has seen.
    meta = {**change.old["metadata"], "resourceVersion": str(change.version)}
    return "DELETED", {**change.old, "metadata": meta}


async def _new_object(request: web.Request, kind: str, shape: Shape) -> Json:
    body = without_nulls(await _body(request, "application/json"))
    assert isinstance(body, dict)
    if (body.get("kind", kind), body.get("apiVersion", "v1")) != (kind, "v1"):
        raise bad_request(f"the body must be a {kind} of apiVersion v1")
    check_shape(body, shape, "")
    body.setdefault("metadata", {})
    name_object(body["metadata"])
    return body


async def _delete_options(request: web.Request) -> Json:
    if not request.can_read_body:
        return {}
    options = without_nulls(await _body(request, "application/json"))
    assert isinstance(options, dict)
    check_shape(options, _OPTIONS_SHAPE, "")
    if options.get("dryRun"):
        raise bad_request("localkube cannot honour dryRun")
    return options


def _namespace(meta: Json) -> Json:
    return {
        "kind": "Namespace",
        "apiVersion": "v1",
        "metadata": meta,
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def _secret(body: Json) -> Json:
    """Return a secret as it is kept, with all its values encoded.

    Raises:
        ApiError: 400 for data that is not base64, 422 for a bad name or key, or too much data.
    """
    problems = Problems()
    check_meta(problems, body["metadata"])
    plain = {
        k: base64.b64encode(v.encode()).decode() for k, v in body.get("stringData", {}).items()
    }
    data = {**body.get("data", {}), **plain}
    size = 0
    for key, value in data.items():
        if not is_secret_key(key):
            why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
            problems.invalid(f"data[{key}]", key, why)
        try:
            size += len(base64.b64decode(value, validate=True))
        except (binascii.Error, ValueError) as error:
            raise bad_request(f"cannot read the object: data.{key} must be base64") from error
    if size > _SECRET_LIMIT:
        problems.too_long("data", _SECRET_LIMIT)
    problems.raise_if_any("Secret", body["metadata"].get("name", ""))
    secret = {"kind": "Secret", "apiVersion": "v1", "metadata": body["metadata"]}
    return {**secret, "data": data, "type": body.get("type", "Opaque")}


async def _forbidden(request: web.Request) -> web.StreamResponse:
    name, sub = request.match_info["name"], request.match_info["sub"]
    message = (
        f'pods "{name}" is forbidden: User "localkube" cannot use pods/{sub} in the namespace '
        f'"{request.match_info["namespace"]}"'
    )
    raise ApiError(403, "Forbidden", message, {"name": name, "kind": "pods"})


def _serve(document: Json) -> Handler:
    async def serve(_request: web.Request) -> web.StreamResponse:
        return _answer(document)

    return serve


def _version() -> Json:
    unknown = ("gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform")
    known = {"major": "1", "minor": "30", "gitVersion": "v1.30.0+localkube"}
    # Clients insist on every field.
    return known | dict.fromkeys(unknown, "")


def _discovery() -> dict[str, Json]:
    resources = [
        {
            "name": resource,
            "singularName": kind.lower(),
            "namespaced": resource != "namespaces",
            "kind": kind,
            "verbs": _VERBS[resource],
            "shortNames": _SHORT_NAMES[resource],
        }
        for resource, kind in KINDS.items()
    ]
    log = {"name": "pods/log", "singularName": "", "namespaced": True, "kind": "Pod"}
    resources.append({**log, "verbs": ["get"]})
    return {
        "/version": _version(),
        "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
        "/api/v1": {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": "v1",
            "resources": resources,
        },
    }
