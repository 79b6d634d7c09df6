"""llama.cpp's own server for a folder of `write_decoder(..., "llama")`, or for a GGUF file as it is: run by a Python that
has xllamacpp, and gguf for a folder.

    python tests/models/llama_cpp_server.py FOLDER      # says its address on stdout, ends with its standard input
    python tests/models/llama_cpp_server.py FILE.gguf   # with the file's chat template

Nothing of this package is imported, so that environment needs nothing of it.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
import xllamacpp

CONTEXT = 1024  # tokens of a row

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def tensors(path: Path) -> dict[str, np.ndarray]:
    """Of a .safetensors file of float32."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    found = {}
    for name, entry in json.loads(content[8:start]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            found[name] = np.frombuffer(content[start + begin : start + end], "<f4").reshape(entry["shape"])
    return found


def convert(folder: Path, path: Path) -> None:
    """The folder as one GGUF file, all in float32."""
    config = json.loads((folder / "config.json").read_text())
    heads, key_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    add_tokenizer(writer, json.loads((folder / "tokenizer.json").read_text()))
    for name, array in tensors(folder / "model.safetensors").items():
        place, _, kind = name.rpartition(".")
        if place in WHOLE:
            writer.add_tensor(f"{WHOLE[place]}.{kind}", array)
            continue
        _, _, layer, part = place.split(".", 3)
        if "q_proj" in part or "k_proj" in part:  # a head's two halves are turned together; here pairs stand together
            count = heads if "q_proj" in part else key_heads
            array = array.reshape(count, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(f"blk.{layer}.{NAMES[part]}.{kind}", np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: dict) -> None:
    """SentencePiece's pairs: a piece's score is its place, since pieces stand in the order in which they were merged."""
    pieces = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    special = {entry["content"] for entry in tokenizer["added_tokens"]}
    kinds = gguf.TokenType
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores([float(-place) for place in range(len(pieces))])
    writer.add_token_types(
        [
            kinds.UNKNOWN if piece == "<unk>"
            else kinds.CONTROL if piece in special
            else kinds.BYTE if piece.startswith("<0x")
            else kinds.NORMAL
            for piece in pieces
        ]
    )  # fmt: skip
    writer.add_unk_token_id(pieces.index("<unk>"))
    writer.add_bos_token_id(pieces.index("<s>"))
    writer.add_eos_token_id(pieces.index("</s>"))
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)


def serve(path: Path, *, chat: bool) -> None:
    """Until standard input ends. chat: conversations in the file's own template."""
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = 2
    params.n_ctx = params.n_parallel * CONTEXT
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.warmup = False
    params.use_jinja = chat
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    given = Path(sys.argv[1])
    if given.is_dir():
        convert(given, given / "model.gguf")
    serve(given / "model.gguf" if given.is_dir() else given, chat=given.is_file())
