"""How a body is read, on every endpoint alike: `ollama-api.md` §0.1 and §4.2 over real sockets."""

import gzip
import json

import pytest
import zstandard

from contract_asking import ENDPOINTS, MANAGING, NATIVE_JSON, configured, without_id
from running import answer, ask, connect, running

every_endpoint = pytest.mark.parametrize("endpoint", [*ENDPOINTS, *MANAGING], ids=str)
each_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=str)

MALFORMED = [
    (b"{", "unexpected EOF"),
    (b'{"model":"plain"', "unexpected EOF"),
    (b'{"model":"pla', "unexpected EOF"),
    (b"not json", "invalid character 'o' in literal null (expecting 'u')"),
    (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
    (b"{'a':1}", "invalid character '\\'' looking for beginning of object key string"),
    (b'{"a" 1}', "invalid character '1' after object key"),
    (b"model=plain&prompt=x", "invalid character 'm' looking for beginning of value"),
    (b"\xef\xbb\xbf{}", "invalid character 'ï' looking for beginning of value"),
    (b"\x1f\x8b\x08\x00", r"invalid character '\x1f' looking for beginning of value"),
    (b"\x00", r"invalid character '\x00' looking for beginning of value"),
    (b"[]", "json: cannot unmarshal array into Go value of type {go_type}"),
    (b'"x"', "json: cannot unmarshal string into Go value of type {go_type}"),
    (b"5 {}", "json: cannot unmarshal number into Go value of type {go_type}"),
    (b"true", "json: cannot unmarshal bool into Go value of type {go_type}"),
    (b'{"KEY":5}', "json: cannot unmarshal number into Go struct field {struct}.{key} of type string"),
    (b'{"key":[]}', "json: cannot unmarshal array into Go struct field {struct}.{key} of type string"),
    (b'{"Key":{}} x', "json: cannot unmarshal object into Go struct field {struct}.{key} of type string"),
]


@every_endpoint
async def test_a_body_that_is_none_is_told_in_gos_words(endpoint, subtests):
    """400 in the surface's own envelope, with a charset and without a line end, whoever reads it."""
    nothing = "EOF" if endpoint.v1 else "missing request body"
    rows = [(b"", nothing), (b" \r\n\t", nothing), *MALFORMED]
    async with running(configured()) as daemon:
        for sent, told in rows:
            with subtests.test(sent):
                body, words = sent, told
                for spelled in (str.lower, str.upper, str.title):
                    body = body.replace(spelled("key").encode(), spelled(endpoint.key).encode())
                got = await ask(daemon.url, endpoint.method, endpoint.path, body)
                for name in ("go_type", "struct", "key"):
                    words = words.replace(f"{{{name}}}", getattr(endpoint, name))
                assert got.status == 400
                assert without_id(got.body) == endpoint.told(400, words)
                assert got.headers["Content-Type"] == NATIVE_JSON
                assert got.headers["Content-Length"] == str(len(got.body))


@every_endpoint
async def test_null_is_an_empty_request(endpoint):
    """As `{}`: told that no model is named, in the endpoint's own way (§4.1)."""
    status, words = endpoint.unnamed
    async with running(configured()) as daemon:
        for body in (b"null", b"{}", b' null{"model":"plain"}', b'{"model":null}', b'{"unknown":1}'):
            got = await ask(daemon.url, endpoint.method, endpoint.path, body)
            assert (got.status, without_id(got.body).rstrip("\n")) == (status, endpoint.told(status, words))


def _said(endpoint):
    """Ways to say the same."""
    plain = endpoint.body()
    text = json.dumps(plain)
    odd = "".join(letter.upper() if at % 2 else letter for at, letter in enumerate("model"))
    nulls = "images options format suffix system template context keep_alive think tools stop n seed".split()
    return {
        "junk behind it": f"{text} trailing junk",
        "a second value behind it": f'{text}{{"model":"nope"}}',
        "space around it": f"\r\n\t {text} \n",
        "keys in upper case": json.dumps({key.upper(): value for key, value in plain.items()}),
        "keys in odd case": json.dumps({odd: plain.pop("model"), **plain}),
        "the last of two wins": f'{{"model":"nope",{text[1:]}',
        "the last of two wins whatever its case": f'{{"MODEL":"nope",{text[1:]}',
        "unknown keys": json.dumps({"x": 1, "debug_render_only": "?", **endpoint.body()}),
        "nulls": json.dumps({**dict.fromkeys(nulls), **endpoint.body()}),
        "a null behind the value": f'{text[:-1]},"stream":null}}' if "stream" not in text else text,
        "escapes": text.replace("hi", r"h\u0069 \ud83d\ude00 \ud800"),
        "broken text": text.replace("hi", "h\udcff\udcfe").encode("utf-8", "surrogateescape"),
    }


@each_endpoint
async def test_what_a_real_server_bears_is_borne(endpoint, subtests):
    """Whatever stands behind the first value, however keys are written, and with nulls for what is not given."""
    async with running(configured()) as daemon:
        for name, body in _said(endpoint).items():
            with subtests.test(name):
                got = await ask(daemon.url, "POST", endpoint.path, body)
                assert (got.status, got.headers["Content-Type"]) == (200, endpoint.content_type)
                if endpoint.echo:
                    assert got.json[endpoint.echo] == endpoint.model


@each_endpoint
async def test_headers_do_not_change_how_a_body_is_read(endpoint, subtests):
    """Content-Type, Accept and keys are ignored."""
    kinds = ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data", "nonsense", "")
    async with running(configured()) as daemon:
        for kind in kinds:
            with subtests.test(kind):
                headers = {
                    "Content-Type": kind,
                    "Accept": "image/png",
                    "Authorization": "Bearer x",
                    "x-api-key": "y",
                }
                got = await ask(daemon.url, "POST", endpoint.path, endpoint.body(), headers)
                assert (got.status, got.headers["Content-Type"]) == (200, endpoint.content_type)


@each_endpoint
async def test_compression_is_zstd_and_for_v1_alone(endpoint):
    """Elsewhere it is no JSON, whatever the header says; gzip is none anywhere."""
    body = json.dumps(endpoint.body()).encode()
    async with running(configured()) as daemon:
        zstd = await ask(
            daemon.url, "POST", endpoint.path, zstandard.compress(body), {"Content-Encoding": "zstd"}
        )
        zipped = await ask(
            daemon.url, "POST", endpoint.path, gzip.compress(body), {"Content-Encoding": "gzip"}
        )
    assert zipped.status == 400
    assert without_id(zipped.body) == endpoint.told(
        400, r"invalid character '\x1f' looking for beginning of value"
    )
    assert zstd.status == (200 if endpoint.v1 else 400)
    if not endpoint.v1:
        assert zstd.json == {"error": "invalid character '(' looking for beginning of value"}


@each_endpoint
async def test_a_body_in_chunks_is_read_as_any_other(endpoint):
    """The command line sends some of its bodies so."""
    body = json.dumps(endpoint.body()).encode()
    async with running(configured()) as daemon:
        reader, writer = await connect(daemon.url)
        head = f"POST {endpoint.path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        middle = len(body) // 2
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:middle], body[middle:]))
        writer.write(head.encode() + chunks + b"0\r\n\r\n")
        got = await answer(reader)
        writer.close()
    assert got.status == 200


@each_endpoint
async def test_the_reply_is_framed_as_its_surface_frames_it(endpoint):
    """One object with its length; a line end behind it on /v1 alone; no Server (§0.2)."""
    async with running(configured()) as daemon:
        got = await ask(daemon.url, "POST", endpoint.path, endpoint.body())
        lost = await ask(daemon.url, "POST", endpoint.path, endpoint.body(model="nope"))
    assert got.headers.keys() <= {"Content-Type", "Content-Length", "Date"}
    for reply in (got, lost):
        assert reply.headers["Content-Length"] == str(len(reply.body))
        assert reply.headers["Content-Type"] == endpoint.content_type
        assert reply.body.endswith(b"}\n" if endpoint.v1 else b"}")
        assert reply.body.count(b"\n") == endpoint.v1
