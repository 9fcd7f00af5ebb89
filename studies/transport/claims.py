"""What the sentences of `findings.md` say of the records."""

from __future__ import annotations

from studies.records import results


def tensors_are_faster_than_arrays() -> bool:
    (found,) = results("speed", "transport")
    arrays, tensors = (
        found["times_faster"][f"closed form, unchecked against POT batched 1-D{kind}"]["forward"][
            "of_cpu_time"
        ]
        for kind in (", NumPy", "")
    )
    return bool(arrays["median"] > 2 * tensors["median"])
