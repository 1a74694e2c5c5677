"""Takes an order by calling another function: once to ask and wait for the answer, once only to tell."""

import json

import boto3

# Inside a function, AWS_ENDPOINT_URL_LAMBDA leads to the platform that runs it.
functions = boto3.client("lambda")


def handler(event, context):
    item, count = event["item"], event["count"]

    answer = functions.invoke(FunctionName="stock", Payload=json.dumps({"ask": item}))
    stock = json.load(answer["Payload"])
    if "FunctionError" in answer:
        raise RuntimeError(f"stock failed: {stock['errorMessage']}")
    if stock["available"] < count:
        return {"accepted": False, "reason": f"{stock['available']} of {item} left"}

    # An event: on disk before this returns (202), delivered at least once, and nobody waits for it.
    told = functions.invoke(
        FunctionName="stock", InvocationType="Event", Payload=json.dumps({"take": item, "count": count})
    )
    return {"accepted": True, "told": told["StatusCode"]}
