// An app that speaks HTTP/2 as Node.js does: `node early-hints.mjs ADDRESS PATH` says what it is told, as JSON.

import { connect } from "node:http2";

const [address, path] = process.argv.slice(2);
const session = connect(`http://${address}`);
const request = session.request({ ":path": path });
const told = { interim: [], body: "" };
request.on("headers", (head) => told.interim.push([head[":status"], head.link ?? null]));
request.on("response", (head) => (told.status = head[":status"]));
request.setEncoding("utf8");
request.on("data", (piece) => (told.body += piece));
request.on("end", () => {
  console.log(JSON.stringify(told));
  session.close();
});
request.end();
