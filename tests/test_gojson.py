"""JSON as Go reads and writes it; the expected texts were printed by Go 1.26's encoding/json."""

import contextlib
import json

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_bridge.errors import InvalidRequest
from ollama_bridge.surfaces import gojson
from ollama_bridge.surfaces.gotypes import (
    ANY,
    BOOL,
    IMAGE,
    INT,
    STRING,
    Custom,
    Itself,
    Map,
    Slice,
    Struct,
    decode,
)

MALFORMED = {
    b"": "missing request body",
    b" \r\n\t": "missing request body",
    b"{": "unexpected EOF",
    b'{"a"': "unexpected EOF",
    b'{"a":1': "unexpected EOF",
    b'"abc': "unexpected EOF",
    b'"a\\': "unexpected EOF",
    b'"a\\u12': "unexpected EOF",
    b"tru": "unexpected EOF",
    b"[1.": "unexpected EOF",
    b"-": "unexpected EOF",
    b"not json": "invalid character 'o' in literal null (expecting 'u')",
    b"[trux]": "invalid character 'x' in literal true (expecting 'e')",
    b"fAlse": "invalid character 'A' in literal false (expecting 'a')",
    b'{"a":1,}': "invalid character '}' looking for beginning of object key string",
    b"{a:1}": "invalid character 'a' looking for beginning of object key string",
    b"{'a':1}": r"invalid character '\'' looking for beginning of object key string",
    b'{"a" 1}': "invalid character '1' after object key",
    b'{"a":1 "b":2}': "invalid character '\"' after object key:value pair",
    b'{"a":1]': "invalid character ']' after object key:value pair",
    b"[1 2]": "invalid character '2' after array element",
    b"[01]": "invalid character '1' after array element",
    b"[1,]": "invalid character ']' looking for beginning of value",
    b"[,1]": "invalid character ',' looking for beginning of value",
    b"hello": "invalid character 'h' looking for beginning of value",
    b"NaN": "invalid character 'N' looking for beginning of value",
    b"[-x]": "invalid character 'x' in numeric literal",
    b"[1.x]": "invalid character 'x' after decimal point in numeric literal",
    b"[1e+x]": "invalid character 'x' in exponent of numeric literal",
    b"[1.5.2]": "invalid character '.' after array element",
    b'"a\nb"': r"invalid character '\n' in string literal",
    b'"a\x00b"': r"invalid character '\x00' in string literal",
    b'"a\\x"': "invalid character 'x' in string escape code",
    b'"a\\u12g4"': r"invalid character 'g' in \u hexadecimal character escape",
    b"\xef\xbb\xbf{}": "invalid character 'ï' looking for beginning of value",
    b"\x1f\x8b\x08": r"invalid character '\x1f' looking for beginning of value",
    b"\xa0{}": r"invalid character '\u00a0' looking for beginning of value",
    b"[" * 10_001: "invalid character '[' exceeded max depth",
    b'{"a":' * 10_001: "invalid character '{' exceeded max depth",
    b"[" * 1_000_000: "invalid character '[' exceeded max depth",
}

READ = {
    b'{"a":1} trailing junk': {"a": 1},
    b'{"a":1}{"a":2}': {"a": 1},
    b'{"a":1}\xff\xfe': {"a": 1},
    b'"x"y': "x",
    b"12x": 12,
    b"01": 0,
    b"null": None,
    b'"\xff\xe2\x82"': "\ufffd\ufffd\ufffd",
    b'"\xed\xa0\x80"': "\ufffd" * 3,
    rb'"\ud800"': "\ufffd",
    rb'"\ud800\u0041"': "\ufffdA",
    rb'"\udc00\ud83d\ude00"': "\ufffd😀",
    rb'"\\ud800"': "\\ud800",
    b'["\xff", 123456789012345678901234567890, -0, 1e3]': ["\ufffd", 1.2345678901234568e29, 0, 1000.0],
}


@pytest.mark.parametrize(("body", "message"), MALFORMED.items())
@pytest.mark.parametrize("large", [False, True])
def test_malformed_bodies_are_described_as_go_does(body, message, large, monkeypatch):
    """The same words, whether or not the body is large enough for the quick expressions."""
    monkeypatch.setattr(gojson, "LARGE_BYTES", 0 if large else 2**60)
    with pytest.raises(InvalidRequest) as caught:
        gojson.parse(body)
    assert str(caught.value) == message
    assert caught.value.status == 400


@pytest.mark.parametrize(("body", "value"), READ.items())
def test_only_the_first_value_counts_and_text_is_repaired(body, value):
    """What follows is ignored; every bad byte and every lone surrogate becomes U+FFFD."""
    assert gojson.parse(body) == value


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("depth", [1_100, 9_990])
def test_deep_nesting_below_gos_limit_is_read(depth, large, monkeypatch):
    """No recursion anywhere: fields beside a very deep value are read as usual."""
    monkeypatch.setattr(gojson, "LARGE_BYTES", 0 if large else 2**60)
    body = b'{"deep":' + b'[{"x":' * (depth // 2) + b"1" + b"}]" * (depth // 2) + b',"a":"b"}'
    assert gojson.parse(body)["a"] == "b"


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_are_read_or_refused(body):
    """Nothing but InvalidRequest comes out."""
    with contextlib.suppress(InvalidRequest):
        gojson.parse(body)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(json_values, st.sampled_from([None, 0, 1, 3]), st.booleans())
def test_the_scanner_ends_where_the_value_ends(value, indent, large):
    """Any value, written any way, followed by anything, is found whole."""
    body = json.dumps(value, indent=indent).encode()
    threshold, gojson.LARGE_BYTES = gojson.LARGE_BYTES, 0 if large else 2**60
    try:
        found = gojson.first_value(body + b" \xff")
    finally:
        gojson.LARGE_BYTES = threshold
    assert orjson.loads(found) == orjson.loads(body)


@settings(deadline=None)
@given(json_values)
def test_escaping_changes_no_meaning(value):
    """Go's escapes are only another spelling; none of the five characters is left bare."""
    encoded = gojson.dump(value)
    assert json.loads(encoded) == json.loads(orjson.dumps(value))
    assert not any(bare in encoded for bare in (b"<", b">", b"&", "\u2028".encode(), "\u2029".encode()))


def test_what_orjson_cannot_write_is_written():
    """Lone surrogates, large integers and deep values come from providers, and must not end a stream."""
    assert json.loads(gojson.dump("a\ud800b")) == "a\ufffdb"
    assert json.loads(gojson.dump({"n": 2**80, "é": "<"})) == {"n": 2**80, "é": "<"}
    deep = []
    for _ in range(300):
        deep = [deep]
    assert json.loads(gojson.dump(deep)) == deep


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain", '"plain"'),
        ('a"b\\', r'"a\"b\\"'),
        ("\n\x01\x7f\xad\U000e0001", r'"\n\x01\x7f\u00ad\U000e0001"'),
        ("é", '"é"'),
    ],
)
def test_quoting(text, quoted):
    """As Go's %q."""
    assert gojson.quote(text) == quoted


def _refuse(value):
    raise InvalidRequest(f"custom says no to {value}")


INNER = Struct("Inner", {"n": INT, "deeper": Struct("Deeper", {"s": STRING})})
OUTER = Struct(
    "Outer",
    {
        "s": STRING,
        "b": BOOL,
        "n": INT,
        "any": ANY,
        "map": Map(),
        "ints": Slice("[]int", INT, 0),
        "inner": INNER,
        "many": Slice("[]api.Inner", INNER, {}),
        "itself": Slice("[]api.Itself", Itself(Struct("Alias", {"s": STRING, "inner": INNER})), {}),
        "images": Slice("[]api.ImageData", IMAGE, ""),
        "custom": Custom(_refuse),
    },
)


@pytest.mark.parametrize(
    ("body", "message"),
    {
        b"[]": "array into Go value of type api.Outer",
        b"5": "number into Go value of type api.Outer",
        b'{"s":5}': "number into Go struct field Outer.s of type string",
        b'{"b":"yes"}': "string into Go struct field Outer.b of type bool",
        b'{"B":1}': "number into Go struct field Outer.b of type bool",
        b'{"n":true}': "bool into Go struct field Outer.n of type int",
        b'{"n":1.50}': "number 1.50 into Go struct field Outer.n of type int",
        b'{"n":1e2}': "number 1e2 into Go struct field Outer.n of type int",
        b'{"n":99999999999999999999}': "number 99999999999999999999 into Go struct field Outer.n of type int",
        b'{"n":9223372036854775808}': "number 9223372036854775808 into Go struct field Outer.n of type int",
        b'{"n":1e999}': "number 1e999 into Go struct field Outer.n of type int",
        b'{"n":1%s}' % (b"0" * 5000): "number 1%s into Go struct field Outer.n of type int" % ("0" * 5000),
        b'{"map":[]}': "array into Go struct field Outer.map of type map[string]interface {}",
        b'{"ints":{}}': "object into Go struct field Outer.ints of type []int",
        b'{"ints":[1,"a"]}': "string into Go struct field Outer.ints of type int",
        b'{"inner":"x"}': "string into Go struct field Outer.inner of type api.Inner",
        b'{"inner":{"deeper":{"s":[]}}}': "array into Go struct field Deeper.inner.deeper.s of type string",
        b'{"many":[{},{"n":"x"}]}': "string into Go struct field Inner.many.n of type int",
        b'{"itself":[5]}': "number into Go struct field Outer.itself of type api.Alias",
        b'{"itself":[{"s":1}]}': "number into Go struct field Outer.itself.s of type string",
        b'{"itself":[{"inner":{"n":""}}]}': "string into Go struct field Outer.itself.inner.n of type int",
        b'{"s":1,"b":2}': "number into Go struct field Outer.s of type string",
        b'{"s":1,"itself":[{"s":1}]}': "number into Go struct field Outer.itself.s of type string",
        b'{"images":[[1,300]]}': "number 300 into Go struct field Outer.images of type uint8",
    }.items(),
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_named_as_go_names_it(body, message):
    """The innermost struct, the whole path, the Go type, the number as written."""
    with pytest.raises(InvalidRequest) as caught:
        decode(body, OUTER)
    assert str(caught.value) == "json: cannot unmarshal " + message


def test_a_type_that_decodes_itself_wins_over_an_earlier_mismatch():
    """Go only notes a wrong type and goes on, but stops at a custom decoder's error."""
    with pytest.raises(InvalidRequest, match="custom says no to 5"):
        decode(b'{"s":5,"many":[{"n":"x"}],"custom":5}', OUTER)


@pytest.mark.parametrize(
    ("body", "found"),
    {
        b"null": {},
        b"{}": {},
        b'{"S":"a","zzz":[1],"\\u017f":"b"}': {"s": "b"},
        b'{"s":"a","b":true,"s":"c"}': {"s": "c", "b": True},
        b'{"s":null,"n":null,"map":null,"custom":null,"itself":null}': {},
        b'{"ints":[null,2],"many":[null],"itself":[null]}': {"ints": [0, 2], "many": [{}], "itself": [{}]},
        b'{"any":1.5,"map":{"x":null}}': {"any": 1.5, "map": {"x": None}},
        b'{"images":["iVBORw0KGgo=","iVBO\\r\\nRw0KGgo=",[137,80],null,""]}': {
            "images": ["iVBORw0KGgo=", "iVBORw0KGgo=", "iVA=", "", ""]
        },
    }.items(),
)
def test_fields_are_read_as_go_reads_them(body, found):
    """Keys of any case, unknown keys ignored, the last duplicate wins, null is absence."""
    assert decode(body, OUTER) == found


@pytest.mark.parametrize(
    ("data", "position"),
    {
        "!!": 0, "data:image/png;base64,iVBORw0KGgo=": 4, "QQ": 0, "QUJDQ": 4, "QQ=": 3, "Q===": 1, "====": 0,
        "QQ==QQ==": 4, "QUI=QUI=": 4, "QQ=Q": 2, "QUI-": 3, "QUI_": 3, "QQ\n=": 4, "QQ=\n=x": 5, "QQ é": 2, "QUI=\nx": 5,
    }.items(),
)  # fmt: skip
def test_corrupt_base64_is_located_as_go_locates_it(data, position):
    """`illegal base64 data at input byte N`, line breaks counted."""
    with pytest.raises(InvalidRequest) as caught:
        decode(orjson.dumps({"images": [data]}), OUTER)
    assert str(caught.value) == f"illegal base64 data at input byte {position}"
