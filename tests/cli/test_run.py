"""The options of the two programs."""

import click
import pytest
from click.testing import CliRunner, Result

from lbspeaker.cli.run import address, controller, speaker


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:7474", ("127.0.0.1", 7474)),
        ("[::1]:7474", ("::1", 7474)),
        (":7474", ("", 7474)),
        ("", None),
        (None, None),
    ],
)
def test_an_address_to_serve_at(text: str | None, found: tuple[str, int] | None) -> None:
    assert address(text) == found


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


def test_a_page_that_everybody_could_see_is_refused_before_anything_begins() -> None:
    asked = CliRunner().invoke(controller, ["--kubeconfig", "/nonexistent", "--page", ":7475"])
    assert str(asked.exception).startswith(
        "anybody could look at the page from everywhere; give --page-token"
    )
    asked = CliRunner().invoke(controller, ["--config", "/nonexistent", "--page", "127.0.0.1:7475"])
    assert "the page shows a cluster" in str(asked.exception)
    asked = CliRunner().invoke(controller, ["--kubeconfig", "/nonexistent", "--page-token", "/nonexistent"])
    assert str(asked.exception).startswith("--page-token without a page; say where it is")
