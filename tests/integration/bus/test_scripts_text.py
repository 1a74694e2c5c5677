"""What can be told from the text of the scripts."""

from __future__ import annotations

import inspect
import re
from importlib import resources

import pytest

from contract.bus.redis_bus import load_scripts
from contract.keys import PERMANENT_KEYS, Keys

FOLDER = resources.files("contract.bus") / "lua"
SCRIPTS = sorted(load_scripts())


def python_keys() -> set[str]:
    """Every key that Python builds, with `*` for what varies."""
    keys = Keys("c")
    found = set()
    for name, method in inspect.getmembers(keys, inspect.ismethod):
        if name.startswith("_"):
            continue
        stars = ["*" for _ in inspect.signature(method).parameters]
        found.add(method(*stars).removeprefix(keys.prefix).replace("*:*", "*"))
    return found


def lua_keys() -> set[str]:
    """Every key that the prelude builds, in the same form."""
    prelude = (FOLDER / "_prelude.lua").read_text()
    plain = re.findall(r"= P \.\. '([^']+)'", prelude)
    families = re.findall(r"return P \.\. '([^']+)' \.\. \w end", prelude)
    return {*plain, *(f"{name}*" for name in families)}


def test_the_prelude_and_python_build_the_same_keys() -> None:
    only_python = {"leader", "barrier"}

    assert python_keys() - only_python == lua_keys()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_takes_its_keys_from_the_prelude(name: str) -> None:
    text = (FOLDER / f"{name}.lua").read_text()

    assert not re.search(r"\bP \.\.|KEYS\[", text)
    assert not re.search(r"redis\.call\('\w+', '", text), "a key is written out"


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_header_of_a_script_tells_its_purpose_all_its_arguments_and_its_result(name: str) -> None:
    text = (FOLDER / f"{name}.lua").read_text()
    header = text[: re.search(r"^(?!--)", text, re.MULTILINE).start()]  # type: ignore[union-attr]

    assert re.match(r"-- [A-Z].{30}", header)
    told = re.search(r"-- args: (.+?)\n-- result: ", header, re.DOTALL)
    assert told, header
    without_remarks = re.sub(r"\([^()]*(\([^()]*\)[^()]*)*\)", "", told[1].replace("\n--", " "))
    arguments = [item for item in without_remarks.split(",") if item.strip()]
    used = {int(number) for number in re.findall(r"ARGV\[(\d+)\]", text)}
    assert max(used) <= len(arguments), f"{len(arguments)} told ({arguments}), {max(used)} used"
    if "#ARGV" not in text:
        assert used == set(range(1, len(arguments) + 1))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_short_enough_to_be_read_at_once(name: str) -> None:
    assert len((FOLDER / f"{name}.lua").read_text().splitlines()) <= 150


def test_the_permanent_keys_are_families_that_exist() -> None:
    known = python_keys() | {"rq:*"}

    for family in PERMANENT_KEYS:
        assert any(name.startswith(family) for name in known), family
