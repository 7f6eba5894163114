// What a program in JavaScript does: files, timers, promises, streams, compression, much garbage.
const assert = require("assert");
const crypto = require("crypto");
const fs = require("fs");
const os = require("os");
const path = require("path");
const zlib = require("zlib");

async function main() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "script-"));
  const file = path.join(folder, "file");
  fs.writeFileSync(file, "hello\n".repeat(1000));
  console.log("size", fs.statSync(file).size, fs.readdirSync(folder));
  await fs.promises.appendFile(file, "world\n");
  console.log("read", (await fs.promises.readFile(file, "utf8")).slice(-12).trim().split("\n"));
  await assert.rejects(fs.promises.open(path.join(folder, "none")), { code: "ENOENT" });
  const packed = zlib.gzipSync(fs.readFileSync(file));
  console.log("hash", crypto.createHash("sha256").update(zlib.gunzipSync(packed)).digest("hex"));

  const order = [];
  process.nextTick(() => order.push("tick"));
  Promise.resolve().then(() => order.push("promise"));
  setImmediate(() => order.push("immediate"));
  await new Promise((resolve) => setTimeout(resolve, 50));
  console.log("order", order);

  let total = 0;
  for await (const chunk of fs.createReadStream(file, { highWaterMark: 1000 })) total += chunk.length;
  console.log("streamed", total);

  const keep = new Map();
  for (let i = 0; i < 200000; i++) keep.set(i % 1000, { i, text: "x".repeat(i % 50) });
  console.log("garbage", keep.size, keep.get(999).i);
  fs.rmSync(folder, { recursive: true });
  console.log("gone", fs.existsSync(folder), process.argv.slice(2));
}

main().then(() => process.on("exit", () => console.log("exit")));
