from __future__ import annotations

import pytest

from worker.images.references import mirrored, parse_reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("app", "app:latest"),
        ("team/app:1.0_x", "team/app:1.0_x"),
        ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest"),
        ("[::1]:5000/app:1", "[::1]:5000/app:1"),
        ("Host.Example.org/a/b-c__d.e:V1", "Host.Example.org/a/b-c__d.e:V1"),
        (f"registry.example/app@{DIGEST}", f"registry.example/app@{DIGEST}"),
        (f"registry.example/app:1@{DIGEST}", f"registry.example/app@{DIGEST}"),
        (
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app:1",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app:1",
        ),
    ],
)
def test_names_are_read_as_engines_read_them(uri: str, shown: str) -> None:
    assert str(parse_reference(uri)) == shown


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "App",
        "a//b",
        "/app",
        "-app",
        "app:",
        "app:ä",
        "app:1:2",
        "app@",
        "app@sha256:123",
        f"app@{DIGEST}x",
        "app 1",
        "app\n",
        "team/../app",
        "host:port/app",
        "https://host/app",
        "a" * 600,
    ],
)
def test_what_is_no_name_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="not the name of an image"):
        parse_reference(uri)


@pytest.mark.parametrize(
    ("uri", "pulled"),
    [
        ("public.ecr.aws/lambda/python:3.13", "mirror:5000/ecr/lambda/python:3.13"),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:1", "mirror:5000/team/app:1"),
        # One part of a name only.
        ("123.dkr.ecr.eu/west.amazonaws.com/app:1", "123.dkr.ecr.eu/west.amazonaws.com/app:1"),
        ("python:3.13", "hub.mirror/library/python:3.13"),
        ("team/app:1", "hub.mirror/team/app:1"),
        ("docker.io/team/app:1", "hub.mirror/team/app:1"),
        # The longest prefix wins.
        ("docker.io/team/special:1", "special.mirror/x:1"),
        ("registry.example/public.ecr.aws/app:1", "registry.example/public.ecr.aws/app:1"),
        (f"public.ecr.aws/app@{DIGEST}", f"mirror:5000/ecr/app@{DIGEST}"),
    ],
)
def test_a_prefix_is_replaced(uri: str, pulled: str) -> None:
    prefixes = {
        "public.ecr.aws/": "mirror:5000/ecr/",
        "*.dkr.ecr.*.amazonaws.com/": "mirror:5000/",
        "docker.io/": "hub.mirror/",
        "docker.io/team/special": "special.mirror/x",
    }
    assert str(mirrored(parse_reference(uri), prefixes)) == pulled
