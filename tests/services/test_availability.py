"""Instance Availability Notification in both roles (PS3.4 R)."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydicom import Dataset

from dimse import (
    Availability,
    AvailabilityNotification,
    AvailabilitySCP,
    AvailableInstance,
    MisuseError,
    Operation,
    Reference,
    StatusError,
    n_create,
    notify_availability,
)
from dimse.sop_classes import INSTANCE_AVAILABILITY_NOTIFICATION as IAN
from dimse.testing import Network
from tests.wire import CT_STORAGE

INSTANCES = (
    AvailableInstance("1.2.1", Reference(CT_STORAGE, "1.2.1.1"), "ARCHIVE"),
    AvailableInstance("1.2.2", Reference(CT_STORAGE, "1.2.2.1"), "TAPE", Availability.NEARLINE),
    AvailableInstance("1.2.1", Reference(CT_STORAGE, "1.2.1.2"), "ARCHIVE"),
)
NOTIFICATION = AvailabilityNotification("1.2", INSTANCES, ("1.2.9",))


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def heard() -> list[Any]:
    return []


@pytest.fixture
def scu(network: Network, heard: list[Any]) -> Any:
    async def hear(notification: AvailabilityNotification, operation: Operation) -> None:
        heard.append((notification, operation.peer.ae_title))

    endpoint = network.listen([AvailabilitySCP(hear)])
    return network.associate(endpoint, [IAN], calling_ae_title="ARCHIVE")[0]


def test_a_notification(network: Network, scu: Any, heard: list[Any]):
    """What was said is what is heard; instances come by series."""
    reply = network.result(notify_availability(scu, "1.2", INSTANCES, ["1.2.9"]))
    assert reply.status == 0
    ((notification, ae_title),) = heard
    assert ae_title == "ARCHIVE"
    assert notification.study_instance_uid == "1.2"
    assert notification.instances == (INSTANCES[0], INSTANCES[2], INSTANCES[1])
    assert notification.procedure_steps == ("1.2.9",)


def test_without_procedure_steps(network: Network, scu: Any, heard: list[Any]):
    network.result(notify_availability(scu, "1.2", INSTANCES))
    assert heard[0][0].procedure_steps == ()


def test_of_nothing(scu: Any):
    with pytest.raises(MisuseError, match="no instance"):
        notify_availability(scu, "1.2", [])


def series(dataset: Dataset) -> Dataset:
    item: Dataset = dataset.ReferencedSeriesSequence[0]
    return item


def instance(dataset: Dataset) -> Dataset:
    item: Dataset = series(dataset).ReferencedSOPSequence[0]
    return item


@pytest.mark.parametrize(
    ("change", "status", "tag"),
    [
        (lambda made: delattr(made, "StudyInstanceUID"), 0x0120, 0x0020000D),
        (
            lambda made: delattr(made, "ReferencedPerformedProcedureStepSequence"),
            0x0120,
            0x00081111,
        ),
        (lambda made: setattr(made, "ReferencedSeriesSequence", []), 0x0121, 0x00081115),
        (lambda made: delattr(series(made), "SeriesInstanceUID"), 0x0120, 0x0020000E),
        (lambda made: delattr(instance(made), "RetrieveAETitle"), 0x0120, 0x00080054),
        (lambda made: setattr(instance(made), "InstanceAvailability", ""), 0x0121, 0x00080056),
        (lambda made: setattr(instance(made), "InstanceAvailability", "X"), 0x0106, 0x00080056),
        (
            lambda made: instance(made).add_new(0x00081155, "UI", "1.2..3"),
            0x0106,
            0x00081199,
        ),
    ],
)
def test_what_is_refused(
    network: Network,
    scu: Any,
    heard: list[Any],
    change: Callable[[Dataset], None],
    status: int,
    tag: int,
):
    """The refusal names the attribute, and nobody is notified."""
    attributes = NOTIFICATION.dataset()
    change(attributes)
    with pytest.raises(StatusError) as caught:
        network.result(n_create(scu, IAN, attributes, "1.2.3"))
    assert (caught.value.status, caught.value.offending) == (status, (tag,))
    assert not heard


def test_the_scu_gives_the_uid(network: Network, scu: Any):
    with pytest.raises(StatusError, match="0x0117"):
        network.result(n_create(scu, IAN, NOTIFICATION.dataset()))


def test_a_notification_twice(network: Network):
    def refuse(*_: object) -> None:
        raise StatusError(0x0111)

    ours, _ = network.associate(network.listen([AvailabilitySCP(refuse)]), [IAN])
    with pytest.raises(StatusError, match="0x0111"):
        network.result(notify_availability(ours, "1.2", INSTANCES))
