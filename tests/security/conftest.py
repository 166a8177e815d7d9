"""A site whose audit trail can be read, and one with two studies."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dimse.testing import Network
from tests.archive.archives import data_set, open_archive
from tests.security.trails import Outlet, Site, audited


@pytest.fixture
def outlet() -> Outlet:
    return Outlet()


@pytest.fixture
def site(tmp_path: Path, outlet: Outlet) -> Iterator[Site]:
    with Network() as network:
        trail = audited(network, outlet)
        with open_archive(tmp_path / "store", audit=trail) as archive:
            yield Site(network, archive, trail, outlet)


@pytest.fixture
def stored(site: Site) -> Site:
    """With two studies of 2 and 1 instances."""
    named = data_set("1.2.1.1.1", PatientID="P2", PatientName="Roe^Richard")
    site.release(site.store(data_set("1.2.0.1.1"), data_set("1.2.0.1.2"), named))
    site.records()
    return site
