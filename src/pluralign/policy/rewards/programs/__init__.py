"""Rewards from programs: the code in a completion, run in a sandbox against tests that it never sees.

    completion ──► extraction ──► program ─────────► sandbox (entry, confine) ──► agent: runs it
    row ─────────► shapes ──────► Suite ──► runner ──► judge: runs the tests ◄── wire ──┘
                                              └──► results ──► reward (share passed, cached)

Two processes: the program's, and the judge's, which holds the tests. Between them go frames of plain values
(`wire`), so a program can answer and do nothing else: it has no way to the comparison, to the judge's
built-in functions, or to what the tests expect.
"""
