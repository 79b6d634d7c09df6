"""What the CUDA compilers make of the kernels: every architecture, no contraction, no spills. Skipped without nvcc.

python -m tests.kernels.test_compilers         rewrites the resource table of docs/kernels.md
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from zopog_kernels.source import EXACT, OPTIONS, kernels, module_source

NVCC = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
PAGE = Path(__file__).parents[2] / "docs" / "kernels.md"
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
# Their logarithms and exponentials are the compiler's own, which contract.
INEXACT = {"zopog_gumbel", "zopog_probabilities", "zopog_cross_entropy"}
_BEGIN, _END = "<!-- resources: begin -->\n", "<!-- resources: end -->\n"


def nvcc(output: Path, options: Sequence[str], source: str | None = None) -> str:
    if NVCC is None:
        pytest.skip("no nvcc")
    text = output.parent / "kernels.cu"
    text.write_text(source or module_source(), "utf-8")
    command = [NVCC, *options, "-o", str(output), str(text)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stderr


@cache
def version() -> str:
    if NVCC is None:
        pytest.skip("no nvcc")
    output = subprocess.run([NVCC, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"release [\d.]+, V([\d.]+)", output)
    assert found
    return found[1]


def without_asm(ptx: str) -> str:
    return re.sub(r"// begin inline asm.*?// end inline asm", "", ptx, flags=re.DOTALL)


def contracted(ptx: str) -> set[str]:
    """Kernels in which the compiler fused a product and a sum; what the source says itself is not the compiler's."""
    found = set()
    for entry in re.split(r"(?=^\.visible \.entry )", without_asm(ptx), flags=re.MULTILINE)[1:]:
        if re.search(r"\bfma\.", entry):
            found.add(re.match(r"\.visible \.entry (\w+)", entry)[1])  # type: ignore[index]
    return found


Resources = dict[
    str, dict[str, tuple[int, int, int]]
]  # kernel -> architecture -> registers, spilled bytes, shared bytes


def resources(report: str) -> Resources:
    """From ptxas -v."""
    found: Resources = {}
    pattern = re.compile(
        r"Compiling entry function '(\w+)' for '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)",
        re.DOTALL,
    )
    for kernel, architecture, stores, loads, registers, rest in pattern.findall(report):
        shared = re.search(r"(\d+) bytes smem", rest)
        numbers = int(registers), int(stores) + int(loads), int(shared[1]) if shared else 0
        found.setdefault(kernel, {})[architecture] = numbers
    return found


def table(found: Resources) -> str:
    lines = [
        f"nvcc {version()}, 128 threads a block; registers a thread.\n",
        f"| kernel | {' | '.join(ARCHITECTURES)} | spilled bytes | shared bytes |",
        f"|---|{'---|' * len(ARCHITECTURES)}---|---|",
    ]
    for kernel in kernels():
        rows = [found[kernel][architecture] for architecture in ARCHITECTURES]
        cells = [*(row[0] for row in rows), max(row[1] for row in rows), max(row[2] for row in rows)]
        lines.append(f"| `{kernel}` | {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


@cache
def compiled_resources(folder: Path) -> Resources:
    generated = [f"-gencode=arch=compute_{name[3:]},code={name}" for name in ARCHITECTURES]
    return resources(nvcc(folder / "kernels.fatbin", [*OPTIONS, "-fatbin", "-Xptxas", "-v", *generated]))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Resources:
    return compiled_resources(tmp_path_factory.mktemp("nvcc"))


def test_every_kernel_compiles_for_every_architecture_without_spills(found: Resources) -> None:
    assert set(found) == set(kernels())
    for kernel, by_architecture in found.items():
        assert set(by_architecture) == set(ARCHITECTURES)
        for registers, spilled, _ in by_architecture.values():
            assert spilled == 0, kernel
            assert registers <= 64, kernel  # 8 blocks of 128 threads on a multiprocessor


def test_the_resource_table_is_the_compiler_s(found: Resources) -> None:
    shown = PAGE.read_text("utf-8").partition(_BEGIN)[2].partition(_END)[0]
    if f"nvcc {version()}," not in shown:
        pytest.skip(f"the table was made by another nvcc than this {version()}")
    assert shown == table(found)


def test_nothing_is_contracted_where_bits_are_promised(tmp_path: Path) -> None:
    nvcc(tmp_path / "kernels.ptx", [*OPTIONS, "-ptx", "-arch=compute_90"])
    ptx = (tmp_path / "kernels.ptx").read_text("utf-8")
    assert set(re.findall(r"\.visible \.entry (\w+)", ptx)) == set(kernels())
    assert contracted(ptx) <= INEXACT
    normals = without_asm(ptx).partition("zopog_hinge")[0].split("zopog_gumbel")[0]
    assert not re.search(r"\.ftz|\.approx\.f32|div\.full|div\.rn\.f32|sqrt\.rn\.f32", normals)
    for instruction in ("rcp.approx.ftz.f32", "rsqrt.approx.ftz.f32", "add.rm.f32", "st.global.cs.v4.f32"):
        assert instruction in ptx


def test_contraction_is_seen(tmp_path: Path) -> None:
    """The twin: with nvcc's default the same kernels do contract."""
    without = [option for option in OPTIONS if option not in EXACT]
    nvcc(tmp_path / "kernels.ptx", [*without, "-ptx", "-arch=compute_90"])
    assert {"zopog_normal", "zopog_perturb_float32", "zopog_gradient_partial"} <= contracted(
        (tmp_path / "kernels.ptx").read_text("utf-8")
    )


def test_nvrtc_compiles_what_cupy_will_give_it() -> None:
    """CuPy compiles with NVRTC, which has no headers. Needs cuda-python's bindings; no GPU."""
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="no cuda-python")
    for architecture in ARCHITECTURES:
        error, program = nvrtc.nvrtcCreateProgram(module_source().encode(), b"kernels.cu", 0, [], [])
        if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            pytest.skip(f"NVRTC does not start: {error}")
        options = [option.encode() for option in (*OPTIONS, f"--gpu-architecture={architecture}")]
        [error] = nvrtc.nvrtcCompileProgram(program, len(options), options)
        log = bytearray(nvrtc.nvrtcGetProgramLogSize(program)[1])
        nvrtc.nvrtcGetProgramLog(program, log)
        assert error == nvrtc.nvrtcResult.NVRTC_SUCCESS, log.decode()


def main() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        fresh = table(compiled_resources(Path(folder)))
    before, _, rest = PAGE.read_text("utf-8").partition(_BEGIN)
    PAGE.write_text(before + _BEGIN + fresh + _END + rest.partition(_END)[2], "utf-8")


if __name__ == "__main__":
    main()
