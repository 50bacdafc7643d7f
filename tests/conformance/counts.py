"""How many of ONNX's node tests are explained, and why the others are not: the README's table.

``python -m tests.conformance.counts`` prints it.
"""

from collections import Counter

from tests.conformance.test_node_cases import cases, why_not


def counts() -> Counter[str]:
    """Return the number of cases by why they owe no derivative; empty where they do."""
    return Counter(why_not(name, case) or "" for name, case in cases().items())


def table() -> str:
    """Return the table in Markdown."""
    found = counts()
    rows = [
        "| node tests of the standard | |",
        "|---|---|",
        f"| in the installed `onnx` | {found.total():,} |",
        f"| **explained: central difference = eager = compiled** | **{found.pop(''):,}** |",
    ]
    rows += [f"| {why} | {many:,} |" for why, many in found.most_common()]
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
