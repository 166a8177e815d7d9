"""Whatever happens, each Deferred fires exactly once, each sink ends once, no timer is left."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dimse.errors import AssociationRejectedError
from tests.property.exchange import EVENTS, VERBS, Fate, exchanging, fates, mostly, segments

verbs = st.sampled_from(sorted(VERBS))
happenings = st.one_of(
    verbs,
    st.tuples(st.integers(0, 30)),  # which Deferred is cancelled
    st.sampled_from([*sorted(EVENTS), "abort", "abort theirs"]),
    st.sampled_from([1, 6, 14, 29, 60]),  # seconds
)
turns = st.one_of(st.integers(0, 30), st.integers(30, 400), st.just(5000))  # then all is still
admissions = st.sampled_from(["later", "much later", "never", "reject", "crash", "junk"])


@settings(max_examples=4 * settings().max_examples)
@given(
    sizes=segments,
    fates=fates,
    window=st.sampled_from([1, 3]),
    admitting=mostly(st.none(), admissions),
    watched=st.booleans(),
    asked=st.lists(verbs, min_size=1, max_size=5),
    script=st.lists(st.tuples(turns, happenings), max_size=8),
)
def test_exactly_once(
    sizes: list[int],
    fates: list[Fate],
    window: int,
    admitting: str | None,
    watched: bool,
    asked: list[str],
    script: list[tuple[int, Any]],
):
    with exchanging(fates, window, sizes, watched=watched) as exchange:

        def admit(requesting: object) -> Any:
            if admitting == "reject":
                raise AssociationRejectedError(1, 1, 7)
            return exchange.undergo(Fate(0, admitting or "now"), None)

        exchange.associate(exchange.listen(admit if admitting is not None else None))
        for verb in asked:
            exchange.happen(verb)
        for count, what in script:
            exchange.run(count)
            exchange.happen(what)
