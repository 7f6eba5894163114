// Threads of node: workers that share memory, promises over files and compression, the loopback network.
const { Worker, isMainThread, parentPort, workerData } = require("worker_threads");
const crypto = require("crypto");
const fs = require("fs/promises");
const net = require("net");
const os = require("os");
const path = require("path");
const { promisify } = require("util");
const zlib = require("zlib");

function work() {
  const hash = crypto.createHash("sha256");
  for (let i = 0; i < workerData.rounds; i++) hash.update(String(i));
  const counter = new Int32Array(workerData.shared);
  for (let i = 0; i < 10000; i++) Atomics.add(counter, 0, 1);
  // The last one in wakes the others.
  if (Atomics.add(counter, 1, 1) === workerData.workers - 1) Atomics.notify(counter, 1);
  else for (let n; (n = Atomics.load(counter, 1)) < workerData.workers; ) Atomics.wait(counter, 1, n, 100);
  parentPort.postMessage(hash.digest("hex"));
}

async function workers(count) {
  const shared = new SharedArrayBuffer(8);
  const start = (_, i) =>
    new Promise((resolve, reject) => {
      const worker = new Worker(__filename, { workerData: { rounds: 5000 * (i + 1), shared, workers: count } });
      worker.on("message", resolve);
      worker.on("error", reject);
    });
  const hashes = await Promise.all(Array.from({ length: count }, start));
  console.log(hashes.join("\n"), new Int32Array(shared)[0]);
}

async function files() {
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), "workers-"));
  const name = (i) => path.join(folder, `f${i}`);
  await Promise.all(Array.from({ length: 50 }, (_, i) => fs.writeFile(name(i), "x".repeat(i * 1000))));
  const file = await fs.open(name(1), "r+");
  await file.write("abc", 10);
  await file.sync();
  console.log("part", (await file.read(Buffer.alloc(8), 0, 8, 8)).buffer.toString(), (await file.stat()).size);
  await file.close();
  const names = await fs.readdir(folder);
  const sizes = await Promise.all(names.map(async (each) => (await fs.readFile(path.join(folder, each))).length));
  console.log("files", names.length, sizes.reduce((a, b) => a + b));
  await fs.rm(folder, { recursive: true });
}

async function pool() {
  const packed = await Promise.all(
    Array.from({ length: 8 }, (_, i) => promisify(zlib.gzip)(Buffer.alloc(1 << 20, `cargo ${i}`))),
  );
  const unpacked = await Promise.all(packed.map((each) => promisify(zlib.gunzip)(each)));
  console.log("unpacked", unpacked.map((each) => each.length).join());
  console.log("key", (await promisify(crypto.pbkdf2)("a", "b", 1000, 32, "sha256")).toString("hex"));
}

async function network() {
  const server = net.createServer((connection) => connection.pipe(connection));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const connection = net.connect(server.address().port);
  connection.end("x".repeat(300000));
  let length = 0;
  for await (const chunk of connection) length += chunk.length;
  console.log("echoed", length);
  server.close();
}

async function main() {
  await workers(6);
  await files();
  await pool();
  await network();
}

if (isMainThread) main().then(() => (process.exitCode = 4));
else work();
