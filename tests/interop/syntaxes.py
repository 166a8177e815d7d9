"""The transfer syntaxes that DCMTK's storescu can propose, by the option that does it."""

from pydicom import uid

COMPRESSED = {
    "-xs": uid.JPEGLosslessSV1,
    "-xy": uid.JPEGBaseline8Bit,
    "-xx": uid.JPEGExtended12Bit,
    "-xv": uid.JPEG2000Lossless,
    "-xw": uid.JPEG2000,
    "-xt": uid.JPEGLSLossless,
    "-xu": uid.JPEGLSNearLossless,
    "-xr": uid.RLELossless,
}
"""What storescu does not convert: files that pydicom ships in that syntax."""

VIDEO = {
    "-xm": uid.MPEG2MPML,
    "-xh": uid.MPEG2MPHL,
    "-xn": uid.MPEG4HP41,
    "-xl": uid.MPEG4HP41BD,
    "-x2": uid.MPEG4HP422D,
    "-x3": uid.MPEG4HP423D,
    "-xo": uid.MPEG4HP42STEREO,
    "-x4": uid.HEVCMP51,
    "-x5": uid.HEVCM10P51,
}
"""Nobody decodes the frames, so any bytes will do."""

UNCOMPRESSED = {
    "-x=": uid.ExplicitVRLittleEndian,
    "-xe": uid.ExplicitVRLittleEndian,
    "-xb": uid.ExplicitVRBigEndian,
    "-xi": uid.ImplicitVRLittleEndian,
    "-xd": uid.DeflatedExplicitVRLittleEndian,
}
"""What storescu makes of everything that is not compressed."""

VIDEO_STORAGE = uid.MultiFrameTrueColorSecondaryCaptureImageStorage
"""The SOP class that the tests use for them."""

LARGE_STORAGE = uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage
"""The SOP class of the 512 MB."""
