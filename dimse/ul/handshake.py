"""The TLS handshake below an association: whether it is to come, and why there was none."""

from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import ISSLTransport

from dimse.errors import TimedOutError, TLSError

_MEANINGS = {
    "http request": "what came is HTTP",
    "https proxy request": "what came is HTTP",
    "wrong version number": "what came is no TLS; plain DICOM?",
    "bad record type": "what came is no TLS; plain DICOM?",
    "unsupported protocol": "the peer has nothing newer than TLS 1.1",
    "no shared cipher": "there is no cipher suite in common",
    "peer did not return a certificate": "the peer showed no certificate",
    "no application protocol": "the peer wants another application protocol than dicom (ALPN)",
    "invalid alpn protocol": "the peer wants another application protocol than dicom (ALPN)",
    "tlsv13 alert certificate required": "the peer wants to see a certificate of ours",
    "unknown ca": "the peer does not trust who signed our certificate",
    "bad certificate": "the peer does not take our certificate, or wants to see one",
    "certificate expired": "our certificate has expired, says the peer",
    "certificate revoked": "our certificate is revoked, says the peer",
    "certificate unknown": "the peer does not take our certificate",
    "internal error": "the peer failed, or our certificate is not for the name that it knows",
    "protocol version": "the peer does not speak this version of TLS",
    "handshake failure": "the peer found nothing in common, or wants to see a certificate",
}
"""What the reasons of OpenSSL, and the alerts of a peer, mean here."""


class Handshake:
    """What is known of it: it is `pending` until TLS has agreed, and with it the connection.

    `refused` says what is wrong with the certificate of the peer, `failure` why it came to nothing.
    """

    __slots__ = ("_requestor", "failure", "pending", "refused")

    def __init__(self, *, requestor: bool) -> None:
        self._requestor = requestor
        self.pending = False
        self.refused = self.failure = ""

    def begin(self, transport: Any) -> None:
        """There is a connection, over which TLS may be still to come."""
        self.pending = ISSLTransport.providedBy(transport)

    def explain(self, reason: BaseException | None) -> BaseException | None:
        """Why the connection was lost: a `TLSError` where it was because of TLS.

        Whoever comes and goes, to see whether somebody listens, does nothing wrong.
        """
        if isinstance(reason, SSL.Error):
            error = TLSError(f"no TLS: {self.refused or _meaning(reason)}")
        elif self.pending and self._requestor and isinstance(reason, ConnectionClosed):
            error = TLSError("no TLS: the peer closed the connection; is it a plain port?")
        else:
            return reason
        error.__cause__ = reason
        if self.pending:
            self.failure = str(error)
        return error

    def timed_out(self, which: str, seconds: float) -> TimedOutError:
        """A time-out ran out, and this was waited for if it is still to come."""
        if not self.pending:
            return TimedOutError(which, seconds)
        error = TimedOutError(which, seconds, "the TLS handshake")
        self.failure = str(error)
        return error


def _meaning(error: SSL.Error) -> str:
    """The last of the reasons, which is what came of the others; those of alerts say whose."""
    reasons = [entry[-1] for entry in error.args[0]] if error.args else []
    text = str(reasons[-1]) if reasons else "unknown"
    alert = text.partition(" alert ")[2]
    return _MEANINGS.get(text) or _MEANINGS.get(alert) or text
