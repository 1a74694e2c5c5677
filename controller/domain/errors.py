"""The refusals that a caller sees, with AWS's codes, statuses and texts; and the failures of the platform itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class LambdaError(Exception):
    """The caller's request is refused. `str()` is the text that the caller sees."""

    code: ClassVar[str] = "InvalidParameterValueException"
    status: ClassVar[int] = 400
    #: The service model names the member `Message` in some error shapes and `message` in the others.
    message_key: ClassVar[str] = "message"
    fault: ClassVar[str] = "User"

    def __init__(self, message: str, *, members: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        #: Further members of the error's body (`Reason` of a throttle).
        self.members = dict(members or {})
        #: Further response headers.
        self.headers: dict[str, str] = {}


class InvalidParameterValueError(LambdaError):
    """A parameter, or a combination of them, is not acceptable."""


class ValidationFailedError(LambdaError):
    """Members violate the constraints of the service model."""

    code = "ValidationException"


class SerializationError(LambdaError):
    """The body is JSON, but a member has the wrong type."""

    code = "SerializationException"


class InvalidRequestContentError(LambdaError):
    """The body is not JSON."""

    code = "InvalidRequestContentException"


class CodeStorageExceededError(LambdaError):
    """The account has no room for more code."""

    code = "CodeStorageExceededException"


class AccessDeniedError(LambdaError):
    """The caller may not touch this resource."""

    code = "AccessDeniedException"
    status = 403
    message_key = "Message"


class ResourceNotFoundError(LambdaError):
    """The named resource does not exist."""

    code = "ResourceNotFoundException"
    status = 404
    message_key = "Message"


class UnknownOperationError(LambdaError):
    """No operation has this path."""

    code = "UnknownOperationException"
    status = 404


class MethodNotAllowedError(LambdaError):
    """An operation has this path, but not with this method."""

    code = "MethodNotAllowedException"
    status = 405


class ResourceConflictError(LambdaError):
    """The resource exists already, or its state forbids the operation."""

    code = "ResourceConflictException"
    status = 409


class PreconditionFailedError(LambdaError):
    """The RevisionId that the caller named is not the latest."""

    code = "PreconditionFailedException"
    status = 412


class RequestTooLargeError(LambdaError):
    """The request's body is larger than the operation takes."""

    code = "RequestTooLargeException"
    status = 413


class UnsupportedMediaTypeError(LambdaError):
    """The request's content type is not JSON."""

    code = "UnsupportedMediaTypeException"
    status = 415


class TooManyRequestsError(LambdaError):
    """A concurrency or rate limit refuses the request. `reason` is one of the service model's ThrottleReason."""

    code = "TooManyRequestsException"
    status = 429

    def __init__(self, reason: str, *, message: str = "Rate Exceeded.", retry_after_s: int | None = None) -> None:
        super().__init__(message, members={"Reason": reason})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(retry_after_s)


class PlatformError(Exception):
    """We failed, not the caller and not the function: 5xx, with a request id that leads to a log line."""

    code: ClassVar[str] = "ServiceException"
    status: ClassVar[int] = 500
    message_key: ClassVar[str] = "Message"
    fault: ClassVar[str] = "Service"


INTERNAL_ERROR = "An error occurred and the request cannot be processed. Quote the request id to the operator."
STALE_REVISION = (
    "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the"
    " latest Revision Id"
)
QUALIFIER_MISMATCH = "The derived qualifier from the function name does not match the specified qualifier."
UNZIPPED_TOO_LARGE = "Unzipped size must be smaller than 262144000 bytes"
ZIPPED_TOO_LARGE = "Zipped size must be smaller than 52428800 bytes"
NOT_A_ZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."
UNRESERVED_MINIMUM = (
    "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its"
    " minimum value of [{minimum}]."
)
UNQUALIFIED_ONLY = (
    "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please"
    " specify either a function name or an unqualified function ARN."
)
LATEST_NOT_DELETABLE = "$LATEST version cannot be deleted without deleting the function."
RUNTIME_AND_HANDLER_MANDATORY = (
    "Runtime and Handler are mandatory parameters for functions created with deployment packages."
)
CODE_MISSING = "Please provide a source for function code."
ZIP_FILE_ALONE = "Please do not provide other FunctionCode parameters when providing a ZipFile."
#: Our words: what AWS says here is not known.
IMAGE_URI_ALONE = "Please do not provide other FunctionCode parameters when providing an ImageUri."
IMAGE_URI_MISSING = "Please provide ImageUri when updating a function with packageType Image."
IMAGE_URI_FOR_ZIP = "Please don't provide ImageUri when updating a function with packageType Zip."
ZIP_SETTINGS_FOR_IMAGE = (
    "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."
)
IMAGE_CONFIG_FOR_ZIP = "Please don't provide ImageConfig when the intended function PackageType is Zip."
TOO_MANY_LAYERS = "Cannot reference more than 5 layers."
TOO_MANY_TAGS = "Number of tags exceeds resource tag limit."
NO_SUCH_RESOURCE = "The resource you requested does not exist."
LAYER_NUMBER_TOO_SMALL = "Layer Version Cannot be less than 1"
LAYER_CONTENT_MISSING = "Please provide a source for layer content."
LAYERS_TOO_LARGE = "Layers consume more than the available size of 262144000 bytes"


def function_not_found(arn: str) -> ResourceNotFoundError:
    """`arn` includes the qualifier when the caller named one."""
    return ResourceNotFoundError(f"Function not found: {arn}")


def function_exists(name: str) -> ResourceConflictError:
    """Refuse to create a function twice."""
    return ResourceConflictError(f"Function already exist: {name}")


def other_region(named: str, served: str) -> ResourceNotFoundError:
    """Refuse an ARN of another region than the request's."""
    return ResourceNotFoundError(f"Functions from '{named}' are not reachable in this region ('{served}')")


def other_account(account: str, arn: str) -> AccessDeniedError:
    """Refuse an ARN of another account than the caller's."""
    return AccessDeniedError(
        f"User: arn:aws:iam::{account}:root is not authorized to perform this operation on resource: {arn}"
    )


def update_in_progress(arn: str) -> ResourceConflictError:
    """Refuse a second change while the first is under way."""
    return ResourceConflictError(
        f"The operation cannot be performed at this time. An update is in progress for resource: {arn}"
    )


def wrong_state(state: str) -> ResourceConflictError:
    """Refuse what a function can't do in its present state (Pending, Failed)."""
    return ResourceConflictError(
        f"The operation cannot be performed at this time. The function is currently in the following state: {state}"
    )


def stale_revision() -> PreconditionFailedError:
    """Refuse a change that was based on an older state."""
    return PreconditionFailedError(STALE_REVISION)


def code_sha_mismatch(given: str, actual: str) -> InvalidParameterValueError:
    """Refuse to publish code other than the caller has seen."""
    return InvalidParameterValueError(
        f"CodeSHA256 ({given}) is different from current CodeSHA256 in $LATEST ({actual}). Please try again with the"
        " CodeSHA256 in $LATEST."
    )


def not_supported(parameter: str, supported: str) -> InvalidParameterValueError:
    """Refuse, rather than ignore, a parameter that this release does not serve."""
    return InvalidParameterValueError(f"{parameter} is not supported by this installation; {supported}.")


def layer_not_shared(account: str, action: str, arn: str) -> AccessDeniedError:
    """Refuse what only a policy of the layer could allow to another account."""
    return AccessDeniedError(
        f"User: arn:aws:iam::{account}:root is not authorized to perform: lambda:{action} on resource: {arn} because"
        f" no resource-based policy allows the lambda:{action} action"
    )


def layer_elsewhere(named: str, served: str) -> ResourceNotFoundError:
    """Refuse the ARN of a layer in another region than the request's."""
    return ResourceNotFoundError(f"Layers from '{named}' are not reachable in this region ('{served}')")


def layers_in_other_region(region: str) -> InvalidParameterValueError:
    """Refuse a function whose layers are elsewhere."""
    return InvalidParameterValueError(
        f"Layers are not in the same region as the function. Layers are expected to be in region {region}."
    )


def layer_version_missing(arn: str) -> InvalidParameterValueError:
    """Refuse a function that names a layer version which is not there."""
    return InvalidParameterValueError(f"Layer version {arn} does not exist.")


def same_layer_twice(first: str, second: str) -> InvalidParameterValueError:
    """Refuse a function that names two versions of one layer."""
    return InvalidParameterValueError(
        "Two different versions of the same layer are not allowed to be referenced in the same function."
        f" {first} and {second} are versions of the same layer."
    )


def code_with_layers_too_large(actual_bytes: int) -> InvalidParameterValueError:
    """Refuse code that leaves its layers no room."""
    return InvalidParameterValueError(
        "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. The actual size is"
        f" {actual_bytes} bytes."
    )


def s3_refused(code: str, text: str) -> InvalidParameterValueError:
    """Refuse an object that S3 does not give, in its own words."""
    return InvalidParameterValueError(
        f"Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {text}"
    )


def s3_elsewhere(region: str) -> InvalidParameterValueError:
    """Refuse a bucket of another region."""
    return s3_refused(
        "PermanentRedirect", f"The bucket is in this region: {region}. Please use this region to retry the request"
    )


def s3_denied(bucket: str, key: str, text: str) -> AccessDeniedError:
    """Refuse an object that S3 lets the platform not read."""
    return AccessDeniedError(
        "Your access has been denied by S3, please make sure your request credentials have permission to GetObject for"
        f" {bucket}/{key}. S3 Error Code: AccessDenied. S3 Error Message: {text}"
    )


def image_not_valid(uri: str) -> InvalidParameterValueError:
    """Refuse what is no image reference."""
    return InvalidParameterValueError(f"Source image {uri} is not valid. Provide a valid source image.")


def image_missing(uri: str) -> InvalidParameterValueError:
    """Refuse an image that is not there."""
    return InvalidParameterValueError(f"Source image {uri} does not exist. Provide a valid source image.")
