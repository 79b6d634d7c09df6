"""python -m zopog_models.serving MODEL FOLDER: write a folder that MLServer can serve."""

import argparse
import sys
from pathlib import Path

from zopog_models.serving import write_mlserver_folder

parser = argparse.ArgumentParser(prog="python -m zopog_models.serving", description=__doc__)
parser.add_argument("model", help="embedded, a Hugging Face folder, or org/name[@revision] on the hub")
parser.add_argument("folder", type=Path)
parser.add_argument("--name", default="frozen", help="under which it is served (default: frozen)")
parser.add_argument("--port", type=int, default=8080, help="of REST; gRPC takes the next (default 8080)")
arguments = parser.parse_args()
write_mlserver_folder(arguments.model, arguments.folder, arguments.name, port=arguments.port)
sys.stderr.write(
    f"mlserver start {arguments.folder}\n"
    f"zopog tune --model kserve+http://127.0.0.1:{arguments.port}/v2/models/{arguments.name} --tokenizer FOLDER\n"
)
