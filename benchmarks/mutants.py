"""Mistakes made on purpose in the core, the methods and the theory, one at a time: which of them does no test see?

    python benchmarks/mutants.py                                  # every mutant of every module; hours
    python benchmarks/mutants.py zopog_ref/search.py --every 3     # every third of one module
    python benchmarks/mutants.py zopog_ref/search.py --lines 60-90 # those of some lines
    python benchmarks/mutants.py --list zopog_ref/search.py        # what they are

A mutant is a comparison, an operator, a number, a condition, a reduction, a purpose of randomness or a statement that
is another one. Messages, docstrings, annotations and the defaults of settings (tests/test_docs.py checks those) stay.
Each runs the tests of its module in a forked process that stops at the first failure. The survivors: docs/mutants.md.
"""

import argparse
import ast
import copy
import importlib
import importlib.machinery
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ROOMS = ("zopog_ref", "zopog_ref/methods", "zopog_ref/convergence")
SECONDS = 120  # of one mutant, after which it counts as seen
# module -> the tests of it, the most telling first: tests/ROOM/test_NAME.py
TESTS = {
    "algorithm": "core/pinned core/algorithm core/numerics core/search methods/searches methods/start",
    "arrays": "core/randomness",
    "backend": "core/algorithm methods/bdpl",
    "categorical": "methods/bdpl",
    "checks": "core/algorithm core/numerics methods/searches methods/settings",
    "distribution": "core/distribution core/policy_gradient core/numerics core/pinned",
    "method": "core/numerics core/algorithm core/search methods/start",
    "norms": "core/numerics",
    "objective": "core/objective core/numerics core/search",
    "policy_gradient": "core/policy_gradient core/numerics core/parameters",
    "randomness": "core/randomness core/pinned core/numerics",
    "rounding": "core/numerics",
    "search": "core/pinned core/search core/numerics core/parameters",
    "zeroth_order": "core/pinned core/zeroth_order core/numerics",
    "bbt": "methods/start methods/incumbents methods/settings methods/searches",
    "bdpl": "methods/pinned methods/start methods/bdpl",
    "catcma": "methods/start methods/incumbents methods/settings methods/searches",
    "clip_tuning": "methods/pinned methods/start methods/settings methods/clip_tuning",
    "cma_es": "methods/cma_es",
    "fixed_tokens": "methods/pinned methods/searches",
    "gflf_abc_smc": "methods/abc_smc_weights methods/start methods/pinned methods/incumbents methods/settings "
    "methods/abc_smc",
    "gflf_cma_elbo": "methods/pinned methods/incumbents methods/start methods/settings methods/cma_elbo",
    "gflf_ensembles": "methods/start methods/incumbents methods/settings methods/ensembles",
    "random_search": "methods/pinned methods/start methods/incumbents methods/settings methods/searches",
    "simplex": "methods/simplex",
    "sspt": "methods/pinned methods/start methods/settings methods/searches",
    "readout": "core/readout",
    "readout_map": "core/readout",
    "read_loss": "core/read_loss core/pinned convergence/readout_block",
    "ledger": "core/objective core/search core/numerics",
    "linear_fits": "core/linear_fits core/readout",
    "conformal": "core/conformal",
    "assumptions": "convergence/constants convergence/assumptions convergence/proposition convergence/smoothing_lemmas",
    "comparison": "convergence/by_hand convergence/constants convergence/lines convergence/prompt_lemmas "
    "convergence/smoothing_lemmas",
    "complexity": "convergence/constants convergence/complexity",
    "coupling": "convergence/constants convergence/theorem",
    "exact": "convergence/prompt_lemmas convergence/noise_lemmas convergence/proposition convergence/theorem "
    "convergence/noise_in_z convergence/smoothing_lemmas",
    "noise_in_z": "convergence/by_hand convergence/noise_in_z convergence/theorem convergence/constants",
    "noise_lemmas": "convergence/by_hand convergence/noise_lemmas convergence/rates",
    "problems": "convergence/by_hand convergence/constants convergence/assumptions convergence/prompt_lemmas "
    "convergence/smoothing_lemmas convergence/theorem",
    "prompt_lemmas": "convergence/by_hand convergence/prompt_lemmas convergence/proposition convergence/noise_lemmas",
    "proposition": "convergence/constants convergence/proposition convergence/theorem",
    "rates": "convergence/by_hand convergence/rates",
    "readout_block": "convergence/by_hand convergence/readout_block",
    "runs": "convergence/by_hand convergence/theorem convergence/complexity",
    "sharp_problems": "convergence/by_hand convergence/constants convergence/assumptions "
    "convergence/smoothing_lemmas convergence/theorem",
    "smoothing_lemmas": "convergence/constants convergence/smoothing_lemmas convergence/noise_in_z",
    "theorem": "convergence/constants convergence/theorem",
}
OTHER = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.Mult,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
SWAPPED = {
    "max": "min", "min": "max", "argmax": "argmin", "argmin": "argmax", "maximum": "minimum", "minimum": "maximum",
    "all": "any", "any": "all", "sum": "mean", "mean": "sum", "zeros": "ones", "ones": "zeros", "isfinite": "isnan",
}  # fmt: skip


def places(node: ast.AST, settings: bool = False) -> Iterator[ast.AST]:
    """The nodes that may be changed: not messages, docstrings, annotations, defaults of settings, __all__."""
    if isinstance(node, ast.Raise) or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("warnings.warn", "Rule"):
        return
    settings = settings or (isinstance(node, ast.ClassDef) and node.name == "Settings")
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list") or (
            name == "value" and isinstance(node, ast.AnnAssign) and settings
        ):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from places(child, settings)


def changed(node: ast.AST) -> Iterator[ast.AST]:
    """The mutants of one node."""
    new: Any = copy.deepcopy(node)
    match node:
        case ast.Compare(ops=[operator]) | ast.BinOp(op=operator) | ast.BoolOp(op=operator) if type(operator) in OTHER:
            setattr(
                new,
                *(
                    ("ops", [OTHER[type(operator)]()])
                    if isinstance(node, ast.Compare)
                    else ("op", OTHER[type(operator)]())
                ),
            )
            yield new
        case ast.Compare(ops=operators):
            for i, operator in enumerate(operators):
                new = copy.deepcopy(node)
                new.ops[i] = OTHER[type(operator)]()
                yield new
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield copy.deepcopy(operand)
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield ast.Constant(node.value + 1)
        case ast.Attribute(value=ast.Name(id="Purpose")):
            new.attr = "SPLIT" if node.attr == "PROJECTION" else "PROJECTION"
            yield new
        case ast.Attribute(attr=name) | ast.Name(id=name, ctx=ast.Load()) if name in SWAPPED:
            setattr(new, "attr" if isinstance(node, ast.Attribute) else "id", SWAPPED[name])
            yield new
        case ast.If() | ast.IfExp() | ast.While():
            if not isinstance(node.test, ast.Compare):
                new.test = ast.UnaryOp(ast.Not(), new.test)
                yield new
        case ast.Expr(value=ast.Call()) | ast.AugAssign():
            yield ast.Pass()


def mutants(source: str) -> Iterator[tuple[int, str, ast.Module]]:
    """(line, what became what, the module) of every mutant."""
    tree = ast.parse(source)
    for number, node in enumerate(list(places(tree))):
        for replacement in changed(node):
            twin = copy.deepcopy(tree)
            target = list(places(twin))[number]
            for parent in ast.walk(twin):
                for name, value in ast.iter_fields(parent):
                    if value is target:
                        setattr(parent, name, replacement)
                    elif isinstance(value, list) and any(child is target for child in value):
                        setattr(parent, name, [replacement if child is target else child for child in value])
            before, after = (ast.unparse(n).split("\n")[0] for n in (node, replacement))
            yield node.lineno, f"{before}  ->  {after}", ast.fix_missing_locations(twin)


def survives(path: Path, tree: ast.Module | None, tests: list[str]) -> bool:
    """Whether the tests pass with this module in the place of the file's, in a process of their own."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    signal.alarm(SECONDS)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    if tree is not None:
        real, twin = importlib.machinery.SourceFileLoader.get_code, compile(tree, str(path), "exec")
        importlib.machinery.SourceFileLoader.get_code = (  # type: ignore[method-assign]
            lambda self, name: twin if Path(self.path) == path else real(self, name)
        )
    import pytest

    for test in tests:  # one after the other: most mutants die in the first, and the rest is never collected
        if code := int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", test])):
            os._exit(code)
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help="modules (default: all)")
    parser.add_argument("--every", type=int, default=1, help="try every n-th mutant only")
    parser.add_argument("--skip", type=int, default=0, help="of those, start with another than the first")
    parser.add_argument("--lines", help="only those of lines FIRST-LAST")
    parser.add_argument("--list", action="store_true", help="say what they are, and run nothing")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # none is needed, and each mutant would load them anew
    sys.path[:0] = [str(ROOT), str(ROOT / "models"), str(ROOT / "kernels")]
    warnings.simplefilter("ignore")  # cma cannot plot without matplotlib
    for name in ("numpy", "pytest", "cma", "cmaes", "doctest", "unittest.mock"):  # once, for every child
        importlib.import_module(name)
    files = arguments.files or [p for d in ROOMS for p in sorted(Path(d).glob("*.py"))]
    first, last = map(int, (arguments.lines or "0-999999").split("-"))
    for path in (file.resolve() for file in files if file.stem in TESTS):
        chosen = [m for m in mutants(path.read_text("utf-8")) if first <= m[0] <= last][
            arguments.skip :: arguments.every
        ]
        tests = ["tests/{}/test_{}.py".format(*test.split("/")) for test in TESTS[path.stem].split()]
        if not arguments.list and not survives(path, None, tests):
            sys.exit(f"{path.name}: its tests fail as it is")
        left = []
        for line, what, tree in chosen:
            if arguments.list or survives(path, tree, tests):
                left.append(line)
                print(f"{path.relative_to(ROOT)}:{line}: {what}", flush=True)
        print(f"{path.relative_to(ROOT)}: {len(chosen)} mutants, {len(left)} left", flush=True)


if __name__ == "__main__":
    main()
