"""Functions with layers: what they find in `/opt`, and what changes, deletions and refusals do to them."""

from __future__ import annotations

import base64
import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.conformance.calls import ACCOUNT, FAST, REGION, Refusal, call, deploy, refusal
from tests.conformance.calls import publish as publish_version
from tests.conformance.layer_zips import Entry, layer_name, layer_zip, link, program, publish, zeros
from tests.platform_under_test import ROLE, RUNTIME, Platform, package

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer"
SITE_PACKAGES = f"python/lib/{RUNTIME}/site-packages"

#: Evaluates what it is asked, with `/opt` in sight.
LOOK = """
import ctypes, os, stat, subprocess, sys
MARK = os.urandom(8).hex()
def handler(event, context):
    return eval(event)
"""


def look(platform: Platform, name: str, expression: str, **parameters: Any) -> Any:
    outcome = call(platform, name, expression, **parameters)
    assert outcome.error is None, outcome.raw
    return outcome.payload


def configure(platform: Platform, name: str, **members: Any) -> None:
    client = platform.client()
    client.update_function_configuration(FunctionName=name, **members)
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=FAST)


def blob_names(platform: Platform) -> set[str]:
    return {path.name for path in (platform.state_dir / "blobs").rglob("*") if path.is_file()}


# --- what a function finds -------------------------------------------------------------------------------------------


def test_a_function_imports_from_its_layers(platform: Platform) -> None:
    layer = publish(platform, {"python/plain.py": "FROM = 'python'\n", f"{SITE_PACKAGES}/deep.py": "FROM = 'site'\n"})

    name = deploy(platform, LOOK, Layers=[layer])

    assert look(platform, name, "__import__('plain').FROM") == "python"
    assert look(platform, name, "__import__('deep').FROM") == "site"
    assert look(platform, name, "__import__('plain').__file__") == "/opt/python/plain.py"


def test_the_functions_own_code_comes_before_its_layers(platform: Platform) -> None:
    layer = publish(platform, {"python/shared.py": "FROM = 'layer'\n", f"{SITE_PACKAGES}/both.py": "FROM = 'site'\n",
                               "python/both.py": "FROM = 'python'\n"})  # fmt: skip

    name = deploy(platform, {"app.py": LOOK, "shared.py": "FROM = 'function'\n"}, Layers=[layer])

    assert look(platform, name, "__import__('shared').FROM") == "function"
    assert look(platform, name, "__import__('both').FROM") == "site"


def test_a_layers_library_comes_before_the_runtimes_own(platform: Platform) -> None:
    layer = publish(platform, {"python/boto3/__init__.py": "__version__ = 'mine'\n"})

    name = deploy(platform, LOOK, Layers=[layer])

    assert look(platform, name, "__import__('boto3').__version__") == "mine"


def test_programs_of_a_layer_are_found_and_run(platform: Platform) -> None:
    layer = publish(platform, {"bin/greet-from-layer": program("#!/bin/sh\necho hello from $0\n")})

    name = deploy(platform, LOOK, Layers=[layer])

    assert look(platform, name, "os.environ['PATH'].split(':')[-1]") == "/opt/bin"
    said = look(platform, name, "subprocess.run(['greet-from-layer'], capture_output=True, text=True).stdout")
    assert said == "hello from /opt/bin/greet-from-layer\n"


def test_shared_libraries_of_a_layer_are_found(platform: Platform) -> None:
    # A library that certainly loads there, by a name that is certainly nowhere else.
    probe = deploy(platform, LOOK)
    libm = "next(line.split()[-1] for line in open('/proc/self/maps') if '/libm.so' in line or '/libm-' in line)"
    encoded = look(platform, probe, f"__import__('base64').b64encode(open({libm}, 'rb').read()).decode()")
    layer = publish(platform, {"lib/liblayered.so": base64.b64decode(encoded)})

    name = deploy(platform, LOOK, Layers=[layer])

    assert look(platform, name, "os.environ['LD_LIBRARY_PATH'].split(':')[-1]") == "/opt/lib"
    assert look(platform, name, "ctypes.CDLL('liblayered.so').abs is not None and 'loaded'") == "loaded"
    assert "/opt/lib/liblayered.so" in look(
        platform, name, "(ctypes.CDLL('liblayered.so'), open('/proc/self/maps').read())[1]"
    )


def test_modes_and_links_are_kept_and_nothing_can_be_written(platform: Platform) -> None:
    layer = publish(
        platform,
        {
            "data/plain.txt": "plain",
            "data/tool": program("#!/bin/sh\n"),
            "data/secret": Entry(data=b"x", mode=0o600),
            "data/alias.txt": link("plain.txt"),
            "python/linked.py": link("real.py"),
            "python/real.py": "FROM = 'real'\n",
            "up": link("data"),
        },
    )

    name = deploy(platform, LOOK, Layers=[layer])

    modes = look(platform, name, "[os.stat('/opt/data/' + n).st_mode & 0o777 for n in ('plain.txt', 'tool')]")
    assert modes == [0o644, 0o755]
    # Whether it can be executed is all that is kept of a mode: everything can be read.
    assert look(platform, name, "open('/opt/data/secret').read()") == "x"
    assert look(platform, name, "os.readlink('/opt/data/alias.txt')") == "plain.txt"
    assert look(platform, name, "open('/opt/up/alias.txt').read()") == "plain"
    assert look(platform, name, "__import__('linked').FROM") == "real"
    assert look(platform, name, "[os.access(p, os.W_OK) for p in ('/opt', '/opt/data/plain.txt')]") == [False, False]
    assert look(platform, name, "os.statvfs('/opt').f_flag & os.ST_RDONLY") == 1


def test_five_layers_are_merged_in_order_and_later_ones_win(platform: Platform) -> None:
    layers = [
        publish(
            platform,
            {
                "order.txt": str(number),
                f"own/{number}.txt": str(number),
                # Each replaces what the one before has at this path, whatever kind it is.
                "kind": ["file", link("order.txt"), "file again", link("own"), "the last file"][number],
                f"pair/{number // 2}.txt": str(number),
            },
        )
        for number in range(5)
    ]

    name = deploy(platform, LOOK, Layers=layers)

    assert look(platform, name, "open('/opt/order.txt').read()") == "4"
    assert look(platform, name, "sorted(os.listdir('/opt/own'))") == [f"{number}.txt" for number in range(5)]
    assert look(platform, name, "[open(f'/opt/pair/{n}.txt').read() for n in range(3)]") == ["1", "3", "4"]
    assert look(platform, name, "os.path.islink('/opt/kind'), open('/opt/kind').read()") == [False, "the last file"]

    configure(platform, name, Layers=layers[::-1])

    assert look(platform, name, "open('/opt/order.txt').read()") == "0"
    assert look(platform, name, "[open(f'/opt/pair/{n}.txt').read() for n in range(3)]") == ["0", "2", "4"]
    shown = platform.client().get_function_configuration(FunctionName=name)["Layers"]
    assert [one["Arn"] for one in shown] == layers[::-1]


def test_functions_share_layers_and_differ_in_them(platform: Platform) -> None:
    common = publish(platform, {"common.txt": "common", "which.txt": "common"})
    one, two = (publish(platform, {"which.txt": which}) for which in ("one", "two"))

    names = [deploy(platform, LOOK, Layers=layers) for layers in ([common, one], [common, two], [common])]

    found = [look(platform, name, "open('/opt/common.txt').read(), open('/opt/which.txt').read()") for name in names]
    assert found == [["common", "one"], ["common", "two"], ["common", "common"]]


# --- changes ---------------------------------------------------------------------------------------------------------


def test_a_change_of_layers_takes_effect_and_published_versions_keep_theirs(platform: Platform) -> None:
    name_of_layer = layer_name()
    first, second = (publish(platform, {"python/dep.py": f"N = {n}\n"}, name=name_of_layer) for n in (1, 2))
    name = deploy(platform, LOOK, Layers=[first])
    assert look(platform, name, "__import__('dep').N") == 1
    version = publish_version(platform, name)

    configure(platform, name, Layers=[second])
    assert look(platform, name, "__import__('dep').N") == 2
    # An update that names no layers keeps them.
    configure(platform, name, Timeout=9)
    assert look(platform, name, "__import__('dep').N") == 2

    configure(platform, name, Layers=[])
    assert "No module named 'dep'" in str(call(platform, name, "__import__('dep').N").payload["errorMessage"])
    assert "Layers" not in platform.client().get_function_configuration(FunctionName=name)
    assert look(platform, name, "__import__('dep').N", Qualifier=version) == 1


def test_a_function_shows_its_layers_with_their_sizes(platform: Platform) -> None:
    data = layer_zip({"python/dep.py": "N = 1\n"})
    made = platform.client().publish_layer_version(LayerName=layer_name(), Content={"ZipFile": data})

    name = deploy(platform, LOOK, Layers=[made["LayerVersionArn"]])

    expected = [{"Arn": made["LayerVersionArn"], "CodeSize": len(data)}]
    client = platform.client()
    assert client.get_function_configuration(FunctionName=name)["Layers"] == expected
    assert client.get_function(FunctionName=name)["Configuration"]["Layers"] == expected


def test_a_deleted_layer_version_goes_on_working_where_it_is_used(platform: Platform) -> None:
    name_of_layer, client = layer_name(), platform.client()
    arn = publish(platform, {"python/dep.py": "N = 1\n"}, name=name_of_layer)
    name = deploy(platform, LOOK, Layers=[arn])
    warm = look(platform, name, "MARK, __import__('dep').N")
    code_sha256 = client.get_layer_version(LayerName=name_of_layer, VersionNumber=1)["Content"]["CodeSha256"]

    client.delete_layer_version(LayerName=name_of_layer, VersionNumber=1)

    assert look(platform, name, "MARK, __import__('dep').N") == warm
    # A new release, and with it a cold start.
    configure(platform, name, Environment={"Variables": {"NEW": "1"}})
    cold = look(platform, name, "MARK, __import__('dep').N")
    assert cold[0] != warm[0]
    assert cold[1] == 1
    assert base64.b64decode(code_sha256).hex() in blob_names(platform)
    assert client.get_function_configuration(FunctionName=name)["Layers"][0]["Arn"] == arn
    gone = refusal(client.update_function_configuration, FunctionName=name, Layers=[arn])
    assert_refused(gone, f"Layer version {arn} does not exist.")
    assert publish(platform, {"a": "b"}, name=name_of_layer) == f"{ARN}:{name_of_layer}:2"


# --- refusals --------------------------------------------------------------------------------------------------------


def assert_refused(answer: Refusal, text: str) -> None:
    assert (answer.status, answer.code) == (400, "InvalidParameterValueException")
    assert answer.message == text


def create_refused(platform: Platform, layers: list[str], *, code: bytes | None = None) -> Refusal:
    """Try to create a function; return how it was refused, after looking that nothing of it is left."""
    name, client = f"f-{layer_name()}", platform.client()
    data = code or package(f"# {name}\n{LOOK}")
    answer = refusal(
        client.create_function,
        FunctionName=name,
        Role=ROLE,
        Runtime=RUNTIME,
        Handler="app.handler",
        Code={"ZipFile": data},
        Layers=layers,
    )
    assert refusal(client.get_function, FunctionName=name).status == 404
    assert hashlib.sha256(data).hexdigest() not in blob_names(platform)
    return answer


def test_six_layers_are_refused(platform: Platform) -> None:
    layers = [publish(platform, {"n.txt": str(number)}) for number in range(6)]
    name = deploy(platform, LOOK, Layers=layers[:5])
    before = platform.client().get_function_configuration(FunctionName=name)

    assert_refused(create_refused(platform, layers), "Cannot reference more than 5 layers.")
    assert_refused(
        refusal(platform.client().update_function_configuration, FunctionName=name, Layers=layers),
        "Cannot reference more than 5 layers.",
    )
    assert platform.client().get_function_configuration(FunctionName=name)["RevisionId"] == before["RevisionId"]


def test_two_versions_of_one_layer_are_refused(platform: Platform) -> None:
    name_of_layer = layer_name()
    first, second = (publish(platform, {"n.txt": n}, name=name_of_layer) for n in "12")
    name = deploy(platform, LOOK, Layers=[first])
    text = (
        "Two different versions of the same layer are not allowed to be referenced in the same function."
        f" {first} and {second} are versions of the same layer."
    )

    assert_refused(create_refused(platform, [first, second]), text)
    assert_refused(
        refusal(platform.client().update_function_configuration, FunctionName=name, Layers=[first, second]), text
    )
    assert look(platform, name, "open('/opt/n.txt').read()") == "1"


def test_layers_that_are_not_there_or_not_ones_own_are_refused(platform: Platform) -> None:
    theirs = publish(platform, {"a": "b"}, client=platform.client(account="111111111111"))
    elsewhere = publish(platform, {"a": "b"}, client=platform.client(region="eu-west-1"))
    missing = f"{ARN}:{layer_name()}:1"

    assert_refused(create_refused(platform, [missing]), f"Layer version {missing} does not exist.")
    assert_refused(
        create_refused(platform, [elsewhere]),
        f"Layers are not in the same region as the function. Layers are expected to be in region {REGION}.",
    )
    answer = create_refused(platform, [theirs])
    assert (answer.status, answer.code) == (403, "AccessDeniedException")
    assert answer.message == (
        f"User: arn:aws:iam::{ACCOUNT}:root is not authorized to perform: lambda:GetLayerVersion on resource: {theirs}"
        " because no resource-based policy allows the lambda:GetLayerVersion action"
    )
    answer = create_refused(platform, ["no-arn"])
    assert (answer.status, answer.code) == (400, "ValidationException")
    assert answer.message.startswith("1 validation error detected: Value '[no-arn]' at 'layers' failed to satisfy")


def test_code_and_layers_over_250_mb_together_are_refused(platform: Platform) -> None:
    client = platform.client()
    layers = [
        client.publish_layer_version(LayerName=layer_name(), Content={"ZipFile": zeros(140 << 20)})["LayerVersionArn"]
        for _ in range(2)
    ]

    assert_refused(create_refused(platform, layers), "Layers consume more than the available size of 262144000 bytes")
    answer = create_refused(platform, layers[:1], code=zeros(120 << 20))
    assert answer.code == "InvalidParameterValueException"
    assert answer.message.startswith(
        "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. The actual size is"
    )


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"no zip", "Could not unzip uploaded file. Please check your file, then try to upload again."),
        (layer_zip({"../up": "x"}), "Could not unzip uploaded file. Please check your file, then try to upload again."),
        (
            layer_zip({"up": link("../../etc")}),
            "Could not unzip uploaded file. Please check your file, then try to upload again.",
        ),
        (zeros(251 << 20), "Unzipped size must be smaller than 262144000 bytes"),
    ],
    ids=["no zip", "a path that leaves", "a link that leaves", "too large"],
)
def test_bad_contents_are_refused_and_nothing_of_them_is_left(platform: Platform, data: bytes, text: str) -> None:
    name, client = layer_name(), platform.client()

    answer = refusal(client.publish_layer_version, LayerName=name, Content={"ZipFile": data})

    assert_refused(answer, text)
    assert client.list_layer_versions(LayerName=name)["LayerVersions"] == []
    assert hashlib.sha256(data).hexdigest() not in blob_names(platform)


def test_concurrent_publishers_get_distinct_numbers(platform: Platform) -> None:
    name = layer_name()

    with ThreadPoolExecutor(8) as threads:
        arns = list(threads.map(lambda number: publish(platform, {"n": str(number)}, name=name), range(16)))

    assert sorted(int(arn.rpartition(":")[2]) for arn in arns) == list(range(1, 17))


def test_the_link_to_a_layers_contents_opens_them(platform: Platform) -> None:
    data, client = layer_zip({"a": layer_name()}), platform.client()
    name = layer_name()

    made = client.publish_layer_version(LayerName=name, Content={"ZipFile": data})
    again = client.get_layer_version(LayerName=name, VersionNumber=1)

    for answer in (made, again):
        assert httpx.get(answer["Content"]["Location"]).content == data
        assert answer["Content"]["CodeSha256"] == base64.b64encode(hashlib.sha256(data).digest()).decode()
