"""New values with the text of old ones that are the same: what a diff of expected files shows."""

from __future__ import annotations

import pytest

from ductaflow.common.rules import Rule
from ductaflow.comparison.kept_text import read_written, spelled_json, updated, updated_table

#: Old JSON, new JSON, what is written with added keys and those that are gone left alone, then without them.
JSON = {
    "a number within tolerance": ('{"a": 0.3100}', '{"a": 0.31000001}', '{"a":0.3100}', None),
    "one beyond it": ('{"a": 0.3100}', '{"a": 0.4}', '{"a":0.4}', None),
    "integers are exact": ('{"a": 10000000}', '{"a": 10000001}', '{"a":10000001}', None),
    "how a number is written": (
        '{"a": 1E5, "b": NaN}',
        '{"a": 100000.0, "b": null}',
        '{"a":1E5,"b":NaN}',
        None,
    ),
    "keys are sorted": ('{"b": 1, "a": 2}', '{"b": 1, "a": 3}', '{"a":3,"b":1}', None),
    "added": ('{"b": 1}', '{"b": 1, "a": {"c": []}}', '{"b":1}', '{"a":{"c":[]},"b":1}'),
    "gone": ('{"a": 1, "b": {"c": 1}}', '{"b": {}}', '{"a":1,"b":{"c":1}}', '{"b":{}}'),
    "a list of another length": ("[1.0, 2.0]", "[1.00000001, 2, 3]", "[1.00000001,2,3]", None),
    "a list of the same": ("[1.0, 2.0]", "[1.00000001, 3]", "[1.0,3]", None),
    "another kind": ('{"a": {"b": 1}}', '{"a": "1"}', '{"a":"1"}', None),
    "what is ignored": (
        '{"x": {"created": 1}, "y": 1}',
        '{"x": 2, "y": 2}',
        '{"x":{"created":1},"y":2}',
        None,
    ),
}


@pytest.mark.parametrize("name", JSON)
def test_json(name: str) -> None:
    """Values that are the same keep their text; keys come and go only where that is asked for."""
    old, new, kept, whole = JSON[name]
    rule = Rule(ignore=("x",))
    for expected, is_whole in ((kept, False), (whole or kept, True)):
        value = updated(
            read_written(old), read_written(new), rule, with_added=is_whole, without_gone=is_whole
        )
        text = spelled_json(value)
        assert expected == "".join(text.split())


def test_one_key_a_line() -> None:
    """Nested ones too, so that two people who change different keys change different lines."""
    text = spelled_json(read_written('{"b": {"d": [1, {}], "c": "é"}, "a": true}'))
    assert '{\n "a": true,\n "b": {\n  "c": "é",\n  "d": [\n   1,\n   {}\n  ]\n }\n}' == text


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', "{", "", "[1,]", "[" * 100_000])
def test_what_is_no_json(text: str) -> None:
    """It is refused, and taken as it is by who accepts it; a key that is twice would be lost."""
    with pytest.raises((ValueError, RecursionError)):
        read_written(text)


#: Old, new, and what is written.
TABLES = {
    "within tolerance": ("h,x\n1,0.50\n2,3\n", "h,x\n1,0.5000000001\n2,4\n", "h,x\n1,0.50\n2,4\n"),
    "more rows": ("h,x\n1,0.50\n", "h,x\n1,0.5\n2,7\n", "h,x\n1,0.50\n2,7\n"),
    "fewer rows": ("h,x\n1,0.50\n2,7\n", "h,x\n1,0.5\n", "h,x\n1,0.50\n"),
    "other columns": ("h,x\n1,0.50\n", "h,x,y\n1,0.5,1\n", "h,x,y\n1,0.5,1\n"),
    "semicolons": ("h;x\n1;0.50\n", "h;x\n1;0.5\n", "h;x\n1;0.50\n"),
    "quotes": ('h,x\n"a,b",0.50\n', 'h,x\n"a,b",0.5\n', 'h,x\n"a,b",0.5\n'),
    "a broken row": ("h,x\n1,0.50,3\n", "h,x\n1,0.5\n", "h,x\n1,0.5\n"),
    "what is ignored": ("h,now\n1,10:00\n", "h,now\n2,11:00\n", "h,now\n2,10:00\n"),
    "a key keeps no text": ("key,x\n1.0,0.50\n", "key,x\n1,0.5\n", "key,x\n1,0.50\n"),
    "words and gaps": ("h,x\n1,NA\n2,\n", "h,x\n1,na\n2,0\n", "h,x\n1,na\n2,0\n"),
    "no number of Python": ("h,x\n1,1_0\n2,٣\n", "h,x\n1,10\n2,3\n", "h,x\n1,10\n2,3\n"),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables(name: str) -> None:
    """Cells that are the same keep their text, by position; all else is the new text."""
    old, new, expected = TABLES[name]
    assert expected == updated_table("x.csv", old, new, Rule(ignore=("now",), key=("key",)))


def test_tabs() -> None:
    """A TSV has cells between tabs, whatever else is in them."""
    assert "a,b\tx\n1,2\t0.50\n" == updated_table(
        "x.tsv", "a,b\tx\n1,2\t0.50\n", "a,b\tx\n1,2\t0.5\n", Rule()
    )
