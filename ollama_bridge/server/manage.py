"""Ollama's management routes: what clients may change, and what they are told about accounts and the web.

A change goes through the configuration file, as the command line's does, and is in force when the client reads of its
success.
"""

from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, TypeAlias

from aiohttp import web

from ollama_bridge.config import making
from ollama_bridge.config.faults import suggestion
from ollama_bridge.errors import BridgeError, InvalidRequest, ModelNotFound, Unauthorized
from ollama_bridge.gateway import Gateway
from ollama_bridge.server.answering import Handlers, json_response
from ollama_bridge.server.blobs import Blobs
from ollama_bridge.server.connection import read_body
from ollama_bridge.server.middleware import MODEL
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
            "/api/blobs/{digest}": {"HEAD": self._blobs.head, "POST": self._blobs.post},
            "/api/me": {"POST": self.me},
            "/api/signout": {"POST": self.signout},
            "/api/user/keys/{key}": {"DELETE": self.signout},
            "/api/experimental/web_search": {"POST": self.search},
            "/api/experimental/web_fetch": {"POST": self.search},
            "/api/experimental/model-recommendations": {"GET": self.recommendations},
        }

    async def pull(self, request: web.Request) -> web.Response:
        """Show a model to clients; of one they see already nothing changes."""
        call = ollama_manage.decode_pull(await read_body(request))
        request[MODEL] = call.model
        call.check_pull()
        begun = [ollama_manage.progress("pulling manifest")]
        try:
            ollama_manage.refuse_cloud(call.model)
            if not self._sees(call.model):
                await self._edit(lambda draft: making.pull(draft, call.model))
            model = self._current().registry.resolve(call.model)
        except ModelNotFound:
            return _failed(begun, _UNKNOWN, stream=call.stream)
        except BridgeError as exc:
            return _failed(begun, str(exc), stream=call.stream)
        return _told(ollama_manage.pulled(model), stream=call.stream)

    async def push(self, request: web.Request) -> web.Response:
        """Say that there is nowhere to push to."""
        call = ollama_manage.decode_push(await read_body(request))
        request[MODEL] = call.model
        call.check_push()
        begun = [ollama_manage.progress("retrieving manifest")]
        if self._sees(call.model):
            message = (
                f"there is nowhere to push '{call.model}' to: the answers come from a provider, and its model cannot be "
                "uploaded to ollama.com"
            )
        else:
            begun.append(ollama_manage.progress("couldn't retrieve manifest"))
            message = ollama_manage.no_manifest(call.model)
        return _failed(begun, message, stream=call.stream)

    async def create(self, request: web.Request) -> web.Response:
        """Make a lasting model of one's own on top of another."""
        call = ollama_manage.decode_create(await read_body(request))
        request[MODEL] = call.model
        call.check()
        try:
            parent, said = call.made()
            await self._edit(lambda draft: making.create(draft, call.model, parent, said))
        except ModelNotFound as exc:
            known = [model.name.removesuffix(":latest") for model in self._current().registry.models()]
            return _refused(InvalidRequest(f"{exc}{suggestion(exc.name, known)}", status=404))
        except BridgeError as exc:
            return _refused(exc)
        model = self._current().registry.resolve(call.model)
        return _told(ollama_manage.created(model, said), stream=call.stream)

    async def copy(self, request: web.Request) -> web.Response:
        """Let a model be listed under one more name."""
        call = ollama_manage.decode_copy(await read_body(request))
        request[MODEL] = call.source
        call.check()
        if not self._sees(call.source):
            raise call.not_found()
        if not call.same:
            await self._edit(lambda draft: making.create(draft, call.destination, call.source, {}))
        return web.Response()

    async def delete(self, request: web.Request) -> web.Response:
        """Let clients no longer see a model."""
        call = ollama_manage.decode_delete(await read_body(request))
        request[MODEL] = call.model
        call.check_delete()
        gateway = self._current()
        name = gateway.registry.resolve(call.model).name
        await self._edit(lambda draft: making.remove(draft, call.model))
        gateway.shared.residency.touch(name, 0)
        return web.Response()

    async def me(self, request: web.Request) -> NoReturn:
        """Say that there is no account.

        Not by a 401: the command line would tell who pushes, or signs in, to sign in at ollama.com.
        """
        await read_body(request)
        raise BridgeError(
            "account unavailable: ollama-bridge has none at ollama.com, and needs none", status=503
        )

    async def signout(self, request: web.Request) -> NoReturn:
        """Nobody is signed in."""
        await read_body(request)
        raise Unauthorized("you are not currently signed in")

    async def search(self, request: web.Request) -> NoReturn:
        """A real server would ask ollama.com."""
        if not (await read_body(request)).strip():
            raise InvalidRequest("missing request body")
        raise BridgeError(
            "web search and web fetch are services of ollama.com, which this bridge does not reach",
            status=503,
        )

    async def recommendations(self, _: web.Request) -> web.Response:
        """The models that clients see."""
        return json_response(ollama_manage.recommendations_body(self._current().registry.models()))

    def _sees(self, name: str) -> bool:
        try:
            self._current().registry.resolve(name)
        except ModelNotFound:
            return False
        return True


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
