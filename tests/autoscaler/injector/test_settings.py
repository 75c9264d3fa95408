import pytest

from autoscaler.injector import settings as webhook
from autoscaler.settings import read
from queueproxy.settings import read as read_sidecar
from tests.zerogate.kube.pods import env, patched, pod, policy
from zerogate.errors import DefinitionErrors
from zerogate.kube.feed import KINDS
from zerogate.kube.injection import Injection, inject
from zerogate.kube.sidecar import SidecarTerms
from zerogate.reporting.proof import MASTER_BYTES, new_key, parse_key
from zerogate.runtime.interface import Address

ON = ["--webhook", "0.0.0.0:8443", "--sidecar-image", "zerogate:1"]


def terms(*arguments: str) -> SidecarTerms:
    settings = read([*ON, *arguments], {})
    return webhook.terms_of(
        settings.webhook, namespace="there", release="mine", audience=settings.audience, kinds=KINDS
    ).sidecar  # fmt: skip


def test_without_a_word_there_is_no_webhook() -> None:
    assert read([], {}).webhook.listen is None
    assert read(ON, {}).webhook.listen == Address("0.0.0.0", 8443)


def test_a_webhook_has_to_know_the_image_of_sidecars() -> None:
    with pytest.raises(DefinitionErrors, match="--sidecar-image: is missing"):
        read(["--webhook", "8443"], {})


def test_its_port_is_not_the_admin_port() -> None:
    with pytest.raises(DefinitionErrors, match="is where requests come in"):
        read(["--webhook", "0.0.0.0:8081", "--sidecar-image", "x"], {})


@pytest.mark.parametrize("words", [
    ["--sidecar-image", "a b"], ["--sidecar-pull-policy", "never"], ["--sidecar-cpu", "fast"],
    ["--sidecar-memory-limit", "none"], ["--sidecar-user", "0"], ["--sidecar-host", "10.0.0.1"],
], ids=lambda words: words[0])  # fmt: skip
def test_nonsense_is_refused_with_its_place(words: list[str]) -> None:
    with pytest.raises(DefinitionErrors, match=words[0]):
        read([*ON, *words], {})


@pytest.mark.parametrize(("words", "said"), [
    (("--sidecar-memory-limit", "47Mi"),
     '--sidecar-memory-limit: "47Mi" is too little memory for a sidecar, which takes up to 28Mi without any request. '
     "Write 48Mi or more."),
    (("--sidecar-memory-limit", "256"), '"256" is too little memory'),
    (("--sidecar-memory-limit", "256m"), '"256m" is not a size in bytes'),
    (("--sidecar-memory-limit", "48Mi"), '--sidecar-memory: "64Mi" is more than the limit, 48Mi'),
    (("--sidecar-memory", "257Mi"), '--sidecar-memory: "257Mi" is more than the limit, 256Mi'),
    (("--sidecar-body-memory", "229Mi"),
     '--sidecar-body-memory: "229Mi" and the 28Mi of the process itself are more than its limit, 256Mi: it would be '
     "killed in the middle of its streams. Write auto, which is 128Mi, or raise --sidecar-memory-limit."),
    (("--sidecar-body-memory", "1023Ki"), '"1023Ki" is less than 1Mi'),
    (("--sidecar-max-connections", "some"), '"some" is not a whole number'),
])  # fmt: skip
def test_a_sidecar_that_would_be_killed_for_its_memory_is_refused(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(DefinitionErrors) as caught:
        read([*ON, *words], {})
    assert said in str(caught.value)


def test_the_memory_that_is_said_reaches_sidecars() -> None:
    words = ("--sidecar-memory-limit", "48Mi", "--sidecar-memory", "32Mi")
    made = terms(*words, "--sidecar-body-memory", "8Mi", "--sidecar-max-connections", "10")
    assert (made.memory_limit, made.memory_request) == ("48Mi", "32Mi")
    assert (made.body_memory, made.max_connections) == ("8Mi", 10)
    made = terms(*words)
    assert (made.body_memory, made.max_connections) == (None, None)


def test_the_defaults_are_those_of_the_sidecars_terms() -> None:
    made = terms()
    assert made == SidecarTerms(image="zerogate:1", token_audience="zerogate-stats", extra_env=made.extra_env)


def test_what_is_said_of_sidecars_reaches_them() -> None:
    made = terms(
        "--sidecar-user", "none", "--sidecar-cpu-limit", "2", "--sidecar-host", "::", "--sidecar-pull-policy", "Always"
    )
    assert (made.run_as_user, made.cpu_limit, made.listen_host, made.pull_policy) == (None, "2", "::", "Always")


def test_sidecars_report_to_the_releases_autoscalers_with_their_token() -> None:
    outcome = inject(pod(), policy(), terms(), service="default/llm", services=(), token="t" * 32)
    assert isinstance(outcome, Injection)
    told = read_sidecar([], env(patched(pod(), outcome.operations)))
    assert told.stats == (Address("mine-autoscaler-stats.there.svc", 8090),)
    assert told.stats_token_file == "/var/run/secrets/zerogate.dev/token"


def test_a_sidecar_reads_the_key_by_which_it_knows_autoscalers_and_keeps_it() -> None:
    key = new_key(b"m" * MASTER_BYTES, "default/llm", "s" * 22)
    outcome = inject(pod(), policy(), terms(), service="default/llm", services=(), token="t" * 32, key=key.text())
    assert isinstance(outcome, Injection)
    made = patched(pod(), outcome.operations)
    assert parse_key(read_sidecar([], env(made)).stats_key) == key
    again = inject(made, policy(), terms(), service="default/llm", services=(), token="u" * 32, key="another")
    assert isinstance(again, Injection)
    assert again.operations == ()


def test_sources_that_ask_for_no_proof_are_refused_unless_it_is_said() -> None:
    assert read([], {}).takes_unproven is False
    assert read([], {"ZEROGATE_UNPROVEN_SOURCES": "taken"}).takes_unproven is True
    with pytest.raises(DefinitionErrors, match="neither taken nor refused"):
        read(["--unproven-sources", "yes"], {})
