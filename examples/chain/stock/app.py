"""Knows what is there. `{"ask": item}` is answered; `{"take": item, "count": n}` is only noted in the log."""

AVAILABLE = {"apple": 12, "pear": 0}


def handler(event, context):
    if "take" in event:
        print(f"took {event['count']} x {event['take']}")
        return None
    return {"item": event["ask"], "available": AVAILABLE[event["ask"]]}
