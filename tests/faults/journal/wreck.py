"""What may have been done to files: anything."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.faults.journal.model_disk import Image


@st.composite
def wreckage(draw: st.DrawFn, whole: Image) -> Image:
    """Anything done to any files: bytes changed, overwritten, copied from elsewhere, taken out, put in; files gone."""
    image: dict[str, bytes] = dict(whole)
    names = sorted(image)
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from(names))
        content = image.get(name, b"")
        if content and draw(st.booleans()):
            at = min(draw(st.integers(0, len(content) // 64)) * 64 + draw(st.integers(0, 39)), len(content) - 1)
            image[name] = content[:at] + bytes([content[at] ^ draw(st.integers(1, 255))]) + content[at + 1 :]
            continue
        begin = draw(st.integers(0, len(content)))
        end = draw(st.integers(begin, min(len(content), begin + 200)))
        other = image.get(draw(st.sampled_from(names)), b"")
        at = draw(st.integers(0, max(len(other) // 64 - 1, 0))) * 64
        instead: Any = draw(
            st.one_of(st.binary(max_size=100), st.just(bytes(end - begin)), st.just(other[at : at + 128]), st.none())
        )
        if instead is None:
            image.pop(name, None)
        else:
            image[name] = content[:begin] + instead + content[end:]
    return image
