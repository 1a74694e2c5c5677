"""One function that does what it is told, in each language; what only a language can say differently is named here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """How the suite speaks to the functions of one runtime."""

    runtime: str
    #: The package: `app.handler` does what its event says.
    files: dict[str, str]
    #: The name of the list of frames in an error's body.
    trace: str
    #: What the initialisation must do to fail: with an error of its own, and by ending.
    raises_at_init: str
    ends_at_init: str
    #: Where a library lies in a layer and in a package, and one that says `ORIGIN`.
    layers_library: str
    own_library: str
    library: str


PYTHON = """
import json, os, sys, time
print("initialising")
if os.environ.get("FAIL") == "raise":
    raise ValueError("not to be initialised")
if os.environ.get("FAIL") == "exit":
    os._exit(3)
COUNT = 0

class Sorry(Exception):
    pass

def refuse():
    raise Sorry("not today")

def handler(event, context):
    global COUNT
    COUNT += 1
    do = event.get("do") if isinstance(event, dict) else None
    if do == "raise":
        refuse()
    if do == "exit":
        print("going")
        os._exit(event["code"])
    if do == "sleep":
        print("falling asleep")
        time.sleep(event["seconds"])
    if do == "eat":
        return len(b"x" * (event["mb"] << 20))
    if do == "make":
        return "ü" * event["characters"]
    if do == "print":
        for number in range(event["lines"]):
            print("line", number)
    if do == "import":
        import library
        return library.ORIGIN
    if do == "sdk":
        import boto3
        return boto3.client("s3").generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
    if do == "environment":
        return dict(os.environ)
    if do == "context":
        client, identity = context.client_context, context.identity
        return {
            "functionName": context.function_name,
            "functionVersion": context.function_version,
            "invokedFunctionArn": context.invoked_function_arn,
            "memoryLimitInMB": str(context.memory_limit_in_mb),
            "awsRequestId": context.aws_request_id,
            "logGroupName": context.log_group_name,
            "logStreamName": context.log_stream_name,
            "remainingMs": context.get_remaining_time_in_millis(),
            "custom": client and client.custom,
        }
    if do == "count":
        return {"count": COUNT, "stream": context.log_stream_name, "pid": os.getpid(), "uid": os.getuid()}
    return event
"""

NODE = """
const fs = require("fs");
console.log("initialising");
if (process.env.FAIL === "raise") throw new TypeError("not to be initialised");
if (process.env.FAIL === "exit") process.exit(3);
let count = 0;

class Sorry extends Error { constructor(message) { super(message); this.name = "Sorry"; } }

function refuse() { throw new Sorry("not today"); }

exports.handler = async (event, context) => {
  count += 1;
  switch (event?.do) {
    case "raise": refuse();
    case "exit":
      console.log("going");
      process.exit(event.code);
    case "sleep":
      console.log("falling asleep");
      await new Promise((resolve) => setTimeout(resolve, event.seconds * 1000));
      return;
    case "eat": return Buffer.alloc(event.mb << 20, "x").length;
    case "make": return "ü".repeat(event.characters);
    case "print":
      for (let number = 0; number < event.lines; number++) console.log("line", number);
      return;
    case "import": return require("library").ORIGIN;
    case "sdk": {
      const { S3Client, GetObjectCommand } = require("@aws-sdk/client-s3");
      const { getSignedUrl } = require("@aws-sdk/s3-request-presigner");
      return getSignedUrl(new S3Client({}), new GetObjectCommand({ Bucket: "b", Key: "k" }));
    }
    case "environment": return process.env;
    case "context": return {
      ...context,
      remainingMs: context.getRemainingTimeInMillis(),
      custom: context.clientContext?.custom ?? null,
    };
    case "count":
      return { count, stream: context.logStreamName, pid: process.pid, uid: process.getuid() };
  }
  return event;
};
"""


def _python(runtime: str) -> Language:
    return Language(
        runtime=runtime,
        files={"app.py": PYTHON},
        trace="stackTrace",
        raises_at_init="ValueError",
        ends_at_init="Runtime.ExitError",
        layers_library="python/library.py",
        own_library="library.py",
        library="ORIGIN = '{}'\n",
    )


def _node(runtime: str) -> Language:
    return Language(
        runtime=runtime,
        files={"app.js": NODE},
        trace="trace",
        raises_at_init="TypeError",
        ends_at_init="Runtime.ExitError",
        layers_library="nodejs/node_modules/library/index.js",
        own_library="node_modules/library/index.js",
        library="exports.ORIGIN = '{}';\n",
    )


LANGUAGES = {
    language.runtime: language for language in (_python("python3.13"), _node("nodejs20.x"), _node("nodejs22.x"))
}
