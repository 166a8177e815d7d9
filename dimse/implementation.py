"""Who we say we are, on the wire and in the files we write (PS3.7 D.3.3.2, PS3.10 7.1)."""

IMPLEMENTATION_CLASS_UID = "2.25.133081846315300648983079045698850664298"
IMPLEMENTATION_VERSION_NAME = "DIMSE_0_1"

# Without another one; DCMTK and pynetdicom call their peers ANY-SCP too.
CALLING_AE_TITLE = "DIMSE"
CALLED_AE_TITLE = "ANY-SCP"
