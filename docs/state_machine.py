"""The state machine of PS3.8 9.2 as a picture and a table, both made from `dimse.ul.table`."""

from html import escape
from textwrap import wrap

from dimse.ul.table import EVENTS, STATES, TABLE, Action, Evt, Sta

WIDTH, HEIGHT = 232, 104  # of a state
COLUMN, ROW = 270, 164  # from one to the next
MARGIN = 12

# Column and row of each state. Sta1 is drawn at both ends, so that time runs downwards.
PLACES: dict[Sta, tuple[float, float]] = {
    Sta.Sta1: (1.25, 0),
    Sta.Sta4: (0.35, 1),
    Sta.Sta5: (0.35, 2),
    Sta.Sta2: (2.15, 1),
    Sta.Sta3: (2.15, 2),
    Sta.Sta6: (1.25, 3),
    Sta.Sta7: (0.5, 4),
    Sta.Sta8: (2.15, 4),
    Sta.Sta9: (0, 5),
    Sta.Sta10: (1, 5),
    Sta.Sta11: (0, 6),
    Sta.Sta12: (1, 6),
    Sta.Sta13: (2.15, 7),
}
END = (0.5, 7.0)  # Sta1 again

Point = tuple[float, float]


def is_abort(action: Action) -> bool:
    """Whether it is one of the actions for aborts (PS3.8 Table 9-9)."""
    return action.name.startswith("AA")


def name(action: Action) -> str:
    """As the standard prints it: `AA-8`."""
    return action.name.replace("_", "-")


def edges() -> dict[tuple[Sta, Sta], list[str]]:
    """What leads from one state to another, aborts apart: event and action by pair of states."""
    found: dict[tuple[Sta, Sta], list[str]] = {}
    for (event, state), (action, following) in sorted(TABLE.items()):
        for then in following:
            if not is_abort(action):
                found.setdefault((Sta(state), then), []).append(f"{Evt(event).name} {name(action)}")
    return found


def _aborts(state: Sta) -> list[str]:
    """The actions for aborts in a state, by where they lead."""
    found: dict[Sta, set[str]] = {}
    for (_, at), (action, (then, *_)) in TABLE.items():
        if at == state and is_abort(action):
            found.setdefault(then, set()).add(name(action))
    return [f"{' '.join(sorted(names))} \u2192 {then.name}" for then, names in found.items()]


def _corner(place: Point) -> Point:
    return MARGIN + place[0] * COLUMN, MARGIN + place[1] * ROW


def _middle(place: Point) -> Point:
    left, top = _corner(place)
    return left + WIDTH / 2, top + HEIGHT / 2


def _border(place: Point, towards: Point) -> Point:
    """Where the line from the middle of a state to a point leaves its box."""
    x, y = _middle(place)
    dx, dy = towards[0] - x, towards[1] - y
    scale = min(WIDTH / 2 / abs(dx) if dx else 9, HEIGHT / 2 / abs(dy) if dy else 9)
    return x + dx * scale, y + dy * scale


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}">{escape(text)}</text>'


def _box(state: Sta, place: Point, lines: list[tuple[str, str]]) -> str:
    left, top = _corner(place)
    rows = [
        _text(left + WIDTH / 2, top + 18 + 15 * number, text, kind)
        for number, (kind, text) in enumerate(lines)
    ]
    box = f'<rect x="{left:.0f}" y="{top:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
    return f'<g id="{state.name}-{place[1]:.0f}">{box}{"".join(rows)}</g>'


def _state(state: Sta, stays: list[str]) -> str:
    lines = [("name", state.name), *(("", text) for text in wrap(STATES[state], 34))]
    lines += [("stays", f"\u21ba {', '.join(stays)}")] if stays else []
    lines += [("abort", text) for text in _aborts(state)]
    return _box(state, PLACES[state], lines)


def _edge(start: Sta, end: Sta, labels: list[str]) -> str:
    source = PLACES[start]
    target = END if end is Sta.Sta1 and start is not Sta.Sta5 else PLACES[end]
    corners = _corners(start, end)
    first = _border(source, (corners or [_middle(target)])[0])
    last = _border(target, (corners or [_middle(source)])[-1])
    points = [first, *corners, last]
    if corners:
        x, y = corners[0][0], (corners[0][1] * 12 + last[1]) / 13
    else:
        x, y = (first[0] + last[0]) / 2, (first[1] + last[1]) / 2 + 4
    path = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
    y -= 7 * (len(labels) - 1)
    texts = "".join(_text(x, y + 14 * number, text) for number, text in enumerate(labels))
    return f'<polyline points="{path}"/>{texts}'


def _corners(start: Sta, end: Sta) -> list[Point]:
    """Where an edge turns that goes round other states."""
    (_, y0), (x1, y1) = _middle(PLACES[start]), _middle(PLACES[end])
    if (start, end) == (Sta.Sta5, Sta.Sta1):
        return [(x1, y0)]
    if end is Sta.Sta13 and start in (Sta.Sta2, Sta.Sta3):
        lane = x1 + WIDTH / 2 + 4 * MARGIN
        return [(lane, y0), (lane, y1)]
    return []


STYLE = """
svg.fsm { max-width: 100%; height: auto; font: 12px sans-serif; }
.fsm rect { fill: #f4f7fa; stroke: #58708a; }
.fsm text { text-anchor: middle; fill: #222; paint-order: stroke; stroke: #fff; stroke-width: 4px; }
.fsm g text { stroke: none; }
.fsm text.name { font-weight: bold; font-size: 14px; }
.fsm text.stays { fill: #1d6b35; }
.fsm text.abort { fill: #a02c2c; }
.fsm polyline { fill: none; stroke: #58708a; marker-end: url(#fsm-arrow); }
"""

MARKER = (
    '<defs><marker id="fsm-arrow" viewBox="0 0 10 10" refX="10" refY="5" markerWidth="7" '
    'markerHeight="7" orient="auto"><path d="M0,0 L10,5 L0,10 z" fill="#58708a"/></marker></defs>'
)


def picture() -> str:
    """An SVG of all states: green what stays in a state, red the aborts, arrows all the rest."""
    found = edges()
    width = _corner(PLACES[Sta.Sta13])[0] + WIDTH + 8 * MARGIN
    height = _corner(END)[1] + HEIGHT + MARGIN
    lines = [_edge(*pair, labels) for pair, labels in found.items() if pair[0] is not pair[1]]
    boxes = [_state(state, found.get((state, state), [])) for state in Sta]
    boxes.append(_box(Sta.Sta1, END, [("name", "Sta1"), ("", STATES[Sta.Sta1])]))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="fsm" role="img" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}">'
        f"<title>The states of an association, PS3.8 9.2</title>"
        f"<style>{STYLE}</style>{MARKER}{''.join(lines)}{''.join(boxes)}</svg>"
    )


def transitions() -> list[list[str]]:
    """Table 9-10: a header and a row an event, each cell as `AE-6 3/13` or empty."""

    def cell(event: Evt, state: Sta) -> str:
        action, following = TABLE.get((event, state), (None, ()))
        return f"{name(action)} {'/'.join(f'{s:d}' for s in following)}" if action else ""

    rows = [[event.name, *(cell(event, state) for state in Sta)] for event in Evt]
    return [["", *(state.name for state in Sta)], *rows]


def states() -> list[list[str]]:
    """The states and what they mean."""
    return [["state", "meaning"], *([state.name, text] for state, text in STATES.items())]


def events() -> list[list[str]]:
    """The events and what they are."""
    return [["event", "what happened"], *([event.name, text] for event, text in EVENTS.items())]


def actions() -> list[list[str]]:
    """The actions and what they do."""
    return [["action", "what is done"], *([name(action), action.value] for action in Action)]
