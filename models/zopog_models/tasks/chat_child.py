"""Renders a chat template from stdin to stdout. It runs as a process of its own, which is ended when it takes too long.

A template is a stranger's program: Jinja's sandbox keeps it from the machine, but not from loops without an end.
"""

import json
import sys


def main() -> None:
    """stdin: {"template", "values", "bytes", "seconds", "characters"}; stdout: {"text"} or {"error"}."""
    asked = json.load(sys.stdin)
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (asked["bytes"], asked["bytes"]))
        resource.setrlimit(resource.RLIMIT_CPU, (asked["seconds"], asked["seconds"]))
    except ImportError:  # Windows: the parent's clock alone
        pass
    sys.stdout.write(json.dumps(_rendered(asked)))


def _rendered(asked: dict[str, object]) -> dict[str, str]:
    import datetime

    import jinja2
    import jinja2.ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> str:
        raise jinja2.TemplateError(message)

    def now(form: str) -> str:
        return datetime.datetime.now().strftime(form)

    def as_json(value: object, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    # As transformers sets it up.
    extensions = [jinja2.ext.loopcontrols]
    sandbox = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    sandbox.filters["tojson"] = as_json
    sandbox.globals |= {"raise_exception": refuse, "strftime_now": now}
    limit = int(str(asked["characters"]))
    pieces, length = [], 0
    try:
        for piece in sandbox.from_string(str(asked["template"])).generate(asked["values"]):
            length += len(piece)
            if length > limit:
                return {"error": f"it renders more than {limit} characters"}
            pieces.append(piece)
    except MemoryError:
        return {"error": "it takes too much memory"}
    except Exception as error:  # whatever a stranger's program does
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    return {"text": "".join(pieces)}


if __name__ == "__main__":
    main()
