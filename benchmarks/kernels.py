"""The GPU kernels on a GPU, in one command: parity with NumPy, then time and memory against floors and plain CuPy.

    pip install -e ".[gpu,cupy]" --group test
    python benchmarks/kernels.py --json kernels.json

Prints every number beside the one expected of an H200 (docs/kernels.md says why it is expected) and whether the
project's targets are met. Takes a few minutes; without a GPU it says so and ends with exit code 2.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.kernels import parity  # the same checks that the host build passes
from zopog_kernels import BackendUnavailable, CuPyDevice, DeviceObjective, KernelBackend, Stream
from zopog_kernels.device import Device
from zopog_kernels.source import OPTIONS, module_source
from zopog_models import DeviceOracle, ProviderError, load_model
from zopog_models.tasks.encoding import Encoded
from zopog_ref import Ledger, Settings, ZOPoG
from zopog_ref.app.bench.random_model import SHAPES, Shape, write_random_inputs, write_random_model
from zopog_ref.randomness import Purpose
from zopog_ref.zeroth_order import projection

SIZES = {"small": (320, 500), "medium": (6400, 500), "large": (640, 51_200)}  # rows K B, columns d
MODEL, BATCH, TEXT, POSITIONS = SHAPES["large"], 32, 64, 50  # of the whole step: RoBERTa-large, 64 tokens of text
COPIED, FLOOR_THREADS, GEMM = 1 << 28, 1 << 20, 8192  # float32 numbers, threads, sides of a square
WORDS = 1 << 32  # there are no more
# Microseconds on an H200, at the large size unless the name says otherwise. Ranges: docs/kernels.md.
EXPECTED = {
    "copy, TB/s": "3.9 to 4.3", "philox floor": "20 to 30", "normals floor": "60 to 75",
    "perturb float32": "75 to 90", "perturb float16": "70 to 85", "perturb float32, plain CuPy": "350 to 450",
    "gradient": "72 to 90", "gradient, plain CuPy": "75 to 110",
    "perturb float32 small": "3 to 6", "gradient small": "10 to 40", "gradient medium": "25 to 70",
    "probabilities": "4 to 8", "sample": "4 to 8", "policy gradient": "3 to 6", "cross entropy": "3 to 5",
    "step": "400 to 900", "passes of the bound step, float32": "300e3 to 900e3",
}  # fmt: skip

# Pure generation: what regenerating u costs when nothing is read or written. Each thread folds 64 blocks into a word.
FLOOR_KERNELS = """
THREAD_KERNEL bench_philox(uint64 seed, int64 threads, uint32* out) {
    const int64 thread = thread_index();
    uint32 folded = 0;
    for (int k = 0; k < 64; ++k) {
        const Words4 w = block_words({seed, 1, 2}, static_cast<uint64>(k * threads + thread));
        folded ^= w.v[0] ^ w.v[1] ^ w.v[2] ^ w.v[3];
    }
    if (folded == 0x12345678u) out[0] = folded;
}
THREAD_KERNEL bench_normals(uint64 seed, int64 threads, float* out) {
    const int64 thread = thread_index();
    float folded = 0.0f;
    for (int k = 0; k < 64; ++k) {
        const Normals4 u = block_normals({seed, 1, 2}, static_cast<uint64>(k * threads + thread));
        folded += u.v[0] + u.v[1] + u.v[2] + u.v[3];
    }
    if (folded == 0.12345f) out[0] = folded;
}
"""
# The operators of normal.cuh that leave the compiler's guards out, beside those with guards: `words` words a thread.
GUARDED_KERNEL = """
INLINE bool differ(float a, float b) { return float_to_bits(a) != float_to_bits(b); }
THREAD_KERNEL bench_guarded(uint64 words, int64 threads, uint32* out) {
    for (uint64 i = 0; i < words; ++i) {
        const uint32 bits = static_cast<uint32>(i * threads + thread_index());
        const float u = to_unit(bits), plain = static_cast<float>(bits) * 0x1p-32f;
        const float square = -2.0f * log_float32(u);
        const int pattern = static_cast<int>(float_to_bits(u)), exponent = (pattern - 0x3F3504F3) >> 23;
        const float m = bits_to_float(static_cast<uint32>(pattern - exponent * (1 << 23))) - 1.0f, e = exponent;
        const float turns = 4.0f * u + 0.5f, quarter = floorf(turns);
        const bool wrong = differ(u, plain + 0x1p-33f) || differ(quotient(m, 2.0f + m), m / (2.0f + m)) ||
                           differ(root(square), sqrtf(square)) || differ(floor_as_sum(turns), quarter + 0x1p23f) ||
                           differ(exact_product_plus(4.0f, u, 0.5f), turns) ||
                           differ(exact_product_plus(quarter, -0.25f, u), u - quarter * 0.25f) ||
                           differ(exact_product_plus(e, 0.693359375f, m), e * 0.693359375f + m);
        if (wrong) out[0] = bits | 1;
    }
}
"""


class Bench:
    """Times by CUDA events, peak memory by CuPy's pool."""

    def __init__(self, rounds: int) -> None:
        self.device, self.rounds = CuPyDevice(), rounds
        self.cupy = self.device.cupy
        self.backend = KernelBackend(self.device)
        self.rows: list[dict[str, Any]] = []

    def microseconds(self, work: Callable[[], Any], repeat: int = 10) -> float:
        """Median over rounds of the mean of `repeat` launches in a row, after warming up."""
        for _ in range(3):
            work()
        found = []
        for _ in range(self.rounds):
            start, end = self.cupy.cuda.Event(), self.cupy.cuda.Event()
            start.record()
            for _ in range(repeat):
                work()
            end.record()
            end.synchronize()
            found.append(1000 * self.cupy.cuda.get_elapsed_time(start, end) / repeat)
        return statistics.median(found)

    def peak_bytes(self, work: Callable[[], Any]) -> int:
        """What the pool has to take from the device for one call, starting from an empty pool."""
        before = self.cupy.cuda.get_allocator()
        pool = self.cupy.cuda.MemoryPool()
        self.cupy.cuda.set_allocator(pool.malloc)
        try:
            result = work()
            self.cupy.cuda.Device().synchronize()
            del result
            return int(pool.total_bytes())
        finally:
            self.cupy.cuda.set_allocator(before)

    def add(self, name: str, value: float, **more: Any) -> float:
        self.rows.append({"name": name, "value": value, "expected_h200": EXPECTED.get(name, ""), **more})
        print(f"{name:34s} {value:12.2f}   expected {EXPECTED.get(name, '-'):12s} {more or ''}")
        return value


def parity_checks() -> dict[str, Callable[[KernelBackend], None]]:
    """Every check that the host build passes: bits where bits are promised."""
    checks = {check.__name__: check for check in parity.CHECKS if check is not parity.check_far_elements}
    return checks | {
        "10,000,003 normals": lambda b: parity.check_normals(b, 10_000_003),
        "10,000,001 words": lambda b: parity.check_words(b, [10_000_001]),
        "10,000,320 points": lambda b: parity.check_perturb(b, [(10, 32, 31_251)]),
        "tokens of 50,265": lambda b: parity.check_sample(b, [(3, 2, 50_265)]),
        "probabilities of 50,265": lambda b: parity.check_probabilities(b, [(2, 50_265)]),
    }


def check_parity(bench: Bench) -> None:
    """The checks on the device."""
    for check in parity_checks().values():
        check(bench.backend)
    print(f"parity with NumPy: {len(parity_checks())} checks, 10,000,000 words, normals and points each")


def floors(bench: Bench) -> tuple[float, float, float]:
    """Measured copy bandwidth (bytes/us), and microseconds a Philox block and a block of normals."""
    cupy = bench.cupy
    source, target = cupy.zeros(COPIED, cupy.float32), cupy.empty(COPIED, cupy.float32)
    bandwidth = 2 * source.nbytes / bench.microseconds(lambda: cupy.copyto(target, source))
    bench.add("copy, TB/s", bandwidth / 1e6)
    module = cupy.RawModule(code=module_source() + FLOOR_KERNELS + GUARDED_KERNEL, options=OPTIONS)
    threads, out, per_block = FLOOR_THREADS, cupy.zeros(1, cupy.uint32), []
    for name in ("bench_philox", "bench_normals"):
        kernel, arguments = module.get_function(name), (np.uint64(7), np.int64(threads), out)
        time = bench.microseconds(
            lambda kernel=kernel, arguments=arguments: kernel((threads // 128,), (128,), arguments)
        )
        per_block.append(time / (64 * threads))
    arguments = (np.uint64(WORDS // threads), np.int64(threads), out)
    module.get_function("bench_guarded")((threads // 128,), (128,), arguments)
    bench.add("words that differ without guards", float(out[0]))
    rows, dim = SIZES["large"]
    bench.add("philox floor", per_block[0] * rows * dim / 4)
    bench.add("normals floor", per_block[1] * rows * dim / 4)
    return bandwidth, per_block[0], per_block[1]


def continuous(bench: Bench, bandwidth: float, philox: float, normals: float) -> dict[str, float]:
    """perturb and the gradient at every size, and plain CuPy at the large one."""
    cupy, backend, found = bench.cupy, bench.backend, {}
    half = KernelBackend(bench.device, "float16")
    for size, (rows, dim) in SIZES.items():
        suffix = "" if size == "large" else f" {size}"
        u = backend.normal(1, 2, Purpose.DIRECTIONS, (rows, dim))
        z, plus, minus = cupy.zeros(dim), cupy.random.random(rows), cupy.random.random(rows)
        points = 2 * 4 * rows * dim  # bytes
        time = bench.microseconds(lambda z=z, u=u: backend.perturb(z, u, 0.01))
        bench.add(f"perturb float32{suffix}", time, of_copy_bandwidth=round(points / bandwidth / time, 3))
        found[f"perturb{suffix}"], found[f"perturb share{suffix}"] = time, points / bandwidth / time
        bench.add(f"perturb float16{suffix}", bench.microseconds(lambda z=z, u=u: half.perturb(z, u, 0.01)))
        time = bench.microseconds(lambda p=plus, m=minus, u=u: backend.two_point_gradient(p, m, u, 0.01))
        shares = {name: of * rows * dim / 4 / time for name, of in (("philox", philox), ("normals", normals))}
        bench.add(f"gradient{suffix}", time, **{f"of_{name}_floor": round(share, 3) for name, share in shares.items()})
        found[f"gradient{suffix}"], found[f"gradient share{suffix}"] = time, shares["normals"]

    rows, dim = SIZES["large"]
    z, slope = cupy.zeros(dim, cupy.float32), cupy.random.random(rows, dtype=cupy.float32)

    def plain_perturb() -> Any:
        u = cupy.random.standard_normal((rows, dim), dtype=cupy.float32)
        return cupy.stack((z + cupy.float32(0.01) * u, z - cupy.float32(0.01) * u))

    def plain_gradient() -> Any:
        u = cupy.random.standard_normal((rows, dim), dtype=cupy.float32)
        return slope @ u / rows

    stream = Stream("normal", 1, 2, Purpose.DIRECTIONS, (rows, dim))
    losses = cupy.random.random(rows)
    found["plain perturb"] = bench.add("perturb float32, plain CuPy", bench.microseconds(plain_perturb, 3))
    found["plain gradient"] = bench.add("gradient, plain CuPy", bench.microseconds(plain_gradient, 3))
    plain = bench.peak_bytes(plain_gradient)
    ours = bench.peak_bytes(lambda: backend.two_point_gradient(losses, losses, stream, 0.01))
    found["memory ratio"] = bench.add("gradient memory, plain / ours", plain / ours, plain=plain, ours=ours)
    return found


def discrete(bench: Bench) -> None:
    """The small kernels at n = 50, N = 200, I = 20."""
    cupy, b, n, candidates, samples = bench.cupy, bench.backend, 50, 200, 20
    alpha = cupy.full((n, candidates), 1 / candidates)
    noise, draws = b.gumbel(1, 0, Purpose.GUMBEL_STEP, (n, candidates)), b.uniform(1, 0, 7, (samples, n))
    p = b.probabilities(alpha, 1.0, noise)
    tokens, losses = b.sample(p, draws), cupy.random.random(samples)
    logits, labels = cupy.zeros((20, 32, 3), cupy.float32), cupy.zeros(32, cupy.int64)
    bench.add("probabilities", bench.microseconds(lambda: b.probabilities(alpha, 1.0, noise)))
    bench.add("sample", bench.microseconds(lambda: b.sample(p, draws)))
    bench.add("policy gradient", bench.microseconds(lambda: b.policy_gradient(losses, tokens, alpha, p)))
    bench.add("cross entropy", bench.microseconds(lambda: b.cross_entropy(logits, labels)))


def whole_step(bench: Bench) -> tuple[float, float]:
    """Microseconds of a step's mathematics, and of its RoBERTa-large passes at this GPU's own fp16 GEMM rate."""
    cupy = bench.cupy
    method = ZOPoG(POSITIONS, 200, 500, Settings(), seed=0, backend=bench.backend)
    answers = cupy.zeros((20, BATCH, 2), cupy.float32)
    objective = DeviceObjective(lambda t, z, e: answers, np.zeros(BATCH, np.int64), Ledger(1 << 40), bench.backend)
    state, examples = method.init(), np.arange(BATCH)
    for _ in range(3):
        state = method.step(state, objective, examples)
    step = bench.add("step", bench.microseconds(lambda: method.step(state, objective, examples), 5))
    a = cupy.zeros((GEMM, GEMM), cupy.float16)
    rate = 2 * GEMM**3 / bench.microseconds(lambda: a @ a, 3)  # FLOP/us
    # 40 prompts x 32 rows, 24 layers of 12 D^2 weights at D = 1024
    forward = 40 * BATCH * (TEXT + POSITIONS) * 2 * MODEL.layers * 12 * MODEL.hidden**2 / rate
    bench.add("RoBERTa-large passes, at least", forward)
    return step, forward


def bound_search(
    device: Device, backend: KernelBackend, folder: Path, shape: Shape, reduced: str | None = None
) -> tuple[ZOPoG, DeviceObjective, DeviceOracle]:
    """ZO-PoG with a model of this shape bound by address: the method, its objective, the oracle.

    reduced: a precision to read everything in. Errors: ProviderError where ONNX Runtime has none for this device.
    """
    write_random_model(folder, shape)
    write_random_inputs(folder / "inputs.npz", shape, POSITIONS, BATCH, TEXT)
    given = dict(np.load(folder / "inputs.npz"))
    model = load_model(folder, device=device.kind, stream=device.stream)
    texts, candidates = list(given["text_ids"]), given["candidates"]
    encoded = Encoded(texts, given["answer_position"], 0, *[np.full(BATCH, TEXT)] * 2)
    a = projection(0, POSITIONS, model.embedding_size, 500, scale=100, embedding_std=model.embedding_std)
    fewer = None if reduced is None else model.reduced(reduced)
    label_ids = given["label_ids"]
    oracle = DeviceOracle(
        model, encoded, label_ids, candidates, a, POSITIONS, memory=device, reduced=fewer, differences=fewer is not None
    )
    method = ZOPoG(POSITIONS, len(candidates), 500, Settings(mu=0.01), seed=0, backend=backend)
    return method, DeviceObjective(oracle.logits, given["labels"], Ledger(1 << 40), backend), oracle


def bound_step(bench: Bench) -> float:
    """Microseconds of a whole step with a model of RoBERTa-large's shape bound by address, and of its passes alone."""
    device = bench.device
    with tempfile.TemporaryDirectory(prefix="zopog-") as name:
        method, objective, oracle = bound_search(device, bench.backend, Path(name), MODEL)
        state, rows = method.init(), np.arange(BATCH)
        bench.add("bound step", bench.microseconds(lambda: method.step(state, objective, rows), 1))
        tokens = device.asarray(np.zeros((20, POSITIONS)), "int64")
        shared = np.broadcast_to(bench.backend.asarray(np.zeros(500)), (20, 500))
        u = bench.backend.normal(1, 0, Purpose.DIRECTIONS, (10, BATCH, 500))
        each = bench.backend.perturb(np.zeros(500), u, 0.01)
        each = np.reshape(each, (20, BATCH, 500))
        both = [lambda z=z: oracle.logits(tokens, z, rows) for z in (shared, each)]
        passes = sum(bench.microseconds(query, 1) for query in both)
        return bench.add("passes of the bound step, float32", passes)


def measure(bench: Bench) -> dict[str, Any]:
    """Every number, beside what was expected, and whether the targets are met."""
    properties = bench.cupy.cuda.runtime.getDeviceProperties(0)
    machine = {
        "gpu": properties["name"].decode(), "multiprocessors": properties["multiProcessorCount"],
        "cupy": bench.cupy.__version__, "driver": bench.cupy.cuda.runtime.driverGetVersion(),
    }  # fmt: skip
    print(json.dumps(machine))
    found = continuous(bench, *floors(bench))
    discrete(bench)
    step, forward = whole_step(bench)
    try:
        bound = bound_step(bench)
    except ProviderError as error:
        bound = None
        print(f"no step with a bound model: {error}", file=sys.stderr)
    both = found["plain perturb"] + found["plain gradient"]
    numbers = {row["name"]: row["value"] for row in bench.rows}
    targets = {
        "all words have the bits of guarded operators": numbers["words that differ without guards"] == 0,
        "perturb >= 70% of copy bandwidth": found["perturb share"] >= 0.7,
        "gradient >= 80% of the normals floor": found["gradient share"] >= 0.8,
        "perturb and gradient >= 5 x plain CuPy": both >= 5 * (found["perturb"] + found["gradient"]),
        "gradient >= 10 x less memory": found["memory ratio"] >= 10,
        "a step's mathematics < 1% of its forward passes, at the fp16 GEMM rate": step < 0.01 * forward,
    }
    if bound is not None:
        targets["a step's mathematics < 1% of the measured forward passes, float32"] = step < 0.01 * bound
    return {"machine": machine, "numbers": bench.rows, "targets": targets}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    try:
        bench = Bench(arguments.rounds)
    except BackendUnavailable as error:
        print(f"no measurement: {error}", file=sys.stderr)
        return 2
    check_parity(bench)
    record = measure(bench)
    for target, met in record["targets"].items():
        print(f"{'met   ' if met else 'MISSED'} {target}")
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
