"""zopog push: the prompt of a run, with its card, as a repository of the Hugging Face Hub.

What is sent: prompt.safetensors, prompt.json and README.md of the prompt's folder. No texts of the data, no report, no
requests. The token is the client's own business (HF_TOKEN, or `hf auth login`); it is never an option, never shown.
"""

import argparse
import hashlib
import os
from pathlib import Path

from zopog_models.checkpoints.hub import is_hub_id
from zopog_models.files.untrusted import check_regular
from zopog_models.prompts.bundle import load_prompt
from zopog_ref.app.errors import InputError
from zopog_ref.app.output import show, show_json

FILES = ("prompt.safetensors", "prompt.json", "README.md")  # nothing else leaves this machine
CARD_HEAD = "---\nlibrary_name: zopog-ref\ntags:\n- black-box-prompt-learning\n- zopog\n---\n\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="a finished run's folder, or a prompt folder")
    parser.add_argument("repository", metavar="ORG/NAME", help="on the hub; it is made where there is none")
    parser.add_argument("--public", action="store_true", help="a repository that is made can be read by everybody")
    parser.add_argument("--dry-run", action="store_true", help="show what would be sent, and send nothing")
    parser.add_argument("--message", default="A prompt by zopog", help="of the commit")
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(arguments: argparse.Namespace) -> int:
    """Send the prompt, or show what would be sent."""
    name = arguments.repository
    if not is_hub_id(name) or "@" in name:
        raise InputError(f"{name!r} is not the name of a repository on the hub; expected ORG/NAME")
    files = _files(arguments.run)
    listed = [
        {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for path, data in files.items()
    ]
    said = {"repository": name, "public": arguments.public, "files": listed}
    if arguments.dry_run:
        said |= {"sent": False}
        lines = [f"{row['path']}  {row['bytes']:,} bytes, sha256 {row['sha256']}" for row in listed]
        head = f"would be sent to {name} ({'public' if arguments.public else 'private'}, if it has to be made):"
        text = "\n".join([head, *lines, "nothing was sent"])
    else:
        url = _send(files, name, arguments.public, arguments.message)
        said |= {"sent": True, "commit": url}
        text = f"sent {len(files)} files: {url}"
    show_json(said, indent=2) if arguments.json else show(text)
    return 0


def _files(folder: Path) -> dict[str, bytes]:
    """What is sent, by its name in the repository. Errors: InputError, PromptError."""
    if (folder / "config.json").exists() and not (folder / "result.json").exists():
        raise InputError(f"{folder} is a run that is not finished: go on with zopog tune --resume {folder}")
    place = folder / "prompt" if (folder / "prompt").is_dir() else folder
    load_prompt(place)  # a damaged one is refused here, not by whoever fetches it
    found = {}
    for name in FILES:
        if (path := place / name).exists():
            check_regular(path)
            found[name] = path.read_bytes()
    if "README.md" in found:
        found["README.md"] = CARD_HEAD.encode() + found["README.md"]
    return found


def _send(files: dict[str, bytes], name: str, public: bool, message: str) -> str:
    """The commit's address. Errors: InputError for all that the hub or its client refuses."""
    try:
        from huggingface_hub import CommitOperationAdd, HfApi, get_token
    except ImportError as error:
        raise InputError(f'zopog push needs huggingface_hub ({error}): pip install "huggingface_hub>=0.26"') from error
    token = get_token()
    if not token:
        raise InputError("no token for the hub: set HF_TOKEN, or log in with `hf auth login`")
    try:
        hub = HfApi(token=token)
        hub.create_repo(name, private=not public, exist_ok=True)
        operations = [CommitOperationAdd(path, data) for path, data in files.items()]
        return str(hub.create_commit(name, operations, commit_message=message).commit_url)
    except Exception as error:  # whatever the client makes of an answer or of a network that is not there
        told = str(error).replace(token, "***").strip().partition("\n")[0]
        where = os.environ.get("HF_ENDPOINT", "the hub")
        raise InputError(f"{name} was not sent to {where}: {type(error).__name__}: {told:.300}") from None
