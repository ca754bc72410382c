"""What is a secret and what is not, the forms that one takes, and configurations without theirs."""

import html
import io
import json
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pydantic as pdt
import pytest
from hypothesis import given, settings

from model_name.core import errors
from model_name.io import osvariables, redaction


@pytest.fixture(autouse=True)
def nothing_learnt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working directory, and nothing known."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(redaction, "_learnt", set())


# ------------------------------------------------------------------------------------------------- what is a secret
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("postgresql://ann:pa%20ss@host:5432/db", ["ann:pa%20ss"]),
        ("https://token@host and http://b:c@host", ["token", "b:c"]),
        ("https://host/a?limit=3&sig=abcd&api_key=efgh#top", ["abcd", "efgh"]),
        ("sqlite:///mlflow.db", []),
        ("mail ann@host about key=value", []),
        ("s3://bucket/a@b", []),
        ("https://***@host", []),
        ("postgresql://ann:pa/ss@host/db", ["ann:pa/ss"]),
        ("postgresql://ann:ps/s?#'<@host/db", ["ann:ps/s?#'<"]),
        ("postgresql://ann:12/ss@host:80/a", ["ann:12/ss"]),
        ("https://host:5000/a@b", []),
        ("a://b:c/d@e,f://g:h@i", ["b:c/d", "g:h"]),
        ("https://host/f?code=4f9a77c1e2&country=DE", ["4f9a77c1e2"]),
        ("https://host/f?code=DE", []),
        ("https://host/#access_token=abcd", ["abcd"]),
        ("AccountName=me;AccountKey=ab/cd==;Suffix=x", ["ab/cd=="]),
    ],
)
def test_secrets_of_addresses(text: str, found: list[str]) -> None:
    assert list(redaction.in_address(text)) == found


def test_what_env_files_and_variables_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(osvariables, "workspace", lambda: Path("nowhere"))
    Path(".env").write_text(
        "ANYTHING=hush-hush\nSHORT=abc\nMLFLOW_EXPERIMENT_NAME=experiment\nPIN_PASSWORD=4711\n"
        "ALERTS_ADDRESSES=json://one/path,json://two/path\nMLFLOW_TRACKING_URI=https://ann:uri-pass@host\nEMPTY=\n"
    )
    monkeypatch.setenv("CACHE_TOKEN", "true")
    monkeypatch.setenv("MY_SECRET", "in-variable")
    scrub = redaction.Scrubber()
    said = "hush-hush abc experiment 4711 json://one/path json://two/path https://host uri-pass true in-variable"
    assert scrub(said) == "*** abc experiment *** *** *** https://host *** true ***"


def test_a_file_that_is_no_text_knows_nothing() -> None:
    Path(".env").write_bytes(b"A=\xff\xfe")
    assert redaction.from_files() == {}


# -------------------------------------------------------------------------------------------------------- scrubbing
WRITERS: list[Callable[[str], str]] = [
    str, repr, json.dumps, lambda text: json.dumps(text, ensure_ascii=False), urllib.parse.quote,
    urllib.parse.quote_plus, lambda text: urllib.parse.quote(text, safe=""), html.escape,
]  # fmt: skip
PRINTABLE = st.text(
    st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), min_size=8, max_size=30
)


@settings(deadline=None)
@given(
    PRINTABLE.filter(lambda text: "*" not in text and len(text.strip()) >= 8),
    st.sampled_from(WRITERS),
)
def test_no_form_of_a_secret_is_left(secret: str, write: Callable[[str], str]) -> None:
    quotes = "'\"" if write in (repr, json.dumps) else ""
    written = write(secret).strip(quotes)
    assert written not in redaction.Scrubber([secret])(f"<<{write(secret)}>>")


@pytest.mark.parametrize(
    ("secret", "text", "scrubbed"),
    [
        ("abc", "abc", "abc"),
        ("1234", "pin 1234, 12345 rows, x1234", "pin ***, 12345 rows, x1234"),
        ("True", "True", "True"),
        ("longer-one", "alonger-oneb", "a***b"),
        ("ann:hush-hush", "user ann, password hush-hush", "user ann, password ***"),
        ("first-line\nsecond-line", "second-line first-line", "*** ***"),
        ("abcd1234", "", ""),
    ],
)
def test_what_is_scrubbed_and_what_is_left_alone(secret: str, text: str, scrubbed: str) -> None:
    assert redaction.Scrubber([secret])(text) == scrubbed


def test_data_is_scrubbed_everywhere() -> None:
    scrub = redaction.Scrubber(["hush-hush"])
    data = {"hush-hush": ["a hush-hush", ("hush-hush", 3)], "b": None}
    assert scrub.everywhere(data) == {"***": ["a ***", ["***", 3]], "b": None}


def test_printing_is_scrubbed(capsys: pytest.CaptureFixture[str]) -> None:
    redaction.add_secrets(["hush-hush"])
    with redaction.scrubbed_output():
        print("out hush-hush")
        print("err hush-hush", file=sys.stderr)
        assert not sys.stdout.isatty()
    print("after")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("out ***\nafter\n", "err ***\n")


def test_a_stream_is_closed_by_its_owner_only() -> None:
    for close in (True, False):
        stream = io.StringIO()
        redaction.ScrubbedStream(stream, redaction.Scrubber(), close=close).stop()
        assert stream.closed is close


@pytest.mark.parametrize(
    ("argument", "learnt"),
    [
        ("job.a.password=hush-hush", "hush-hush"),
        ("job.a.password='hush-hush'", "hush-hush"),
        ("job.a={KIND: X, password: hush-hush, b: 2}", "hush-hush"),
        ("job.a=https://ann:hush-hush@host", "ann:hush-hush"),
        ("--set=job.a.password=hush-hush", "hush-hush"),
        ("job.a={tokens: [first-one, hush-hush]}", "hush-hush"),
        ("job.a={api-key: 'hush-hush'}", "hush-hush"),
    ],
)
def test_secrets_of_a_command_line(argument: str, learnt: str) -> None:
    redaction.add_argument_secrets(["run", "train", "-s", argument])
    assert learnt in redaction._learnt
    assert redaction.scrub("it was hush-hush") == "it was ***"


def test_a_command_line_without_secrets() -> None:
    redaction.add_argument_secrets(
        ["run", "train", "-s", "job.model={KIND: X, depth: 3}", "-s", "job.name=plain-name"]
    )
    assert redaction._learnt == set()


# ----------------------------------------------------------------------------------- configurations without secrets
class Broker(pdt.BaseModel, strict=True, frozen=True):
    address: str = "https://host/path"
    password: str | int | None = None
    token: pdt.SecretStr | None = None
    logins: tuple[pdt.SecretStr, ...] = ()
    settings: dict[str, Any] = {}
    use_key: bool = False


CASES = [
    Broker(),
    Broker(address="https://ann:hush-hush@host/path?sig=signature"),
    Broker(password='with "quotes" \\ and ünïcode', token=pdt.SecretStr("open sesame")),
    Broker(password=4711),
    Broker(logins=(pdt.SecretStr("first-one"), pdt.SecretStr("second-one"))),
    Broker(
        settings={
            "sasl.password": "hush-hush",
            "nested": {"api_keys": ["one-key", "two-keys"], "plain": [1, "a"]},
        }
    ),
    Broker(settings={"a.key": "hush-hush", "a-key": "another"}),
    Broker(use_key=True, password=""),
]


@pytest.mark.parametrize("case", CASES)
def test_a_configuration_comes_back_with_its_secrets(
    case: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = redaction.seal(case)
    for value in sealed.variables.values():
        assert value not in sealed.text
        assert value not in repr(sealed)
    for name, value in sealed.variables.items():
        assert re.fullmatch("[A-Z0-9_]+", name)
        monkeypatch.setenv(name, value)
    assert Broker.model_validate_json(redaction.unseal(sealed.text)) == case


@pytest.mark.parametrize(
    ("address", "sealed"),
    [
        ("a/open-sesame/b", "a/<secret MY_TOKEN>/b"),
        ("call-me-maybe", "<secret PAGER>"),
        ("a/open%2Dsesame%21", "a/open%2Dsesame%21"),
        (
            "https://x:open-sesame@h/call-me-maybe",
            "https://<secret MODEL_NAME_SECRET_ADDRESS>@h/<secret PAGER>",
        ),
        ("b=p%C3%A4ss%20w", "<secret MODEL_NAME_SECRET_ADDRESS>"),
        ("7777 and 77778", "<secret SHORT_KEY> and 77778"),
    ],
)
def test_what_a_string_contains_is_sealed(
    address: str, sealed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(osvariables, "workspace", lambda: Path("nowhere"))
    Path(".env").write_text("PAGER=call-me-maybe\nMLFLOW_EXPERIMENT_NAME=experiment\n")
    for name, value in {
        "MY_TOKEN": "open-sesame",
        "OTHER_TOKEN": "päss w",
        "SHORT_KEY": "7777",
    }.items():
        monkeypatch.setenv(name, value)
    made = redaction.seal(Broker(address=address))
    assert json.loads(made.text)["address"] == sealed
    for name, value in made.variables.items():
        monkeypatch.setenv(name, value)
    assert Broker.model_validate_json(redaction.unseal(made.text)).address == address
    assert redaction.seal(Broker(address="experiment")).variables == {}


def test_a_value_keeps_the_name_of_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hush-hush")
    sealed = redaction.seal(Broker(password="hush-hush"))
    assert '"password": "<secret DB_PASSWORD>"' in sealed.text
    monkeypatch.delenv("DB_PASSWORD")
    with pytest.raises(errors.ConfigError, match="set the environment variable DB_PASSWORD, or"):
        redaction.unseal(sealed.text)
    Path(".env").write_text("DB_PASSWORD=other")
    assert json.loads(redaction.unseal(sealed.text))["password"] == "other"


def test_a_configuration_without_secrets_is_plain_json() -> None:
    sealed = redaction.seal(Broker())
    assert sealed.variables == {}
    assert redaction.unseal(sealed.text) == sealed.text == json.dumps(json.loads(sealed.text))


def test_the_command_line_stays_quick() -> None:
    """Nothing heavy is imported for a secret."""
    code = "import sys; from model_name.io import redaction; print('dotenv' in sys.modules, 'pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == "False"
