"""The attributes of a procedure step against PS3.4 Tables F.7.2-1 and 1a to 1f."""

from collections.abc import Iterator
from typing import NamedTuple

from dimse.services.attributes import Attribute, Attributes
from dimse.services.procedure_step_attributes import PROCEDURE_STEP
from tests.tables import rows


class Types(NamedTuple):
    n_create: str
    n_set: str
    final: str


def both(scu: str, scp: str) -> str:
    """`1`, `3/2`, or nothing for what is not allowed."""
    if scu == "not allowed":
        return ""
    return scu if scu == scp else f"{scu}/{scp}"


def codes(table: str) -> Iterator[tuple[tuple[str, ...], Types]]:
    """The rows of a table of codes, with those of the table that it includes."""
    entry = chr(ord(table[-1]) + 1)
    for row in rows("mpps_code_macros"):
        if row["table"] == f"F.7.2-1{entry}":
            types = Types(
                both(row["n_create_scu"], row["n_create_scp"]),
                both(row["n_set_scu"], row["n_set_scp"]),
                "",
            )
            yield (row["keyword"],), types
            yield ("EquivalentCodeSequence", row["keyword"]), types
        elif row["table"] == table and row["keyword"]:
            yield (
                (row["keyword"],),
                Types(
                    both(row["n_create_scu"], row["n_create_scp"]),
                    both(row["n_set_scu"], row["n_set_scp"]),
                    "",
                ),
            )


def printed() -> dict[tuple[str, ...], Types]:
    keywords = {row["attribute"]: row["keyword"] for row in rows("mpps_attributes")}
    found: dict[tuple[str, ...], Types] = {}
    for row in rows("mpps_attributes"):
        parents = row["parent"].split("/") if row["parent"] else []
        path = tuple(keywords[parent] for parent in parents)
        if row["attribute"].startswith("(code attributes"):
            table = row["attribute"].removesuffix(")").rpartition(" ")[2]
            found |= {(*path, *below): types for below, types in codes(table)}
        elif row["keyword"]:
            final = row["final_state"][:1]
            found[*path, row["keyword"]] = Types(
                both(row["n_create_scu"], row["n_create_scp"]),
                both(row["n_set_scu"], row["n_set_scp"]),
                final if final.isdigit() else "",
            )
    return found


def ours(
    attributes: Attributes, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Attribute]]:
    for keyword, attribute in attributes.items():
        yield (*path, keyword), attribute
        yield from ours(attribute.items, (*path, keyword))


def test_every_row():
    """Each attribute at its place, with its types; and no other."""
    table = printed()
    assert len(table) > 100
    assert {
        path: Types(attribute.n_create, attribute.n_set, attribute.final)
        for path, attribute in ours(PROCEDURE_STEP)
    } == table


def test_every_condition_names_its_neighbours():
    """A condition on what is not in the same item could not be seen."""
    for path, attribute in ours(PROCEDURE_STEP):
        siblings = {other[-1] for other, _ in ours(PROCEDURE_STEP) if other[:-1] == path[:-1]}
        assert {*attribute.given, *attribute.unless} <= siblings, path
        conditional = "1C" in attribute.n_create
        assert conditional or not (attribute.given or attribute.unless)
