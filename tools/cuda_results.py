"""The table at the end of `make test-cuda`."""

from __future__ import annotations

from collections import Counter

from cuda_parts import Part, Result

_MOST = 40  # failures that are named


def print_results(results: list[tuple[Part, Result]], unrun: list[tuple[Part, str]]) -> int:
    """Returns the exit status."""
    print(f"\n{'part':12}{'passed':>8}{'failed':>8}{'not run':>9}{'seconds':>9}  what")
    for part, result in results:
        counts = f"{result.passed:8}{len(result.failed):8}{len(result.not_run):9}{result.seconds:9.0f}"
        print(f"{part.name:12}{counts}  {part.text}{'' if result.good else '  <-- not good'}")
    for part, why in unrun:
        print(f"{part.name:12}{'-':>8}{'-':>8}{'all':>9}{'-':>9}  {part.text}: {why}")
    for part, result in results:
        if result.failed:
            print(f"\nfailed in {part.name}:")
            for name, reason in result.failed[:_MOST]:
                first = reason.splitlines()[0] if reason else ""
                print(f"  {name}: {first}")
            if len(result.failed) > _MOST:
                print(f"  and {len(result.failed) - _MOST} more: see build/test-cuda")
    for part, result in results:
        if result.not_run:
            print(f"\nnot run in {part.name}:")
            for reason, count in Counter(reason.splitlines()[0] for _, reason in result.not_run).most_common():
                names = [name for name, why in result.not_run if why.splitlines()[0] == reason]
                print(f"  {count} x {reason} ({names[0]}{', ...' if count > 1 else ''})")
    bad = [part.name for part, result in results if not result.good]
    idle = [part.name for part, result in results if result.good and not result.passed]
    print()
    if idle:
        print(f"NOT RUN at all: {', '.join(idle)}")
    if bad:
        print(f"FAILED: {', '.join(bad)}")
    elif not unrun:
        print("all parts passed" if not idle else "all parts that could run passed")
    else:
        print(f"passed, of the parts that were run: {', '.join(part.name for part, _ in results) or 'none'}")
    return 1 if bad or not results else 0
