"""ZO-PoG on the kernels: the learning of the reference, arrays that stay on the device, one wait a step, named errors."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.core import toy
from tests.kernels.device_array import DeviceArray, StrictDevice
from tests.kernels.host_device import HostDevice, needs_compiler
from zopog_kernels import BackendUnavailable, DeviceObjective, HostObjective, KernelBackend, cupy_backend
from zopog_kernels.source import FILES, module_source
from zopog_ref import FunctionObjective, Ledger, ModelObjective, Settings, ZOPoG, run
from zopog_ref.search import _to_arrays

MODES = [(g, d) for g in ("per_sample", "per_step", "none") for d in ("per_example", "shared")]
ROOT = Path(__file__).parents[2]


def methods(**settings) -> tuple[ZOPoG, ZOPoG, KernelBackend]:
    needs_compiler()
    backend, shape = KernelBackend(StrictDevice()), (toy.N_POSITIONS, toy.N_CANDIDATES, toy.DIM)
    chosen = Settings(eta_alpha=0.05, eta_z=0.1, **settings)
    return ZOPoG(*shape, chosen, 3), ZOPoG(*shape, chosen, 3, backend=backend), backend


@pytest.mark.parametrize(("gumbel", "directions"), MODES)
def test_a_run_on_the_kernels_is_the_run_of_the_reference(gumbel: str, directions: str) -> None:
    same_run(gumbel=gumbel, directions=directions)


def test_a_screened_run_on_the_kernels_is_the_run_of_the_reference() -> None:
    same_run(gumbel="none", screen=True, policy=False)


def same_run(**settings) -> None:
    reference, method, backend = methods(**settings)
    expected, given = reference.init(), method.init()
    there, here = toy.objective(10_000), HostObjective(toy.objective(10_000), backend)
    for step in range(6):
        examples = np.arange(step, step + 4)
        expected, given = reference.step(expected, there, examples), method.step(given, here, examples)
        assert isinstance(given.alpha, DeviceArray)
        # The points are rounded to float32, which moves a difference of losses by about 1e-7 / mu.
        np.testing.assert_allclose(given.alpha.get(), expected.alpha, rtol=1e-5)
        np.testing.assert_allclose(given.z.get(), expected.z, atol=2e-5)
        assert given.loss == pytest.approx(expected.loss, rel=1e-6)
        assert given.z_gradient_norm == pytest.approx(expected.z_gradient_norm, rel=1e-4)
    assert here.ledger.calls == there.ledger.calls
    [one], [other] = reference.prompts(expected), method.prompts(given)
    assert one.tokens.tolist() == other.tokens.tolist()
    assert type(other.z) is np.ndarray


class ToyModel:
    """Logits (K, B, 2) of a toy on the device, in NumPy's functions: what a model bound by pointer would answer."""

    lengths = np.full(toy.ROWS, 7)
    n_classes = 2

    def logits(self, tokens, z, examples):
        if isinstance(tokens, DeviceArray):
            return DeviceArray(self.logits(tokens._array, z._array, examples))
        losses = toy.losses(tokens, np.asarray(z, np.float64), examples)
        return np.stack([losses, -losses], axis=-1).astype(np.float32)


@pytest.mark.parametrize("loss", ["cross_entropy", "hinge"])
def test_one_wait_a_step(loss: str) -> None:
    reference, method, backend = methods()
    labels = np.arange(toy.ROWS) % 2
    on_host = ModelObjective(ToyModel(), labels, Ledger(10_000), loss)
    on_device = DeviceObjective(ToyModel().logits, labels, Ledger(10_000), backend, loss, ToyModel.lengths)
    expected, given = reference.init(), method.init()
    for step in range(3):
        examples = np.array([step, 5, 7, 2])
        expected = reference.step(expected, on_host, examples)
        before = DeviceArray.waits
        given = method.step(given, on_device, examples)
        assert DeviceArray.waits - before == 1
        np.testing.assert_allclose(given.alpha.get(), expected.alpha, rtol=1e-4)
        np.testing.assert_allclose(given.z.get(), expected.z, atol=1e-4)
    assert vars(on_device.ledger) == vars(on_host.ledger)


def test_an_objective_on_the_host_waits_twice_more() -> None:
    _, method, backend = methods()
    before = DeviceArray.waits
    method.step(method.init(), HostObjective(toy.objective(100), backend), np.arange(4))
    assert DeviceArray.waits - before == 1 + 2 * 2  # tokens and z of two queries


def test_directions_are_never_stored() -> None:
    _, method, backend = methods()
    method.step(method.init(), HostObjective(toy.objective(100), backend), np.arange(4))
    launched = backend.device.host.launches
    assert not {"zopog_normal", "zopog_uniform", "zopog_gumbel"} & set(launched)
    assert len(launched) == 9  # p, t, g_alpha; p, t, points, slopes, partial sums, g_z


def test_a_loss_that_is_not_finite_stops_the_step() -> None:
    _, method, backend = methods()
    broken = DeviceObjective(
        lambda t, z, e: DeviceArray(np.full((len(t), len(e), 2), np.nan, np.float32)),
        np.zeros(toy.ROWS, int),
        Ledger(100),
        backend,
    )
    with pytest.raises(FloatingPointError, match="step 0"):
        method.step(method.init(), broken, np.arange(4))


def test_a_run_is_saved_and_resumed_bit_for_bit() -> None:
    _, method, backend = methods()
    saved: list = []

    class Store:
        def load(self):
            return saved[-1] if saved else None

        def save(self, arrays, record):
            saved.append((arrays, [*(saved[-1][1] if saved else []), record]))

    whole = run(method, HostObjective(toy.objective(320), backend), rows=toy.ROWS, batch_size=4, dev=toy.dev)
    stops = iter([False, False, False, True])
    part = run(
        method,
        HostObjective(toy.objective(320), backend),
        rows=toy.ROWS,
        batch_size=4,
        dev=toy.dev,
        store=Store(),
        should_stop=lambda: next(stops),
    )
    assert part.stop_reason == "interrupted"
    again = run(
        method, HostObjective(toy.objective(320), backend), rows=toy.ROWS, batch_size=4, dev=toy.dev, store=Store()
    )
    assert len(again.curve) == len(whole.curve) == 8
    for name, value in _to_arrays(whole.state, None, None).items():
        assert value.tobytes() == _to_arrays(again.state, None, None)[name].tobytes()


def test_bdpl_s_draws_and_gradient_come_from_the_same_functions() -> None:
    """BDPL's p is learned directly: sample(p, u), and free_gradient."""
    from zopog_ref.categorical import free_gradient
    from zopog_ref.distribution import sample
    from zopog_ref.randomness import uniform

    needs_compiler()
    backend, key = KernelBackend(HostDevice()), (3, 1, 7)
    p = uniform(1, 1, 1, (5, 9))
    p /= p.sum(axis=-1, keepdims=True)
    tokens = backend.sample(p, backend.uniform(*key, (20, 5)))
    assert (tokens == sample(p, uniform(*key, (20, 5)))).all()
    losses = uniform(2, 2, 2, (20,))
    for kind in ("unbiased", "official"):
        given = backend.free_gradient(losses, tokens, p, kind)
        np.testing.assert_allclose(given, free_gradient(losses, tokens, p, kind), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b: b.probabilities(np.ones((2, 3)), 0.0), "tau must be positive"),
        (lambda b: b.probabilities(np.ones((2, 3)), 1.0, b.gumbel(0, 0, 0, (3, 2))), r"expected alpha \(n, N\)"),
        (lambda b: b.sample(np.ones((2, 3)), b.uniform(0, 0, 0, (4, 3))), r"expected p \(n, N\)"),
        (lambda b: b.policy_gradient(np.ones(1), np.ones((1, 2), int), np.ones((2, 3)), np.ones((2, 3))), "I >= 2"),
        (lambda b: b.policy_gradient(np.ones(4), np.ones((4, 3), int), np.ones((2, 3)), np.ones((2, 3))), "expected tokens"),
        (lambda b: b.policy_gradient(np.ones(4), np.ones((4, 2), int), np.ones((2, 3)), np.ones((3, 3))), "p must be"),
        (lambda b: b.perturb(np.ones(3), b.normal(0, 0, 0, (2, 4)), 0.1), r"expected z \(d,\)"),
        (lambda b: b.two_point_gradient(np.ones(2), np.ones(2), b.normal(0, 0, 0, (3, 4)), 0.1), "expected losses"),
        (lambda b: b.two_point_gradient(np.ones(2), np.ones(2), b.normal(0, 0, 0, (2, 4)), 0), "mu must be positive"),
        (lambda b: b.cross_entropy(np.ones((2, 3)), np.ones(3)), "expected logits"),
        (lambda b: b.uniform(1 << 64, 0, 0, (1,)), "seed is"),
        (lambda b: b.normal(0, 0, 0, (-1, 2)), "cannot be negative"),
        (lambda b: KernelBackend(b.device, "bfloat16"), "float32 or float16"),
        (lambda b: DeviceObjective(None, [0], Ledger(1), b, "mse"), "unknown loss"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(call, message: str) -> None:
    needs_compiler()
    with pytest.raises(ValueError, match=message):
        call(KernelBackend(HostDevice()))


def test_noise_passed_as_an_array_is_refused() -> None:
    needs_compiler()
    backend = KernelBackend(HostDevice())
    with pytest.raises(TypeError, match="never passed as arrays"):
        backend.perturb(np.ones(3), np.ones((2, 3)), 0.1)
    with pytest.raises(TypeError, match="normal"):
        backend.perturb(np.ones(3), backend.uniform(0, 0, 0, (2, 3)), 0.1)


def test_without_cupy_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendUnavailable, match=r'pip install "cupy-cuda13x>=13\.6"'):
        cupy_backend()


def test_without_a_gpu_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class CUDARuntimeError(RuntimeError):
        pass

    def refuse() -> int:
        raise CUDARuntimeError("no CUDA-capable device is detected")

    class Runtime:
        getDeviceCount = staticmethod(refuse)

    Runtime.CUDARuntimeError = CUDARuntimeError
    fake = type(sys)("cupy")
    fake.__version__, fake.cuda = "14.2.0", type("cuda", (), {"runtime": Runtime})
    monkeypatch.setitem(sys.modules, "cupy", fake)
    with pytest.raises(BackendUnavailable, match="finds no CUDA device"):
        cupy_backend()


def test_the_kernels_ship_with_the_package() -> None:
    """The wheel takes the whole package folder, and the module reads its files from there."""
    assert all((ROOT / "kernels" / "zopog_kernels" / name).is_file() for name in FILES)
    assert "#include" not in module_source()
    assert module_source().count("constexpr int THREADS = 128;") == 1
    code = "import zopog_kernels, sys; assert 'cupy' not in sys.modules; from zopog_kernels.source import kernels; print(len(kernels()))"
    assert int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) == 14


def test_function_objectives_work_through_the_adapter() -> None:
    needs_compiler()
    backend = KernelBackend(StrictDevice())
    objective = HostObjective(FunctionObjective(toy.losses, Ledger(5)), backend)
    losses = objective.losses(
        DeviceArray(np.zeros((2, toy.N_POSITIONS), np.int64)), DeviceArray(np.zeros((2, toy.DIM))), np.arange(3)
    )
    assert losses.shape == (2, 3)
    assert objective.ledger.left == 3
