"""What autoscalers prove themselves with: made by themselves and shared, or given by somebody else."""

import asyncio
import ssl
from pathlib import Path

import pytest

from autoscaler.certificates import Certificates, read_folder
from autoscaler.injector.rotation import MASTERS
from tests.autoscaler.injector.test_rotation import Store
from tests.certificates import Authority
from zerogate.errors import ZerogateError
from zerogate.reporting.proof import MASTER_BYTES, key_named, parse_key
from zerogate.tasks import Nursery

NAMES = ("stats.test.svc",)


async def run(*all_of_them: Certificates) -> None:
    """Until all of them serve."""
    nursery = Nursery()
    for one in all_of_them:
        nursery.start(one.run(), name="certificates")
    async with asyncio.timeout(10):
        while not all(one.is_serving for one in all_of_them):
            await asyncio.sleep(0.01)
    await nursery.aclose()


async def test_all_autoscalers_know_the_keys_that_any_of_them_makes() -> None:
    store = Store()
    several = [Certificates(store, NAMES) for _ in range(3)]
    assert several[0].new_key("ns/chat") == ""
    await run(*several)
    assert len({one.masters for one in several}) == 1
    key = parse_key(several[0].new_key("ns/chat"))
    assert key.service == "ns/chat"
    assert key_named(several[1].masters, key.name) == key
    assert parse_key(several[0].new_key("ns/chat")) != key


async def test_a_master_that_is_put_before_makes_new_keys_and_those_of_before_stay_known() -> None:
    store = Store()
    one = Certificates(store, NAMES)
    await run(one)
    before = parse_key(one.new_key("ns/chat"))
    store.data[MASTERS] = (b"ab" * MASTER_BYTES) + b"\n" + store.data[MASTERS] + b"\nnonsense\nabcd"
    again = Certificates(store, NAMES)
    await run(again)
    assert len(again.masters) == 2
    assert key_named(again.masters, before.name) == before
    assert parse_key(again.new_key("ns/chat")).name.split(".")[0] != before.name.split(".")[0]


async def test_what_is_served_over_tls_is_what_the_webhook_serves() -> None:
    one = Certificates(Store(), NAMES)
    told: list[bytes] = []
    one.add_user(lambda certificate, _: told.append(certificate))
    await run(one)
    assert len(told) == 1
    assert isinstance(one.stats_context, ssl.SSLContext)
    assert one.stats_context.minimum_version is ssl.TLSVersion.TLSv1_3


def given(folder: Path, authority: Authority, name: str = "stats.test.svc") -> None:
    pair = authority.issue(folder, "leaf", names=[name])
    Path(pair.certificate).rename(folder / "tls.crt")
    Path(pair.key).rename(folder / "tls.key")


async def test_a_given_certificate_is_served_and_none_is_made_nor_trust_published(tmp_path: Path) -> None:
    store = Store()
    given(tmp_path, Authority())
    one = Certificates(store, NAMES, folder=str(tmp_path))
    told: list[bytes] = []
    one.add_user(lambda certificate, _: told.append(certificate))
    await run(one)
    assert told == [(tmp_path / "tls.crt").read_bytes()]
    assert list(store.data) == [MASTERS]
    assert store.trusted == []
    assert one.new_key("ns/chat") != ""


async def test_a_folder_without_a_usable_pair_is_a_fault_and_not_the_end(tmp_path: Path) -> None:
    with pytest.raises(ZerogateError, match="cannot be used"):
        read_folder(str(tmp_path))
    given(tmp_path, Authority())
    (tmp_path / "tls.key").write_text("no key")
    one = Certificates(Store(), NAMES, folder=str(tmp_path))
    nursery = Nursery()
    nursery.start(one.run(), name="certificates")
    async with asyncio.timeout(10):
        while not one.fault:
            await asyncio.sleep(0.01)
    await nursery.aclose()
    assert str(tmp_path) in one.fault
    assert not one.is_serving
    given(tmp_path, Authority())
    again = Certificates(Store(), NAMES, folder=str(tmp_path))
    await run(again)
