"""What is particular to Node.js: kinds of modules and handlers, its errors, its log, its options."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.conformance.calls import FAST, Outcome, call, deploy, unique
from tests.conformance.layer_zips import Entry, layer_zip, program, publish
from tests.platform_under_test import ROLE, Platform

RUNTIMES = ["nodejs20.x", "nodejs22.x"]
NEWEST = "nodejs22.x"


def run(
    platform: Platform, files: str | dict[str, str], event: Any = None, runtime: str = NEWEST, **parameters: Any
) -> Outcome:
    """Deploy a function of Node.js and invoke it once; a string is `app.js`."""
    package = {"app.js": files} if isinstance(files, str) else files
    return call(platform, deploy(platform, package, Runtime=runtime, **parameters), event)


#: Does what its event says.
EVALUATE = """
globalThis.count = 0;
exports.handler = (event, context, callback) => {
  globalThis.count += 1;
  return new Function("event", "context", "callback", event.body)(event, context, callback);
};
"""


@pytest.fixture(scope="module", params=RUNTIMES)
def function(platform: Platform, request: pytest.FixtureRequest) -> str:
    """A function that runs the body of its event as a handler."""
    return deploy(platform, {"app.js": EVALUATE}, Runtime=request.param, Timeout=10)


def evaluate(platform: Platform, function: str, body: str, **event: Any) -> Outcome:
    return call(platform, function, {"body": body} | event)


# --- modules ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("files", "handler"),
    [
        ({"app.mjs": "export const handler = async (event) => [event, typeof require];"}, "app.handler"),
        (
            {
                "package.json": '{"type": "module"}',
                "app.js": "const given = await Promise.resolve(1);\nexport const handler = async (event) => "
                "[event, typeof require, given].slice(0, 2);",
            },
            "app.handler",
        ),
        (
            {"src/deep/app.mjs": "export const api = {handler: async (e) => [e, typeof require]}"},
            "src/deep/app.api.handler",
        ),
    ],
    ids=["mjs", "type", "nested"],
)
def test_es_modules_are_handlers(platform: Platform, runtime: str, files: dict[str, str], handler: str) -> None:
    outcome = run(platform, files, {"a": 1}, runtime, Handler=handler)

    assert outcome.payload == [{"a": 1}, "undefined"], outcome


def test_common_js_modules_are_handlers_wherever_they_are(platform: Platform) -> None:
    files = {
        "src/app.cjs": "exports.handler = async () => [__filename, require('./other')]",
        "src/other.js": "module.exports = 2",
    }

    assert run(platform, files, Handler="src/app.handler").payload == ["/var/task/src/app.cjs", 2]


ORIGINS = """
import { createRequire } from "node:module";
const require = createRequire(import.meta.url);
const names = ["@aws-sdk/client-sqs", "@aws-sdk/client-dynamodb"];
export const handler = async () => ({
  imported: names.map((name) => import.meta.resolve(name).split("@aws-sdk")[0]),
  required: names.map((name) => require.resolve(name).split("@aws-sdk")[0]),
});
"""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_functions_copy_of_the_sdk_wins_for_both_kinds_of_modules(platform: Platform, runtime: str) -> None:
    own = "node_modules/@aws-sdk/client-sqs"
    files = {"app.mjs": ORIGINS, f"{own}/package.json": '{"main": "index.js"}', f"{own}/index.js": ""}

    seen = run(platform, files, runtime=runtime).payload

    assert seen["imported"] == ["file:///var/task/node_modules/", "file:///var/runtime/node_modules/"]
    assert seen["required"] == ["/var/task/node_modules/", "/var/runtime/node_modules/"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_layers_copy_of_the_sdk_wins_over_the_runtimes(platform: Platform, runtime: str) -> None:
    own = "nodejs/node_modules/@aws-sdk/client-sqs"
    layer = publish(platform, {f"{own}/package.json": '{"main": "index.js"}', f"{own}/index.js": ""})

    seen = run(platform, {"app.mjs": ORIGINS}, runtime=runtime, Layers=[layer]).payload

    assert seen["imported"] == ["file:///opt/nodejs/node_modules/", "file:///var/runtime/node_modules/"]
    assert seen["required"] == ["/opt/nodejs/node_modules/", "/var/runtime/node_modules/"]


def test_common_js_finds_libraries_for_its_version_of_node_in_layers(platform: Platform) -> None:
    layer = publish(platform, {"nodejs/node22/node_modules/library/index.js": "exports.ORIGIN = 22;"})
    code = "exports.handler = async () => require('library').ORIGIN;"

    assert run(platform, code, Layers=[layer]).payload == 22
    assert run(platform, code, runtime="nodejs20.x", Layers=[layer]).payload["errorType"] == "Error"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_es_modules_use_the_sdk(platform: Platform, runtime: str) -> None:
    code = """
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { DynamoDBDocumentClient } from "@aws-sdk/lib-dynamodb";
const client = DynamoDBDocumentClient.from(new DynamoDBClient({}));
export const handler = async () => client.config.region();
"""
    assert run(platform, {"app.mjs": code}, runtime=runtime, Timeout=30, MemorySize=1024).payload == "us-east-1"


# --- handlers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ("callback(null, {a: 1})", {"a": 1}),
        ("setTimeout(() => callback(null, 'later'), 20)", "later"),
        ("context.succeed(3)", 3),
        ("context.done(null, [4])", [4]),
        ("return Promise.resolve(5)", 5),
        ("", None),
    ],
)
def test_callbacks_answer(platform: Platform, function: str, body: str, result: Any) -> None:
    outcome = evaluate(platform, function, body)

    assert (outcome.payload, outcome.error) == (result, None)


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("callback(new RangeError('no'))", "RangeError", "no"),
        ("callback('text')", "string", "text"),
        ("context.fail(new Error('failed'))", "Error", "failed"),
        ("return Promise.reject(new TypeError('rejected'))", "TypeError", "rejected"),
        ("throw new Error('thrown')", "Error", "thrown"),
    ],
)
def test_callbacks_answer_with_errors(platform: Platform, function: str, body: str, kind: str, message: str) -> None:
    outcome = evaluate(platform, function, body)

    assert outcome.error == "Unhandled"
    assert (outcome.payload["errorType"], outcome.payload["errorMessage"]) == (kind, message)


@pytest.mark.parametrize(("waits", "done"), [("true", True), ("false", False)])
def test_an_answer_waits_for_the_event_loop_unless_told_otherwise(
    platform: Platform, function: str, waits: str, done: bool
) -> None:
    body = f"""
  context.callbackWaitsForEmptyEventLoop = {waits};
  setTimeout(() => console.log("it is done"), 400);
  callback(null, "answered");
"""
    outcome = evaluate(platform, function, body)

    assert outcome.payload == "answered"
    assert ("it is done" in outcome.tail) is done


def test_many_invocations_of_one_environment_answer_in_turn(platform: Platform) -> None:
    name = deploy(platform, {"app.js": "let n = 0; exports.handler = async (e) => [++n, e.length]"}, Runtime=NEWEST)
    client = platform.client()

    answers = [call(platform, name, "x" * (number * 50_000), client=client).payload for number in range(40)]

    assert answers == [[number + 1, number * 50_000] for number in range(40)]


def test_a_streaming_handler_answers_an_ordinary_invocation(platform: Platform) -> None:
    code = """
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  stream.setContentType("application/json");
  stream.write('{"parts":');
  await new Promise((resolve) => setTimeout(resolve, 20));
  stream.write("2}");
  stream.end();
});
"""
    assert run(platform, code).payload == {"parts": 2}


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("Promise.reject(new RangeError('alone'))", "Runtime.UnhandledPromiseRejection", "RangeError: alone"),
        ("setTimeout(() => { throw new TypeError('out of turn') }, 5)", "TypeError", "out of turn"),
    ],
    ids=["rejection", "exception"],
)
def test_an_error_that_nobody_handles_is_the_answer_and_ends_the_process(
    platform: Platform, function: str, body: str, kind: str, message: str
) -> None:
    count = "callback(null, globalThis.count)"
    assert evaluate(platform, function, count).error is None

    outcome = evaluate(platform, function, f"{body}; return new Promise((resolve) => setTimeout(resolve, 900));")

    assert outcome.error == "Unhandled"
    assert (outcome.payload["errorType"], outcome.payload["errorMessage"]) == (kind, message)
    assert isinstance(outcome.payload["trace"], list)
    # An invocation that comes while the process ends, ends with it.
    platform.wait_until(lambda: evaluate(platform, function, count).payload == 1, "another process answers")


def test_an_answer_just_before_an_exit_arrives(platform: Platform) -> None:
    """The client writes it before anything else of the function's can run."""
    code = """
exports.handler = (event, context, callback) => {
  context.callbackWaitsForEmptyEventLoop = false;
  callback(null, "x".repeat(event.size));
  setImmediate(() => process.exit(1));
};
"""
    name = deploy(platform, {"app.js": code}, Runtime=NEWEST)

    for size in (10, 5_000_000, 10):
        outcome = call(platform, name, {"size": size})
        assert len(outcome.payload) == size, outcome.raw[:300]


def test_errors_are_shaped_as_lambda_shapes_them(platform: Platform) -> None:
    outcome = run(platform, "exports.handler = async () => { const e = new Error('no'); e.code = 42; throw e; }")

    assert set(outcome.payload) == {"errorType", "errorMessage", "trace"}
    assert outcome.payload["trace"][0] == "Error: no"
    assert outcome.payload["trace"][1].startswith("    at ")
    (line,) = [line for line in outcome.tail.splitlines() if "Invoke Error" in line]
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t"
        + outcome.request_id
        + r"\tERROR\tInvoke Error \t\{.*\"code\":42.*\}",
        line,
    )


def test_a_missing_module_is_named(platform: Platform) -> None:
    outcome = run(platform, "require('nothing-like-it'); exports.handler = async () => 1;")

    assert outcome.payload["errorType"] == "Runtime.ImportModuleError"
    assert outcome.payload["errorMessage"].startswith("Error: Cannot find module 'nothing-like-it'\nRequire stack:\n")
    assert "ERROR\tUncaught Exception" in outcome.tail


# --- log and options -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_log_has_lambdas_format(platform: Platform, runtime: str) -> None:
    code = """
exports.handler = async () => {
  console.log("hällo %s", {a: 1});
  console.debug("d"); console.info("i"); console.warn("w"); console.error(new Error("e").message); console.trace("t");
  process.stdout.write("raw\\n"); process.stderr.write("error\\n");
};
"""
    outcome = run(platform, code, runtime=runtime)

    lines = outcome.tail.splitlines()[1:-2]
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t" + outcome.request_id + r"\t"
    wanted = ["INFO\thällo { a: 1 }", "DEBUG\td", "INFO\ti", "WARN\tw", "ERROR\te", "TRACE\tt"]
    for line, text in zip(lines, wanted, strict=False):
        assert re.match(stamp + re.escape(text), line), line
    assert lines[-2:] == ["raw", "error"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_node_gets_lambdas_options_and_the_functions(platform: Platform, runtime: str) -> None:
    code = """
exports.handler = async () => ({
  version: process.version, options: process.execArgv, gc: typeof gc, path: process.env.NODE_PATH,
  heap_mb: require("v8").getHeapStatistics().heap_size_limit / 2 ** 20, deprecation: process.noDeprecation === true,
});
"""
    environment = {"Variables": {"NODE_OPTIONS": "--no-deprecation", "NODE_PATH": "/var/task/lib"}}
    seen = run(platform, code, runtime=runtime, MemorySize=1024, Environment=environment).payload

    major = runtime.removeprefix("nodejs").removesuffix(".x")
    assert seen["version"].startswith(f"v{major}.")
    assert "--max-old-space-size=922" in seen["options"]
    assert "--max-semi-space-size=51" in seen["options"]
    assert 922 <= seen["heap_mb"] <= 1200
    assert seen["gc"] == "function"
    assert seen["deprecation"] is True
    assert seen["path"] == (
        f"/opt/nodejs/node{major}/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task"
        ":/var/task/lib"
    )


def test_a_wrapper_starts_node(platform: Platform) -> None:
    files: dict[str, str | bytes | Entry] = {
        "app.js": "exports.handler = async () => [process.env.WRAPPED, process.title]",
        "wrapper": program('#!/bin/sh\nexport WRAPPED="$1"\nshift\nexec "$WRAPPED" --title=wrapped "$@"\n'),
    }
    client, name = platform.client(), f"f-{unique()[:12]}"
    client.create_function(
        FunctionName=name,
        Runtime=NEWEST,
        Role=ROLE,
        Handler="app.handler",
        # It keeps modes; other zips of the tests don't.
        Code={"ZipFile": layer_zip(files)},
        Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrapper"}},
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=FAST)

    assert call(platform, name).payload == ["/var/lang/bin/node", "wrapped"]
