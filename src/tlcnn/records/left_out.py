"""What is not in a table of means, and why: counts by state, and each damaged folder by name."""

import pandas as pd

_WHY = {
    "failed": "no result (`tlcnn status` has the error)",
    "running": "not finished yet",
    "stopped": "not finished; repeat the command to continue",
    "pruned": "given up by a search after few epochs, and not tested",
    "unreadable": "damaged",
    "no run": "something else",
    "duplicate": "one copy of each is taken",
}
_NOUNS = {
    "no run": ("folder is no run", "folders are no runs"),
    "duplicate": ("folder is a duplicate", "folders are duplicates"),
}
_BY_NAME = ("unreadable", "no run", "duplicate")


def describe_left_out(runs: pd.DataFrame) -> list[str]:
    """Return a line for each state that is not done, and one for each folder with a problem.

    Args:
        runs: what `read_runs` returned.

    Example:
        >>> runs = pd.DataFrame({"state": ["done", "failed"], "folder": ["a", "b"], "problem": ""})
        >>> describe_left_out(runs)
        ['1 run failed: no result (`tlcnn status` has the error)']
    """
    counts = {str(state): n for state, n in runs["state"].value_counts().items()}
    states = [*(s for s in _WHY if s in counts), *(s for s in counts if s not in (*_WHY, "done"))]
    lines = []
    for state in states:
        n, nouns = counts[state], _NOUNS.get(state, (f"run {state}", f"runs {state}"))
        lines.append(f"{n:,} {nouns[n != 1]}: {_WHY.get(state, 'not done')}")
        if state in _BY_NAME:
            rows = runs[runs["state"] == state]
            lines += [f"  {row.folder}: {row.problem}" for row in rows.itertuples()]
    is_trial = runs["is_trial"].astype(bool) if "is_trial" in runs else runs["state"] == ""
    if n := int((is_trial & (runs["state"] == "done")).sum()):
        text = "trained by a search to choose settings, so in no mean"
        lines.append(f"{n:,} {'run is a trial' if n == 1 else 'runs are trials'}: {text}")
    noted = runs[~runs["state"].isin(_BY_NAME) & runs["problem"].notna() & (runs["problem"] != "")]
    return lines + [f"note: {row.folder}: {row.problem}" for row in noted.itertuples()]
