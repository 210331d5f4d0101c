"""Ollama's management routes: what clients may change, and what they are told about accounts and the web.

A change goes through the configuration file, as the command line's does, and is in force when the client reads of its
success. What lives in a real Ollama behind us, or could only live there, is that one's business, and passed on.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias

from aiohttp import web

from ollama_bridge.catalog import Model
from ollama_bridge.config import making
from ollama_bridge.config.nearest import suggestion
from ollama_bridge.errors import BridgeError, InvalidRequest, ModelNotFound, Unauthorized
from ollama_bridge.gateway import Gateway
from ollama_bridge.native import called
from ollama_bridge.roster import Roster
from ollama_bridge.server.answering import Handlers, json_response
from ollama_bridge.server.blobs import Blobs
from ollama_bridge.server.connection import read_body
from ollama_bridge.server.middleware import MODEL
from ollama_bridge.server.relaying import passed_on, uploaded
from ollama_bridge.server.routing import Routes
from ollama_bridge.surfaces import ollama, ollama_manage

Edit: TypeAlias = Callable[[making.Change], Awaitable[None]]
"""Changes the configuration file, and takes it over before it returns; BridgeError: nothing has changed."""

_UNKNOWN: Final = "pull model manifest: file does not exist"
"""The command line compares this text."""


class ManageHandlers(Handlers):
    """The handlers of the management verbs.

    Args:
        current: As for all of them.
        edit: Changes the configuration.
    """

    def __init__(self, current: Callable[[], Gateway], edit: Edit) -> None:
        super().__init__(current)
        self._edit = edit
        self._blobs = Blobs()

    def routes(self) -> Routes:
        """Every path with its methods."""
        return {
            "/api/pull": {"POST": self.pull},
            "/api/push": {"POST": self.push},
            "/api/create": {"POST": self.create},
            "/api/copy": {"POST": self.copy},
            "/api/delete": {"DELETE": self.delete},
            "/api/blobs/{digest}": {"HEAD": self.blob, "POST": self.blob},
            "/api/me": {"POST": self.me},
            "/api/signout": {"POST": self.signout},
            "/api/user/keys/{key}": {"DELETE": self.signout},
            "/api/experimental/web_search": {"POST": self.search},
            "/api/experimental/web_fetch": {"POST": self.search},
            "/api/experimental/model-recommendations": {"GET": self.recommendations},
        }

    async def pull(self, request: web.Request) -> web.StreamResponse:
        """Show a model to clients, of one they see already nothing changes; or have a real Ollama get it."""
        call = ollama_manage.decode_pull(await read_body(request))
        request[MODEL] = call.model
        call.check_pull()
        begun = [ollama_manage.progress("pulling manifest")]
        keeper = self._current().live.keeper(call.model)
        try:
            model = await self._pulled(call.model, keeper)
        except ModelNotFound:
            if keeper is None:
                return _failed(begun, _UNKNOWN, stream=call.stream)
            roster, name = keeper
        except BridgeError as exc:
            return _failed(begun, str(exc), stream=call.stream)
        else:
            home = self._current().live.home(model)
            if home is None:
                return _told(ollama_manage.pulled(model), stream=call.stream)
            roster, name = home, called(call.model, model.target.model)
        return await self._changed_there(request, roster, {**call.sent, "model": name})

    async def _pulled(self, name: str, keeper: tuple[Roster, str] | None) -> Model:
        """The model as it is here now; ModelNotFound: nobody here can have it."""
        with suppress(ModelNotFound):
            return await self._current().find(name)
        if keeper is None:
            ollama_manage.refuse_cloud(name)
        elif keeper[1] != name or ollama_manage.is_cloud(name):
            raise ModelNotFound(name)
        await self._edit(lambda draft: making.pull(draft, name))
        return self._current().registry.resolve(name)

    async def push(self, request: web.Request) -> web.StreamResponse:
        """Say that there is nowhere to push to, unless a real Ollama has the model."""
        call = ollama_manage.decode_push(await read_body(request))
        request[MODEL] = call.model
        call.check_push()
        begun = [ollama_manage.progress("retrieving manifest")]
        gateway = self._current()
        try:
            model = await gateway.find(call.model)
        except ModelNotFound:
            if keeper := gateway.live.keeper(call.model):
                return await passed_on(request, gateway, keeper[0], {**call.sent, "model": keeper[1]})
            begun.append(ollama_manage.progress("couldn't retrieve manifest"))
            return _failed(begun, ollama_manage.no_manifest(call.model), stream=call.stream)
        if home := gateway.live.home(model):
            name = called(call.model, model.target.model)
            return await passed_on(request, gateway, home, {**call.sent, "model": name})
        message = (
            f"there is nowhere to push '{call.model}' to: the answers come from a provider, and its model cannot be "
            "uploaded to ollama.com"
        )
        return _failed(begun, message, stream=call.stream)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Make a lasting model of one's own on top of another; where that is a real Ollama's, or files are, there."""
        call = ollama_manage.decode_create(await read_body(request))
        request[MODEL] = call.model
        call.check()
        keeper = self._current().live.keeper()
        try:
            if there := await self._made_there(call, keeper):
                return await self._create_there(request, call, *there)
            parent, said = call.made()
            self._check_not_there(call.model)
            await self._edit(lambda draft: making.create(draft, call.model, parent, said))
        except ModelNotFound as exc:
            if keeper is not None:
                return await self._create_there(request, call, keeper[0], call.parent)
            known = [model.name.removesuffix(":latest") for model in self._current().registry.models()]
            return _refused(InvalidRequest(f"{exc}{suggestion(exc.name, known)}", status=404))
        except BridgeError as exc:
            return _refused(exc)
        model = self._current().registry.resolve(call.model)
        return _told(ollama_manage.created(model, said), stream=call.stream)

    async def _made_there(
        self, call: ollama_manage.CreateCall, keeper: tuple[Roster, str] | None
    ) -> tuple[Roster, str] | None:
        """Who is to make the model, and of which of its own; None: we are."""
        if call.parent:
            with suppress(ModelNotFound):
                model = await self._current().find(call.parent)
                home = self._only_home(model)
                return (home, called(call.parent, model.target.model)) if home else None
        return (keeper[0], call.parent) if keeper is not None and call.wants_weights else None

    async def _create_there(
        self, request: web.Request, call: ollama_manage.CreateCall, roster: Roster, parent: str
    ) -> web.StreamResponse:
        self._check_free(call.model)
        body = {**call.sent, "model": call.model, **({"from": parent} if parent else {})}
        return await self._changed_there(request, roster, body)

    async def copy(self, request: web.Request) -> web.StreamResponse:
        """Let a model be listed under one more name."""
        call = ollama_manage.decode_copy(await read_body(request))
        request[MODEL] = call.source
        call.check()
        try:
            model = await self._current().find(call.source)
        except ModelNotFound:
            raise call.not_found() from None
        if home := self._only_home(model):
            if not call.same:
                self._check_free(call.destination)
            return await self._changed_there(
                request, home, {**call.sent, "source": called(call.source, model.target.model)}
            )
        if not call.same:
            self._check_not_there(call.destination)
            await self._edit(lambda draft: making.create(draft, call.destination, call.source, {}))
        return web.Response()

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Let clients no longer see a model; one that only a real Ollama knows of is deleted there."""
        call = ollama_manage.decode_delete(await read_body(request))
        request[MODEL] = call.model
        call.check_delete()
        gateway = self._current()
        model = await gateway.find(call.model)
        if home := self._only_home(model):
            name = called(call.model, model.target.model)
            return await self._changed_there(request, home, {**call.sent, "model": name})
        await self._edit(lambda draft: making.remove(draft, call.model))
        gateway.shared.residency.touch(model.name, 0)
        return web.Response()

    async def blob(self, request: web.Request) -> web.StreamResponse:
        """A file for `create`: it goes to who can make something of it."""
        gateway = self._current()
        keeper = gateway.live.keeper()
        if keeper is None:
            return await (self._blobs.head if request.method == "HEAD" else self._blobs.post)(request)
        path = f"/api/blobs/sha256:{ollama_manage.blob_digest(request.match_info['digest'])}"
        if request.method == "HEAD":
            return await passed_on(request, gateway, keeper[0], path=path)
        return await uploaded(request, gateway, keeper[0], path)

    async def me(self, request: web.Request) -> web.StreamResponse:
        """The account of a real Ollama behind us; else say that there is none.

        Not by a 401: the command line would tell who pushes, or signs in, to sign in at ollama.com.
        """
        return await self._answered_there(
            request,
            await read_body(request),
            BridgeError(
                "account unavailable: ollama-bridge has none at ollama.com, and needs none", status=503
            ),
        )

    async def signout(self, request: web.Request) -> web.StreamResponse:
        """Sign a real Ollama behind us out; else nobody is signed in."""
        nobody = Unauthorized("you are not currently signed in")
        return await self._answered_there(request, await read_body(request), nobody)

    async def search(self, request: web.Request) -> web.StreamResponse:
        """A real server asks ollama.com."""
        body = await read_body(request)
        words = "web search and web fetch are services of ollama.com, which this bridge does not reach"
        refusal = BridgeError(words, status=503) if body.strip() else InvalidRequest("missing request body")
        return await self._answered_there(request, body, refusal)

    async def recommendations(self, _: web.Request) -> web.Response:
        """The models that clients see."""
        return json_response(ollama_manage.recommendations_body(self._current().registry.models()))

    async def _changed_there(
        self, request: web.Request, roster: Roster, body: Mapping[str, Any]
    ) -> web.StreamResponse:
        """What a real Ollama answers to a change of what it has; its list is asked for again afterwards."""
        with roster.changing():
            return await passed_on(request, self._current(), roster, body)

    async def _answered_there(
        self, request: web.Request, body: bytes, otherwise: BridgeError
    ) -> web.StreamResponse:
        """What a real Ollama answers to the same; if there is none that could, `otherwise` is raised."""
        gateway = self._current()
        keeper = gateway.live.keeper()
        if keeper is None:
            raise otherwise
        return await passed_on(request, gateway, keeper[0], body)

    def _only_home(self, model: Model) -> Roster | None:
        """The real Ollama that has the model; None: none has, or the configuration has it too."""
        return None if model.is_own else self._current().live.home(model)

    def _check_free(self, name: str) -> None:
        """InvalidRequest if the name is that of a model which no real Ollama can replace."""
        holder = self._current().registry.configured(name)
        if holder is not None:
            raise InvalidRequest(
                f"'{name}' is model '{holder.name}' of this bridge's own, and is not replaced; choose another name"
            )

    def _check_not_there(self, name: str) -> None:
        """InvalidRequest if the name is that of a model which only a real Ollama can replace."""
        with suppress(ModelNotFound):
            if not self._current().registry.resolve(name).is_own:
                raise InvalidRequest(
                    f"'{name}' is a model of the Ollama behind this bridge, and is not replaced; choose another name"
                )


def _told(lines: list[bytes], *, stream: bool, status: int = 200) -> web.Response:
    """Progress that has ended: all of its lines, or the last."""
    if not stream:
        return web.Response(
            status=status, body=lines[-1].rstrip(b"\n"), headers={"Content-Type": ollama_manage.PLAIN_JSON}
        )
    response = web.Response(body=b"".join(lines), headers={"Content-Type": ollama.NDJSON})
    response.enable_chunked_encoding()
    return response


def _failed(begun: list[bytes], message: str, *, stream: bool) -> web.Response:
    """Progress that ended in an error: the status was out by then, if it was streamed."""
    return _told([*begun, ollama_manage.failure(message)], stream=stream, status=500)


def _refused(exc: BridgeError) -> web.Response:
    """An error that came before any progress."""
    return web.Response(
        status=exc.status, body=ollama.error_body(exc), headers={"Content-Type": ollama_manage.PLAIN_JSON}
    )
