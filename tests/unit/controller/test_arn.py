"""Names and ARNs of functions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.domain.arn import FunctionIdentifier, function_arn, parse_function_name, parse_unqualified_name
from controller.domain.errors import (
    AccessDeniedError,
    InvalidParameterValueError,
    ResourceNotFoundError,
    ValidationFailedError,
)

WORD = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
# "function" or twelve digits before a colon are read as parts of an ARN, by the model's own pattern.
names = st.text(WORD, min_size=1, max_size=40).filter(lambda name: name != "function" and not name.isdigit())
accounts = st.text("0123456789", min_size=12, max_size=12)
regions = st.sampled_from(["us-east-1", "eu-central-1", "us-gov-west-1", "cn-north-1", "ap-southeast-3"])
qualifiers = st.one_of(st.none(), st.just("$LATEST"), st.text(WORD, min_size=1, max_size=20))


@given(names, accounts, regions, qualifiers, st.sampled_from(["name", "partial", "arn"]))
def test_every_form_means_the_same_function(
    name: str, account: str, region: str, qualifier: str | None, form: str
) -> None:
    base = {
        "name": name,
        "partial": f"{account}:function:{name}",
        "arn": function_arn(account, region, name),
    }[form]
    raw = base if qualifier is None else f"{base}:{qualifier}"
    expected = FunctionIdentifier(name=name, qualifier=qualifier)

    assert parse_function_name(raw, account=account, region=region) == expected
    assert parse_function_name(base, account=account, region=region, qualifier=qualifier) == expected
    assert parse_function_name(raw, account=account, region=region, qualifier=qualifier) == expected


@given(st.text(max_size=300), st.one_of(st.none(), st.text(max_size=200)))
def test_whatever_is_no_name_is_refused_and_nothing_else_happens(raw: str, qualifier: str | None) -> None:
    try:
        found = parse_function_name(raw, account="0" * 12, region="us-east-1", qualifier=qualifier)
    except (ValidationFailedError, InvalidParameterValueError, ResourceNotFoundError, AccessDeniedError):
        return
    assert set(found.name) <= set(WORD + ".")


def test_other_accounts_and_regions_are_refused() -> None:
    arn = function_arn("1" * 12, "eu-west-1", "f")

    with pytest.raises(ResourceNotFoundError, match="are not reachable in this region"):
        parse_function_name(arn, account="1" * 12, region="us-east-1")
    with pytest.raises(AccessDeniedError):
        parse_function_name(arn, account="2" * 12, region="eu-west-1")


def test_operations_on_the_function_itself_take_latest_and_no_other_qualifier() -> None:
    assert parse_unqualified_name("f:$LATEST", account="0" * 12, region="us-east-1").qualifier is None
    with pytest.raises(InvalidParameterValueError, match="permitted on Lambda functions only"):
        parse_unqualified_name("f:1", account="0" * 12, region="us-east-1")
