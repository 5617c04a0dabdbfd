"""f2d2 by its C library, in this process."""

import ctypes
from ctypes import POINTER, Structure, byref, c_char, c_char_p, c_double, c_uint32, c_uint64, c_void_p, sizeof
from pathlib import Path

import numpy as np

LIBRARY = Path(__file__).parents[2] / "target" / "release" / "libf2d2_c.so"
GRAY8, RGB8 = 1, 3


class DetectorOptions(Structure):
    """f2d2_detector_options, as in the header's first version."""

    _fields_ = [
        *((name, c_uint32) for name in ("struct_size", "threads", "steps", "heat_maps", "skip_self_test")),
        *((name, c_uint32) for name in ("log_level", "noise_floor_count", "reserved")),
        ("noise_floors", POINTER(c_double)),
        ("engine", c_char_p),
        *((name, c_void_p) for name in ("adapter", "calibration", "log", "log_user_data")),
    ]


class Frame(Structure):
    """f2d2_frame."""

    _fields_ = [
        *((name, c_uint32) for name in ("struct_size", "format")),
        ("data", c_void_p),
        *((name, c_uint64) for name in ("size", "stride")),
        *((name, c_uint32) for name in ("width", "height", "roi_x", "roi_y", "roi_width", "roi_height")),
    ]


class Inspection(Structure):
    """f2d2_inspection."""

    _fields_ = [
        *((name, c_uint32) for name in ("struct_size", "verdict")),
        *((name, c_double) for name in ("p_value", "score", "threshold", "nll_nats", "bpd")),
        ("elapsed_ns", c_uint64),
        *((name, c_uint32) for name in ("steps", "reserved")),
        ("engine", c_char * 16),
    ]


class Library:
    """A session on one thread, one network evaluation from the first noise floor."""

    def __init__(self, model: str, shape: list[int], engine: str):
        """``shape`` of a batch: [N, C, H, W]."""
        self.library = ctypes.CDLL(LIBRARY)
        self.shape = shape
        floor = c_double(1)
        options = DetectorOptions(sizeof(DetectorOptions), 1, 1, noise_floor_count=1, engine=engine.encode())
        options.noise_floors = ctypes.pointer(floor)
        handle, detector, self.session = c_void_p(), c_void_p(), c_void_p()
        self.call("model_open", model.encode(), None, byref(handle))
        self.call("detector_create", handle, byref(options), byref(detector))
        self.call("model_destroy", handle)
        self.call("session_create", detector, None, byref(self.session))

    def call(self, name: str, *arguments: object) -> None:
        """The function f2d2_``name``; RuntimeError if it fails."""
        status = getattr(self.library, f"f2d2_{name}")(*arguments)
        if status != 0:
            raise RuntimeError(f"f2d2_{name} returned {status}")

    def score(self) -> np.ndarray:
        """Bits per dimension of a batch of ramps."""
        count, channels, height, width = self.shape
        pixels = np.resize(np.arange(256, dtype=np.uint8), self.shape)
        step = pixels[0].size
        frames, inspections = (Frame * count)(), (Inspection * count)()
        for i in range(count):
            frames[i] = Frame(sizeof(Frame), RGB8 if channels == 3 else GRAY8, pixels.ctypes.data + i * step, step)
            frames[i].width, frames[i].height = width, height
            inspections[i].struct_size = sizeof(Inspection)
        self.call("session_score_batch", self.session, frames, ctypes.c_size_t(count), inspections, None)
        scores = np.array([inspection.bpd for inspection in inspections])
        if not np.isfinite(scores).all():
            raise RuntimeError(f"scores are not finite: {scores}")
        return scores
