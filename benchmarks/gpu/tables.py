"""Results into the pages: a row of a table is known by its first cell, and its last cells are filled."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

Found = dict[str, dict[str, Any]]
Cells = Callable[[Found], list[str]]
MEASURED = "Measured: "  # the machine
LARGE = "PyTorch SDPA float16", "PyTorch SDPA bfloat16"


def render(found: Found, docs: Path) -> list[str]:
    """Fill docs/kernels.md and docs/performance.md. Returns what was filled, and what has no result."""
    said = []
    for page, rows in PAGES.items():
        path, lines = docs / page, []
        for line in path.read_text("utf-8").splitlines():
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else [""]
            if line.startswith(MEASURED) and "machine" in found:
                line = f"{MEASURED}{_machine(found)}."
            elif cells[0] in rows:
                try:
                    filled = rows[cells[0]](found)
                    line = f"| {' | '.join([*cells[: len(cells) - len(filled)], *filled])} |"
                    said.append(f"{page}: {cells[0]}: {', '.join(filled)}")
                except KeyError as missing:
                    said.append(f"{page}: {cells[0]}: no result ({missing})")
            lines.append(line)
        path.write_text("\n".join(lines) + "\n", "utf-8")
    return said


def _machine(found: Found) -> str:
    machine = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version != "none")
    return f"{' '.join(machine.get('card', ['no card']))}; {versions}"


def _kernel(*names: str, share: str = "", of: str = "") -> Cells:
    """Microseconds of one number or several, and its share of a floor."""

    def cells(found: Found) -> list[str]:
        numbers = [found["kernels"][name] for name in names]
        text = " and ".join(_us(number["value"]) for number in numbers)
        return [text + (f": {numbers[0][share]:.0%} of {of}" if share else "")]

    return cells


def _us(value: float) -> str:
    return f"{value / 1e3:.0f} ms" if value >= 1e4 else f"{value:.3g} us"


def _plain(found: Found) -> list[str]:
    number = found["kernels"]["gradient memory, plain / ours"]
    return [f"{number['plain'] / 1e6:.0f} MB / {number['ours'] / 1e6:.0f} MB: {number['value']:.1f}"]


def _spread(value: dict[str, float]) -> str:
    return f"{value['median']:.2f} ({value['low']:.2f} to {value['high']:.2f})"


def _peers(found: Found, what: str, ours: str) -> list[str]:
    one = found["large"][what]
    ratios = [_spread(one["ratios"][name]) if name in one["ratios"] else "-" for name in LARGE]
    return [ours, f"{one['tflops']:.0f}, {one['share_of_peak']:.0%}", *ratios]


def _evaluation(what: str) -> Cells:
    return lambda found: _peers(found, what, f"{1e3 * found['large'][what]['seconds']['zopog']['median']:.1f} ms")


def _run(what: str) -> Cells:
    def cells(found: Found) -> list[str]:
        one = found["large"][what]
        return _peers(
            found, what, f"{one['extrapolated_seconds']['zopog']:.1f} s, from {one['measured_calls']:,} calls"
        )

    return cells


def _whole(found: Found) -> list[str]:
    one = found["large"]["whole run bbt"]
    return [f"{one['seconds']:.1f} s", f"{one['tflops']:.0f}, {one['share_of_peak']:.0%}", "", ""]


def _bound(found: Found) -> list[str]:
    return [
        f"{found['step']['bound step, fp16, ms']:.0f} ms (fp32 {found['step']['bound step, fp32, ms']:.0f})",
        "",
        "",
        "",
    ]


def _difference(kind: str) -> Cells:
    def cells(found: Found) -> list[str]:
        ran = (("provider-no-tf32", "fp32"), ("provider", "fp32"), ("provider", "fp16"))
        texts = [f"{found[stage][f'{kind} {precision}']['largest_difference']:.0e}" for stage, precision in ran]
        nodes = [found["provider"][f"{kind} {precision} nodes"] for precision in ("fp32", "fp16")]
        elsewhere = {name: count for one in nodes for name, count in one["elsewhere"].items()}
        return [*texts, ", ".join(f"{count} {name}" for name, count in elsewhere.items()) or "none"]

    return cells


PAGES: dict[str, dict[str, Cells]] = {
    "kernels.md": {
        "perturb, float32": _kernel("perturb float32", share="of_copy_bandwidth", of="copy bandwidth"),
        "perturb, float16": _kernel("perturb float16"),
        "gradient": _kernel("gradient", share="of_normals_floor", of="the normals' floor"),
        "plain CuPy perturb (`cupy.random`, two sums, stack)": _kernel("perturb float32, plain CuPy"),
        "plain CuPy gradient (u stored, one product)": _kernel("gradient, plain CuPy"),
        "memory of the gradient, plain / ours": _plain,
        "perturb, K B = 320": _kernel("perturb float32 small"),
        "gradient, K B = 320": _kernel("gradient small"),
        "gradient, K B = 6,400": _kernel("gradient medium"),
        "probabilities": _kernel("probabilities"),
        "sample": _kernel("sample"),
        "policy gradient, cross-entropy": _kernel("policy gradient", "cross entropy"),
        "a whole step's mathematics": _kernel("step"),
        "RoBERTa-large passes of that step": _kernel("RoBERTa-large passes, at least"),
        "the same passes, bound by address, float32": _kernel("passes of the bound step, float32"),
        "encoder": _difference("encoder"),
        "decoder": _difference("decoder"),
        "sentence model": _difference("sentence"),
    },
    "performance.md": {
        "one loss evaluation": _evaluation("loss"),
        "an iteration of ZO-PoG, 40 calls": _evaluation("iteration zo-pog"),
        "the same, bound by address": _bound,
        "BBT, 8,000 calls, extrapolated": _run("run bbt"),
        "BBT, 8,000 calls, measured": _whole,
        "ZO-PoG, 4,000 calls, extrapolated": _run("run zo-pog"),
    },
}
