// Label texts with a baked file in Node. ROW.json is what zopog bake --json printed: Node's ONNX Runtime does not show
// a file's metadata.   npm install --ignore-scripts onnxruntime-node @huggingface/tokenizers
//   node examples/baked.mjs FILE.onnx ROW.json TOKENIZER.json "a text" "another text"
import { readFileSync } from "node:fs";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { Tokenizer } from "@huggingface/tokenizers";

const [file, row, vocabulary, ...texts] = process.argv.slice(2);
const about = JSON.parse(readFileSync(row, "utf8"));
const tokenizer = new Tokenizer(JSON.parse(readFileSync(vocabulary, "utf8")), {});
const encode = (piece, text) =>
  tokenizer.encode(piece.replace("{text}", () => text.trim()), { add_special_tokens: false }).ids;
const several = about.rows?.length > 0; // templates: then the inputs are (texts, templates, length)
const recipes = several ? about.rows : [about.row];
const rows = texts.flatMap((text) => recipes.map((row) => row.flatMap((piece) => (piece.at ? encode(piece, text) : [piece]))));

const length = Math.max(...rows.map((ids) => ids.length)); // must not pass about.max_length
const shape = several ? [texts.length, recipes.length, length] : [texts.length, length];
const tensor = (value) =>
  new Tensor("int64", BigInt64Array.from(rows.flatMap((ids) => Array.from({ length }, (_, i) => BigInt(value(ids, i))))), shape);
const session = await InferenceSession.create(file);
const { probabilities } = await session.run({
  input_ids: tensor((ids, i) => ids[i] ?? about.pad_id),
  attention_mask: tensor((ids, i) => (i < ids.length ? 1 : 0)),
});
const count = about.labels.length;
texts.forEach((_, r) =>
  console.log(JSON.stringify(Object.fromEntries(about.labels.map((label, c) => [label, probabilities.data[r * count + c]])))));
