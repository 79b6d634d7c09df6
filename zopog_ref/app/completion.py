"""zopog completion: what a shell has to read so that it completes commands, options and choices.

eval "$(zopog completion bash)"      in ~/.bashrc, or zsh in ~/.zshrc
zopog completion fish | source       in config.fish
"""

import argparse

from zopog_ref.app.output import show
from zopog_ref.app.packages import from_extra


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def run(arguments: argparse.Namespace) -> int:
    """Print the lines. Errors: MissingPackage without argcomplete."""
    with from_extra():
        import argcomplete
    show(argcomplete.shellcode(["zopog"], shell=arguments.shell))
    return 0
