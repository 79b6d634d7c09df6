"""Each of these mistakes in the kernels is caught by a check: without that, the checks prove nothing."""

from collections.abc import Callable

import pytest

from tests.kernels import parity
from tests.kernels.host_device import FLAGS, HostDevice, needs_compiler
from zopog_kernels import KernelBackend
from zopog_kernels.source import module_source

FAST = tuple("-O1" if flag == "-O2" else flag for flag in FLAGS if not flag.startswith("-W"))

# name: (what stands in the source, what the mistake puts there, the check that must fail, order of the threads)
MUTANTS: dict[str, tuple[str, str, Callable[[KernelBackend], None], str]] = {
    "one round less": ("round < 10", "round < 9", parity.check_words, "ascending"),
    "swapped key words": (
        "static_cast<uint32>(stream.seed), static_cast<uint32>(stream.seed >> 32)",
        "static_cast<uint32>(stream.seed >> 32), static_cast<uint32>(stream.seed)", parity.check_words, "ascending"),
    "key raised before the round": (
        "const uint64 product0", "key0 += 0x9E3779B9u; const uint64 product0", parity.check_words, "ascending"),
    "wrong counter increment": ("make(stream, static_cast<uint64>(block))", "make(stream, static_cast<uint64>(block + (block > 3)))", parity.check_words, "ascending"),
    "step and purpose swapped": ("stream.step, stream.purpose}}", "stream.purpose, stream.step}}", parity.check_words, "ascending"),
    "upper counter word lost": ("static_cast<uint32>(block >> 32), stream.step", "0u, stream.step", parity.check_far_elements, "ascending"),
    "tail written past the end": ("if (first + lane < count) out", "if (first < count) out", parity.check_words, "ascending"),
    "lane of a single word": ("element & 2 ? pair1 : pair0", "element & 2 ? pair0 : pair1", parity.check_sample, "ascending"),
    "uniform without its half": ("static_cast<double>(bits) + 0.5", "static_cast<double>(bits)", parity.check_uniforms, "ascending"),
    "Gumbel of the wrong sign": ("return -log(-log(", "return log(-log(", parity.check_gumbel, "ascending"),
    "a lost term of the logarithm": ("static_cast<float>(2.0 / 9)", "0.0f", parity.check_normals, "ascending"),
    "sine and cosine not turned": ("flipped(turned.sine, turn)", "turned.sine", parity.check_normals, "ascending"),
    "a cosine turned with the sine": ("flipped(turned.cosine, turn + 1)", "flipped(turned.cosine, turn)", parity.check_normals, "ascending"),
    "an unaligned row reads the next block wrongly": ("tail = high.v[2];", "tail = high.v[1];", parity.check_perturb, "ascending"),
    "unaligned rows treated as aligned": ("if (first & 3) {", "if (false) {", parity.check_perturb, "ascending"),
    "wrong sign of the pair": ("centre[lane] - step", "centre[lane] + step", parity.check_perturb, "ascending"),
    "the minus half in the wrong place": ("store(points + rows * dim + first", "store(points + dim + first", parity.check_perturb, "ascending"),
    "the next rows of a thread too near": ("first += gridDim.y * dim", "first += dim", lambda b: parity.check_perturb(b, [(66_000, 4)]), "ascending"),
    "no tail of a row": ("if (column + lane < dim) {", "if (column < dim) {", parity.check_perturb, "ascending"),
    "points rounded before the sum": ("const double step = mu * static_cast<double>(u.v[lane]);", "const double step = static_cast<float>(mu) * u.v[lane];", parity.check_perturb, "ascending"),
    "two mu became mu": ("/ (2 * mu)", "/ mu", parity.check_gradient, "ascending"),
    "last row of a chunk lost": ("row < end_row", "row < end_row - 1", parity.check_gradient, "ascending"),
    "chunks added in another order": ("partial[chunk * dim + column];", "partial[(chunks - 1 - chunk) * dim + column];", parity.check_gradient, "ascending"),
    "gradient not divided by its rows": ("total / static_cast<double>(rows)", "total", parity.check_gradient, "ascending"),
    "temperature forgotten": (" * (1.0 / tau);", ";", parity.check_probabilities, "ascending"),
    "alpha of another row": ("alpha + row % n * n_candidates", "alpha + row / n * n_candidates % (n * n_candidates)", parity.check_probabilities, "ascending"),
    "half of the tree not added": ("if (t < width) sum", "if (t < width / 2) sum", parity.check_probabilities, "ascending"),
    "the maximum overwritten while others read it": ("sum[t] = total;", "largest[t] = sum[t] = total;", parity.check_probabilities, "ascending"),
    "a race in the sum": ("if (t < width) sum[t] += sum[t + width];", "sum[t] += sum[(t + width) % THREADS];", parity.check_probabilities, "descending"),
    "a tie goes to the wrong side": ("cumulative <= threshold", "cumulative < threshold", parity.check_sample_ties, "ascending"),
    "a table left behind by NaN": ("cumulative <= threshold && j < n_candidates - 1", "!(cumulative > threshold) && j < n_candidates", parity.check_sample_ties, "ascending"),
    "uniforms of another sample": ("static_cast<uint64>(k * n + i))) * total", "static_cast<uint64>(thread))) * total", parity.check_sample, "ascending"),
    "rows of p taken to sum to one": ("* total;\n    double cumulative", "; (void)total;\n    double cumulative", parity.check_sample, "ascending"),
    "I in place of I - 1": ("a.samples - 1", "a.samples", parity.check_policy_gradient, "ascending"),
    "no baseline": ("a.losses[k] - mean", "a.losses[k]", parity.check_policy_gradient, "ascending"),
    "no floor": ("moved < alpha_min ? alpha_min : moved", "moved", parity.check_policy_gradient, "ascending"),
    "own p treated as shared": ("if (a.p)\n", "if (false)\n", parity.check_policy_gradient, "ascending"),
    "label of the row, not of the example": ("labels[row % batch]]", "labels[row / batch % batch]]", parity.check_losses, "ascending"),
    "hinge against the right class": ("c != right && ", "", parity.check_losses, "ascending"),
    "hinge that swallows NaN": (" || logit[c] != logit[c]", "", parity.check_losses, "ascending"),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _compiler() -> None:
    needs_compiler()


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_is_caught(name: str) -> None:
    right, wrong, check, order = MUTANTS[name]
    source = module_source()
    assert source.count(right) == 1, f"{source.count(right)} places in the kernels read {right!r}"
    with pytest.raises(AssertionError):
        check(KernelBackend(HostDevice(source.replace(right, wrong), order, FAST)))


@pytest.mark.parametrize("check", {mutant[2]: None for mutant in MUTANTS.values()}, ids=lambda check: check.__name__)
def test_the_unchanged_source_passes_as_the_mutants_are_compiled(check: Callable[[KernelBackend], None]) -> None:
    check(KernelBackend(HostDevice(module_source(), "ascending", FAST)))
