"""Writes a thumbnail of every image that lands in a bucket: the classic first function."""

import io
import os
from urllib.parse import unquote_plus

import boto3
from PIL import Image, ImageOps

# Made once per execution environment; its endpoint comes from AWS_ENDPOINT_URL_S3.
s3 = boto3.client("s3")
LONGEST_SIDE = int(os.environ.get("LONGEST_SIDE", "128"))


def handler(event, context):
    return {"thumbnails": [make_thumbnail(record["s3"]) for record in event["Records"]]}


def make_thumbnail(source):
    bucket, key = source["bucket"]["name"], unquote_plus(source["object"]["key"])
    original = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    with Image.open(io.BytesIO(original)) as image:
        image_format = image.format
        small = ImageOps.exif_transpose(image)  # as cameras mean it
        small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        buffer = io.BytesIO()
        small.save(buffer, format=image_format)

    # Another prefix than the one that sends the events, or the function would call itself for ever.
    target = f"thumbnails/{key.rpartition('/')[2]}"
    s3.put_object(Bucket=bucket, Key=target, Body=buffer.getvalue(), ContentType=Image.MIME[image_format])
    print(f"{bucket}/{key}: {len(original)} bytes -> {target}: {small.width} x {small.height}, {buffer.tell()} bytes")
    return {"bucket": bucket, "key": target, "width": small.width, "height": small.height}
