"""Addresses of values: what people type, and what is printed for them to type again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bos_core.objects.address import ValueAddress, parse_address
from bos_core.objects.errors import OptionError

STEPS = frozenset({"n1_verification", "reactive_dispatch"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ValueAddress()),
        ("fc717f4e", ValueAddress("fc717f4e")),
        ("n1-verification", ValueAddress("", ("n1_verification",))),
        ("last/n1_verification/pairs", ValueAddress("last", ("n1_verification", "pairs"))),
        ("fc71/reactive_dispatch/bus.vm_pu", ValueAddress("fc71", ("reactive_dispatch", "bus.vm_pu"))),
        (
            "fc71/n1_verification/overloads[hour=410, branch=Line [1], a].loading",
            ValueAddress(
                "fc71", ("n1_verification", "overloads"), {"hour": "410", "branch": "Line [1], a"}, "loading"
            ),
        ),
        ("grid@8", ValueAddress("grid@8")),
        ("my/grid@8/bus.vm_pu[hour=3]", ValueAddress("my/grid@8", ("bus.vm_pu",), {"hour": "3"})),
        ("fc71/n1_verification[branch=a@1]", ValueAddress("fc71", ("n1_verification",), {"branch": "a@1"})),
    ],
)
def test_an_address_is_read(text: str, expected: ValueAddress) -> None:
    assert parse_address(text, STEPS) == expected


@pytest.mark.parametrize(
    "text", ["fc71/a/b[", "fc71/a/b[hour=1", "fc71/a/b/c", "fc71/a[hour]", "fc71/a[hour=]", "g@1/a/b", "a[=1]"]
)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(OptionError, match=r"RUN/step/output\[hour=410,element=NAME\]"):
        parse_address(text, STEPS)


NAMES = st.text("abc XYZ_.-()[]/@0123456789,", min_size=1).map(str.strip).filter(bool)


@given(branch=NAMES, hour=st.integers(0, 8759), column=st.sampled_from(["", "loading"]))
def test_a_printed_address_reads_as_itself(branch: str, hour: int, column: str) -> None:
    keys = {"hour": str(hour), "branch": branch}
    address = ValueAddress("fc717f4e", ("n1_verification", "overloads"), keys, column)
    assert parse_address(str(address), STEPS) == address
