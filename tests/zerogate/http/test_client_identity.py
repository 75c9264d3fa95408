"""What replicas are told of a client's certificate is bounded, whatever its authority has signed."""

from typing import Any

from zerogate.http.client_identity import LONGEST, MOST_NAMES, MOST_PARTS, identity_line


def line(**certificate: Any) -> str:
    return identity_line(certificate, b"der").decode()


def test_a_long_value_is_cut() -> None:
    said = line(subject=((("commonName", "n" * 5000),),))
    assert f'Subject="CN={"n" * LONGEST}"\r\n' in said


def test_of_many_names_the_first_of_each_kind_are_told() -> None:
    names = [(kind, f"{kind.lower()}{number}") for number in range(50) for kind in ("DNS", "URI", "IP Address")]
    parts = line(subjectAltName=names).rstrip().split(";")[2:]
    assert parts == [f"{kind}={kind.lower()}{number}" for kind in ("URI", "DNS") for number in range(MOST_NAMES)]


def test_of_a_subject_with_many_parts_the_most_specific_are_told_first() -> None:
    subject = tuple((("organizationalUnitName", f"u{number}"),) for number in range(50))
    told = line(subject=subject).partition('Subject="')[2].partition('"')[0].split(",")
    assert told == [f"OU=u{number}" for number in range(49, 49 - MOST_PARTS, -1)]
