"""What the documentation is made of agrees with the standard and with the options there are."""

import re
from dataclasses import fields
from pathlib import Path
from xml.etree import ElementTree

import pytest
from twisted.plugins import dimse_plugin

import dimse
from dimse.server.keys import KEYS
from dimse.server.peer_keys import SERVICES
from docs import facts, state_machine
from tests.tables import rows

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SVG = "{http://www.w3.org/2000/svg}"

TRANSITIONS = [row for row in rows("fsm_transitions") if row["defined"] == "yes"]


def numbers(states: str) -> str:
    """The states of `Sta3 or Sta13` as `3/13`."""
    return "/".join(re.findall(r"Sta(\d+)", states))


def texts() -> list[str]:
    """All that is written in the picture; parsing proves that it is XML."""
    picture = ElementTree.fromstring(state_machine.picture())
    return ["".join(text.itertext()) for text in picture.iter(f"{SVG}text")]


class TestStateMachine:
    def test_the_standard_has_123_transitions(self) -> None:
        assert len(TRANSITIONS) == 123

    def test_picture_has_every_state(self) -> None:
        assert {row["state"] for row in rows("fsm_states")} <= set(texts())

    @pytest.mark.parametrize(
        "row",
        [row for row in TRANSITIONS if not row["action"].startswith("AA")],
        ids=lambda row: f"{row['event']}-{row['state']}",
    )
    def test_picture_has_every_transition_but_aborts(self, row: dict[str, str]) -> None:
        label = f"{row['event']} {row['action']}"
        assert any(label in text for text in texts())

    @pytest.mark.parametrize("state", [row["state"] for row in rows("fsm_states")])
    def test_picture_has_the_aborts_of_every_state(self, state: str) -> None:
        picture = ElementTree.fromstring(state_machine.picture())
        box = next(each for each in picture.iter(f"{SVG}g") if f"{state}-" in each.attrib["id"])
        written = " ".join(box.itertext())
        for row in TRANSITIONS:
            if row["state"] == state and row["action"].startswith("AA"):
                assert re.search(rf"{row['action']}\b[^\u2192]*\u2192 {row['next_state']}", written)

    def test_table_has_every_cell_and_no_other(self) -> None:
        header, *body = state_machine.transitions()
        cells = {
            (event, state): cell
            for event, *line in body
            for state, cell in zip(header[1:], line, strict=True)
            if cell
        }
        assert cells == {
            (row["event"], row["state"]): f"{row['action']} {numbers(row['next_state'])}"
            for row in TRANSITIONS
        }


def test_every_option_of_the_node_is_a_limit_or_documented() -> None:
    options = dimse_plugin.dimse.options()
    limits = {each.name.replace("_", "-") for each in fields(dimse.Limits)}
    others = {name.rstrip("=") for name in options.longOpt} - limits - {"help", "version"}
    documented = set(re.findall(r"--([a-z-]+)", "".join(page.read_text("utf-8") for page in PAGES)))
    assert limits <= {name.rstrip("=") for name in options.longOpt}
    assert others <= documented


def test_every_limit_is_in_its_table() -> None:
    _, *body = facts.limits()
    assert [row[0].strip("`") for row in body] == [each.name for each in fields(dimse.Limits)]


def test_every_key_of_the_configuration_is_in_its_table() -> None:
    """With the options of the node, each of which is there as it is on the command line."""
    _, *body = facts.configuration()
    assert [row[0].strip("`") for row in body] == [f"{key.section}.{key.name}" for key in KEYS]
    named = {option for row in body for option in re.findall(r"--([a-z-]+)", row[4])}
    options = {name.rstrip("=") for name in dimse_plugin.dimse.options().longOpt}
    assert named == options - {"config", "help", "version"}


def test_every_service_of_a_peer_is_documented() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` \| ([CN]-.*) \|$", page, re.MULTILINE) == list(SERVICES.items())


@pytest.mark.parametrize("name", dimse.__all__)
def test_every_public_name_is_in_the_api(name: str) -> None:
    home = getattr(dimse, name).__module__
    assert f":: {home}.{name}" in re.sub(r"\(\)$", "", API, flags=re.MULTILINE)


API = (ROOT / "docs" / "api.md").read_text("utf-8")


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text("utf-8").splitlines()
    assert {page.stem for page in PAGES[1:]} - {"index"} <= set(index)


class TestHostileCases:
    def test_a_case_is_found_by_the_name_of_its_test(self) -> None:
        cases = {case: proof for case, proof, _ in facts.hostile_cases()[1:]}
        assert "hostile/test_pdu.py" in cases["H-P05"]

    def test_a_case_has_the_results_of_its_tests(self, tmp_path: Path) -> None:
        written = tmp_path / "hostile.xml"
        written.write_text(
            "<testsuites><testsuite>"
            '<testcase name="test_h_p05_one[1]"/><testcase name="test_h_p05_two"/>'
            '<testcase name="test_h_p05_three"><failure/></testcase>'
            '<testcase name="test_h_p06_one"><skipped/></testcase><testcase name="test_other"/>'
            "</testsuite></testsuites>"
        )
        results = {case: result for case, _, result in facts.hostile_cases(written)[1:]}
        assert results["H-P05"] == "2 passed, 1 failed"
        assert results["H-P06"] == "1 skipped"
        assert results["H-P07"] == "not run for this page"

    def test_a_group_names_what_has_no_test(self) -> None:
        """Together with those that have one, these are all cases."""
        tested = [row[0] for row in facts.hostile_cases()[1:]]
        for letter, _, count, without in facts.hostile_groups()[1:]:
            mine = {case for case in tested if case.startswith(f"H-{letter}")}
            missing = set(re.findall(r"H-\w\d\d", without))
            assert len(mine | missing) == int(count) or not mine
            assert not mine & missing
