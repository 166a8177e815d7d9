"""Tables of the documentation that are made from the code and its tests."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from xml.etree import ElementTree

from dimse.archive.attributes import KEPT, Level, name_of
from dimse.archive.selection import COMPUTED
from dimse.events import NAMES
from dimse.limits import Limits
from dimse.message.status import CATEGORIES, Status
from dimse.message.statuses import ROWS
from dimse.security.profiles import PROFILES
from dimse.server.keys import KEYS
from tests.interop.differences import DIFFERENCES, WORKLIST_DIFFERENCES
from tests.interop.rules import CHARACTER_SETS, QUERIES, REFUSED, WORKLIST_QUERIES, shown

TESTS = Path(__file__).parents[1] / "tests"
RESULTS = Path(__file__).parent / "_build" / "hostile.xml"

GROUPS = {
    "P": ("malformed PDUs", 38),
    "S": ("a PDU that the state does not expect", 15),
    "F": ("fragmentation", 15),
    "D": ("DIMSE messages and data sets", 28),
    "R": ("resources, faults of the machine, load", 25),
    "A": ("names and duplicates in the store", 6),
    "T": ("TLS and identity", 17),
}
"""What the cases of a letter are about, and how many there are."""

_CASE = re.compile(r"test_h_([a-z])(\d\d)_(\w+)")


def limits() -> list[list[str]]:
    """Every field of `Limits`: its option, its default and unit, what it bounds."""
    rows = [["limit", "option", "default", "what it bounds"]]
    for each in fields(Limits):
        option = f"--{each.name.replace('_', '-')}"
        default = f"{each.default} {each.metadata['unit']}"
        rows.append([f"`{each.name}`", f"`{option}`", default, each.metadata["doc"]])
    return rows


def configuration() -> list[list[str]]:
    """Every key of the configuration file: what it can be, its default, its option, its purpose."""
    rows = [["key", "what it is for", "what it can be", "default", "option"]]
    for key in KEYS:
        default = "needed" if key.required else key.default
        option = ", ".join(f"`{each}`" for each in key.option.split(", ") if each)
        rows.append([f"`{key.section}.{key.name}`", key.doc, key.kind.allowed, default, option])
    return rows


def _codes(codes: range) -> str:
    first, last = codes.start, codes.stop - 1
    return f"0x{first:04X}" if first == last else f"0x{first:04X}\u20130x{last:04X}"


def status_categories() -> list[list[str]]:
    """Ranges of status codes and their category; the first that holds a code decides."""
    return [["status", "category"], *([_codes(codes), kind.value] for codes, kind in CATEGORIES)]


def status_meanings() -> list[list[str]]:
    """The status codes of every service; those without a service are of all."""
    rows = [["service", "operation", "status", "category", "meaning"]]
    for row in ROWS:
        category = Status(row.codes.start).category.value
        rows.append([row.service, row.operation, _codes(row.codes), category, row.meaning])
    return rows


def _tests() -> Iterator[tuple[str, str]]:
    """Case and what its test proves, for every test that is named for a case."""
    for file in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
                match := _CASE.fullmatch(node.name)
            ):
                letter, number, words = match.groups()
                sentence = (ast.get_docstring(node) or "").partition("\n\n")[0]
                proof = ": ".join(
                    filter(None, (words.replace("_", " "), " ".join(sentence.split())))
                )
                yield f"H-{letter.upper()}{number}", f"{proof} ({file.relative_to(TESTS)})"


def _results(file: Path) -> dict[str, Counter[str]]:
    """Of each case how many of its tests passed, failed or were skipped, by pytest's own file."""
    results: dict[str, Counter[str]] = {}
    for test in ElementTree.parse(file).iter("testcase"):  # noqa: S314  of our own tests
        match = _CASE.match(test.get("name", "").partition("[")[0])
        if match is None:
            continue
        outcomes = {"failure": "failed", "error": "failed", "skipped": "skipped"}
        outcome = next((outcomes[each.tag] for each in test if each.tag in outcomes), "passed")
        results.setdefault(f"H-{match[1].upper()}{match[2]}", Counter())[outcome] += 1
    return results


def hostile_cases(results: Path = RESULTS) -> list[list[str]]:
    """Case by case what the tests prove, and how many passed as pytest wrote `results`."""
    proofs: dict[str, list[str]] = {}
    for case, proof in _tests():
        proofs.setdefault(case, []).append(proof)
    found = _results(results) if results.exists() else {}
    rows = [["case", "what its tests prove", "result"]]
    for case in sorted(proofs):
        counts = ", ".join(f"{count} {outcome}" for outcome, count in found.get(case, {}).items())
        rows.append([case, "; ".join(proofs[case]), counts or "not run for this page"])
    return rows


def hostile_groups() -> list[list[str]]:
    """The groups of cases, and which of them no test names yet."""
    tested = {case for case, _ in _tests()}
    rows = [["group", "about", "cases", "without a test yet"]]
    for letter, (about, count) in GROUPS.items():
        cases = [f"H-{letter}{number:02}" for number in range(1, count + 1)]
        missing = [case for case in cases if case not in tested]
        without = ", ".join(missing) if len(missing) < count else "all"
        rows.append([letter, about, str(count), without])
    return rows


def tls_profiles() -> list[list[str]]:
    """The profiles of PS3.15 B, and what is negotiated under them, best first."""
    rows = [["profile", "title", "suites of TLS 1.3", "suites of TLS 1.2"]]
    for name, each in PROFILES.items():
        suites = (", ".join(f"`{one}`" for one in some) for some in (each.suites_1_3, each.suites))
        rows.append([name, each.title, *suites])
    return rows


def events() -> list[list[str]]:
    """The events by name: their measurements and metadata."""
    rows = [["event", "measurements", "metadata"]]
    for name, both in NAMES.items():
        rows.append([f"`{name}`", *(", ".join(f"`{each}`" for each in names) for names in both)])
    return rows


def archive_keys() -> list[list[str]]:
    """The keys of each level: those that are kept, and those that are computed."""
    rows = [["level", "attributes", "computed"]]
    for level in Level:
        kept = [each.keyword for each in KEPT.values() if each.level is level]
        computed = [name_of(tag) for tag, its_level in COMPUTED.items() if its_level is level]
        rows.append([level.name, ", ".join(kept), ", ".join(computed)])
    return rows


def archive_differences() -> list[list[str]]:
    """The queries that DCMTK's dcmqrscp answers otherwise than the archive."""
    rows = [["rule", "level", "keys", "the archive", "dcmqrscp", "why"]]
    for query in (*QUERIES, *CHARACTER_SETS, *REFUSED):
        if query.title in DIFFERENCES:
            theirs, why = DIFFERENCES[query.title]
            ours = f"finds {query.found}" if query.found else "0xA900"
            keys = f"`{shown(query.keys)}`" if query.keys else ""
            rows.append([query.rule, query.level, keys, ours, theirs, why])
    return rows


def worklist_differences() -> list[list[str]]:
    """The queries that DCMTK's wlmscpfs answers otherwise than the worklist."""
    rows = [["key", "the worklist finds", "wlmscpfs", "why"]]
    for query, (theirs, why) in WORKLIST_DIFFERENCES.items():
        rows.append([f"`{query}`", WORKLIST_QUERIES[query], theirs or "nothing", why])
    return rows
