// A line between a browser and a server that can be cut, for browsers without an offline mode for tests.

import { connect, createServer } from "node:net";

/** Starts to listen for connections to the server at `origin`. The caller must close the line. @param {string} origin */
export async function startLine(origin) {
  const { protocol, hostname, port } = new URL(origin);
  /** @type {Set<import("node:net").Socket>} */
  const sockets = new Set();
  const listener = createServer((near) => {
    const far = connect(Number(port), hostname);
    for (const [from, to] of /** @type {const} */ ([[near, far], [far, near]])) {
      sockets.add(from);
      from.on("error", () => to.destroy());
      from.on("close", () => {
        sockets.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  });
  /** @param {number} at the port; 0: any free one */
  const listen = (at) => new Promise((done, failed) => listener.once("error", failed).listen(at, hostname, () => done(undefined)));
  await listen(0);
  const address = listener.address();
  if (address === null || typeof address === "string") throw new Error("no address");
  /** Breaks all connections; new ones are refused. */
  const cut = async () => {
    const closed = new Promise((done) => listener.close(done));
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  return {
    base: `${protocol}//${hostname}:${address.port}`,
    cut,
    restore: () => listen(address.port),
    close: () => (listener.listening ? cut() : Promise.resolve()),
  };
}
