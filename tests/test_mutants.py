"""Good files of every format, mutated, cut and spliced: a picture or the one error, soon, and in little memory."""

import resource
import sys
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from planetlib.files.read import UnreadableImage
from planetlib.images import read_image

SECONDS = 2  # of the processor's time, for one file
MEGABYTES = 600  # beyond what was taken before; a header that lies asks for as much as the pixel limit allows


@st.composite
def mutants(draw, files: list[bytes]) -> bytes:
    """A good file with its end cut off, bits turned, bytes overwritten, left out or repeated, or joined to another."""
    content = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 2))):
        # Half of the places are near the start, where the headers are.
        most = len(content) if draw(st.booleans()) else min(200, len(content))
        start = draw(st.integers(0, max(0, most - 1)))
        stop = start + draw(st.integers(1, 64))
        deed = draw(st.sampled_from(["cut", "turn", "overwrite", "leave out", "repeat", "join", "splice"]))
        if deed == "cut":
            del content[start:]
        elif deed == "turn" and content:
            content[start] ^= 1 << draw(st.integers(0, 7))
        elif deed == "overwrite":
            odd = st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\x40\0", b"99999999"])
            new = draw(odd | st.binary(min_size=1, max_size=8))
            content[start : start + len(new)] = new
        elif deed == "leave out":
            del content[start:stop]
        elif deed == "repeat":
            content[start:start] = content[start:stop] * draw(st.integers(1, 20))
        else:
            other = draw(st.sampled_from(files))
            content[start:] = other[start:] if deed == "join" else other[draw(st.integers(0, len(other))) :]
    return bytes(content)


def peak_megabytes() -> float:
    """The most memory that this process has had; reset where the system can (Linux)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")  # of odd files; pytest undoes the library's own filter
def test_mutants_of_good_files_give_a_picture_or_the_one_error(every_format, amount):
    counts, slowest, reasons = Counter(), 0.0, Counter()
    before = peak_megabytes()

    @settings(max_examples=amount(400, 10_000), deadline=None, database=None, derandomize=True, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(mutants(list(every_format.values())))
    def survive(content):
        nonlocal slowest
        start = time.process_time()
        try:
            picture = read_image(content)
            assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
            counts["ok"] += 1
        except UnreadableImage as error:
            assert error.reason and "\n" not in error.reason
            counts["unreadable"] += 1
            reasons[error.reason.partition(" (")[0]] += 1
        took = time.process_time() - start
        slowest = max(slowest, took)
        assert took < SECONDS

    survive()
    grown = peak_megabytes() - before
    print(f"\n{counts.total()} mutants tried: {counts['ok']} ok, {counts['unreadable']} unreadable, none crashed; "
          f"slowest {slowest:.2f} s; {grown:.0f} MB more memory at most")  # fmt: skip
    assert min(counts.values()) > counts.total() / 20  # neither harmless nor mere rubbish
    assert grown < MEGABYTES
