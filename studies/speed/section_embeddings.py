"""Embedding against the plain loop and sentence-transformers."""

from __future__ import annotations

from studies.records import Record, read
from studies.tables import Headline, table


def _record(arm: str = "embeddings") -> Record | None:
    return next(iter(read("speed", arm)), None)


def headlines() -> list[Headline]:
    """Times as fast as the plain loop."""
    record = _record()
    if record is None:
        return []
    found = record["results"]
    cases = (
        ("embedding texts, times as fast as a plain loop", found["texts"]["speedup"], 2.2),
        ("embedding pairs that share texts, likewise", found["pairs"]["speedup"], 10),
        ("the same, cached", found["pairs"]["speedup_cached"], 100),
        ("8 responses to one long prompt on a decoder, likewise", found["decoder"]["speedup"], 3),
    )
    return [
        Headline(
            claim,
            f"{ratio['median']:,.1f} [{ratio['min']:,.1f}, {ratio['max']:,.1f}]",
            f"{goal:g}",
            ratio["median"] >= goal,
        )
        for claim, ratio, goal in cases
    ]


def _hundredths(value: dict[str, float]) -> str:
    return f"{value['median']:.2f}x [{value['min']:.2f}, {value['max']:.2f}]"


def section() -> str:
    """`Backbone.embed` against the plain loop."""
    text = (
        "## Embeddings\n\n`Backbone.embed` against a loop in file order, batches of 32, padded "
        "(`python -m studies speed --arms embeddings`), one thread."
    )
    record = _record()
    if record is None:
        return text + "\n\nNot run yet."

    def ratio(value: dict[str, float]) -> str:
        return f"{value['median']:,.1f}x [{value['min']:,.1f}, {value['max']:,.1f}]"

    texts, pairs, decoder = (record["results"][name] for name in ("texts", "pairs", "decoder"))
    rows = [
        ["MiniLM, hh_rlhf_harmless texts, float32", ratio(texts["speedup"])],
        ["the same in bfloat16, each against its own plain loop", ratio(texts["speedup_bfloat16"])],
        ["bfloat16 over float32, both ours", ratio(texts["bfloat16_over_float32"])],
        ["ukpconvarg, per pair, each text once", ratio(pairs["speedup"])],
        ["ukpconvarg, per pair, cached", ratio(pairs["speedup_cached"])],
        ["a small decoder, 8 responses per long prompt, prompt shared", ratio(decoder["speedup"])],
    ]
    peer = _record("sentence_transformers")
    if peer is not None:
        name = f"sentence-transformers {peer['versions']['sentence-transformers']}"
        rows.append([f"MiniLM, texts in float32, against {name}", _hundredths(peer["results"]["speedup"])])
    text += "\n\n" + table(["", "times faster [min, max]"], rows)
    share, cosine = texts["share_of_matmul_rate"], texts["bfloat16_cosine"]
    return text + (
        f"\n\nShare of the machine's measured matrix-product rate: {100 * share['float32']:.0f} % in float32, "
        f"{100 * share['bfloat16']:.0f} % in bfloat16. bfloat16 changes the vectors to a cosine of "
        f"{cosine['mean']:.5f} on average, {cosine['min']:.5f} at least. Load average while measuring: "
        f"{record['hardware']['load_average']:.1f} on {record['hardware']['cpu_count']} cores."
    )
