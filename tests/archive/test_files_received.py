"""The object store behind an association: what a peer sends is on the disk, or nothing is."""

import errno
from typing import Any

import pytest

from dimse.archive.files import FileStore
from dimse.association import Association
from dimse.message.messages import CStoreRSP
from dimse.services.partial_file import PartialFile
from dimse.services.storage import StorageSCP
from dimse.testing import Link
from tests.archive.storing import (
    CONTENT,
    digest,
    leftovers,
    objects,
)
from tests.memory import Net
from tests.scripted import RQ, STORE, Bytes, data, store_rq
from tests.wire import CT_STORAGE


class TestOverAnAssociation:
    @pytest.fixture
    def pair(self, net: Net, store: FileStore) -> tuple[Association, Link]:
        requestor, _, link = net.pair(net.acceptor([StorageSCP(store)]))
        return requestor, link

    def send(self, net: Net, pair: tuple[Association, Link], content: bytes = CONTENT) -> CStoreRSP:
        requestor, link = pair
        context = requestor.context_for(CT_STORAGE)
        outcome = net.outcome(requestor.request(context, store_rq(), Bytes(content)))
        link.run()
        response = outcome.value.response
        assert isinstance(response, CStoreRSP)
        return response

    def test_success(self, net: Net, pair: tuple[Association, Link], store: FileStore):
        response = self.send(net, pair)
        assert (response.status, response.affected_sop_instance_uid) == (0, "1.2.3")
        assert store.path_of("1.2.3").read_bytes().endswith(CONTENT)
        assert self.send(net, pair).status == 0
        refused = self.send(net, pair, CONTENT + b"ab")
        assert refused.status == 0x0111
        assert refused.error_comment == "kept: another data set under this UID"

    def test_a_full_disk(
        self,
        net: Net,
        pair: tuple[Association, Link],
        store: FileStore,
        monkeypatch: pytest.MonkeyPatch,
    ):
        real = PartialFile.sync

        def fail(file: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(PartialFile, "sync", fail)
        response = self.send(net, pair)
        assert (response.status, response.error_comment) == (0xA700, "No space left on device")
        assert objects(store) == leftovers(store) == []
        monkeypatch.setattr(PartialFile, "sync", real)
        assert self.send(net, pair).status == 0

    def test_a_broken_re_send_leaves_the_first(self, net: Net, store: FileStore):
        """H-A04: cut at many places."""
        factory = net.acceptor([StorageSCP(store)])
        wire = STORE + b"".join(data(bytes(100), last=n == 9) for n in range(10))
        client = net.client(factory)
        client.send(RQ, STORE, data(CONTENT))
        before = digest(store.path_of("1.2.3"))
        for cut in range(0, len(wire), 7):
            client = net.client(factory)
            client.send(RQ, wire[:cut])
            client.link.cut()
            assert leftovers(store) == []
        assert digest(store.path_of("1.2.3")) == before
