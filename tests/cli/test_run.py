"""The options of the two programs."""

import click
import pytest
from click.testing import CliRunner, Result

from lbspeaker.cli.run import _address, controller, speaker


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7474", ("127.0.0.1", 7474)),
        ("[::1]:7474", ("::1", 7474)),
        (":7474", ("", 7474)),
        ("", None),
        (None, None),
    ],
)
def test_an_address_to_serve_metrics_at(text: str | None, address: tuple[str, int] | None) -> None:
    assert _address(text) == address


def run(program: click.Command, *options: str) -> Result:
    node = ["--node", "a"] if program is speaker else []
    return CliRunner().invoke(program, [*node, *options])


@pytest.mark.parametrize("text", ["7474", "localhost", "localhost:", ":0", ":65536", "host:metrics"])
@pytest.mark.parametrize("program", [controller, speaker], ids=["controller", "speaker"])
def test_what_is_no_address_is_told_with_one_that_is(program: click.Command, text: str) -> None:
    done = run(program, "--metrics", text)
    assert done.exit_code == 2
    assert f"'{text}' is not [HOST]:PORT, as in 127.0.0.1:7472 or :7472" in done.output


@pytest.mark.parametrize("program", [controller, speaker], ids=["controller", "speaker"])
def test_only_known_names_can_be_had_beside_our_own(program: click.Command) -> None:
    done = CliRunner().invoke(
        program, ["--node", "a"] * (program is speaker) + ["--metrics-compat", "purelb"]
    )  # type: ignore[arg-type]
    assert done.exit_code == 2
    assert "'purelb' is not 'metallb'" in done.output
