"""What is fuzzed: every parser that reads what comes from somebody else, files and answers of servers alike."""

from pathlib import Path

from tests.fuzz.comparisons import comparisons
from tests.fuzz.dawdling import dawdling
from tests.fuzz.gguf_files import gguf_files
from tests.fuzz.hub_answers import hub_answers
from tests.fuzz.model_files import model_files
from tests.fuzz.odd_folders import odd_folders
from tests.fuzz.opened_models import opened_models
from tests.fuzz.run_folders import run_folders
from tests.fuzz.servers import servers
from tests.fuzz.target import Target
from tests.fuzz.task_files import artefacts, task_files
from tests.fuzz.templates import templates


def targets(scratch: Path) -> list[Target]:
    """All of them; scratch is a folder for making the valid files."""
    makers = (
        model_files,
        gguf_files,
        task_files,
        artefacts,
        run_folders,
        comparisons,
        servers,
        hub_answers,
        opened_models,
        templates,
        dawdling,
        odd_folders,
    )
    return [target for make in makers for target in make(scratch)]
