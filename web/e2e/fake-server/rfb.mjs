// A small RFB 3.8 server (RFC 6143) that draws a picture and marks where it is clicked and what is typed. For tests.

const WIDTH = 800;
const HEIGHT = 500;

/** One viewer's server side: bytes in through `take`, bytes out through `send`. */
export class RfbServer {
  #in = Buffer.alloc(0);
  #phase = "version";
  /** Red, green, blue, nothing: the format noVNC asks for. */
  #picture = Buffer.alloc(WIDTH * HEIGHT * 4);
  #dirty = true;
  #wanted = false;
  /** @type {number[]} keysyms that went down, in order */
  keys = [];
  /** @type {{ x: number, y: number }[]} */
  clicks = [];
  /** Pictures sent. */
  pictures = 0;
  #buttons = 0;
  /** Called for each key that went down. @type {(keysym: number) => void} */
  onkey = () => {};
  /** Called for each press of the first button. @type {(at: { x: number, y: number }) => void} */
  onclick = () => {};

  /**
   * @param {(bytes: Buffer) => void} send
   * @param {{ hue?: number }} [look]
   */
  constructor(send, look = {}) {
    this.send = send;
    this.#paint(look.hue ?? 0);
    send(Buffer.from("RFB 003.008\n"));
  }

  /** @param {number} hue shifts the colours, so that two machines can be told apart */
  #paint(hue) {
    for (let y = 0; y < HEIGHT; y += 1) {
      for (let x = 0; x < WIDTH; x += 1) {
        this.#dot(x, y, 40 + ((x >> 2) % 120), (60 + (y >> 1) + hue) % 256, 120 + hue);
      }
    }
    this.box(60, 60, 520, 330, 250, 250, 250);
    this.box(60, 60, 520, 28, 70, 90, 120);
    for (let line = 0; line < 9; line += 1) this.box(84, 112 + line * 28, 180 + ((line * 137) % 280), 10, 60, 60, 70);
    this.box(300, 330, 200, 40, 10, 125, 51);
  }

  /** @param {number} x @param {number} y @param {number} r @param {number} g @param {number} b */
  #dot(x, y, r, g, b) {
    this.#picture.writeUInt32LE((r & 255) | ((g & 255) << 8) | ((b & 255) << 16), (y * WIDTH + x) * 4);
  }

  /**
   * Draws a filled rectangle.
   * @param {number} left @param {number} top @param {number} width @param {number} height
   * @param {number} r @param {number} g @param {number} b
   */
  box(left, top, width, height, r, g, b) {
    for (let y = Math.max(0, top); y < Math.min(HEIGHT, top + height); y += 1) {
      for (let x = Math.max(0, left); x < Math.min(WIDTH, left + width); x += 1) this.#dot(x, y, r, g, b);
    }
    this.#dirty = true;
  }

  /** @param {Buffer} bytes */
  take(bytes) {
    this.#in = Buffer.concat([this.#in, bytes]);
    while (this.#step());
    if (this.#wanted && this.#dirty) this.#update();
  }

  /** @param {number} length @returns {Buffer | null} */
  #shift(length) {
    if (this.#in.length < length) return null;
    const part = this.#in.subarray(0, length);
    this.#in = this.#in.subarray(length);
    return part;
  }

  #step() {
    if (this.#phase === "version") {
      if (!this.#shift(12)) return false;
      this.#phase = "security";
      this.send(Buffer.from([1, 1]));
      return true;
    }
    if (this.#phase === "security") {
      if (!this.#shift(1)) return false;
      this.#phase = "init";
      this.send(Buffer.from([0, 0, 0, 0]));
      return true;
    }
    if (this.#phase === "init") {
      if (!this.#shift(1)) return false;
      this.#phase = "normal";
      const name = Buffer.from("stand-in");
      const init = Buffer.alloc(24);
      init.writeUInt16BE(WIDTH, 0);
      init.writeUInt16BE(HEIGHT, 2);
      Buffer.from([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16, 0, 0, 0]).copy(init, 4);
      init.writeUInt32BE(name.length, 20);
      this.send(Buffer.concat([init, name]));
      return true;
    }
    return this.#message();
  }

  #message() {
    switch (this.#in[0]) {
      case 0:
        return this.#shift(20) !== null;
      case 2:
        if (this.#in.length < 4) return false;
        return this.#shift(4 + 4 * this.#in.readUInt16BE(2)) !== null;
      case 3: {
        const request = this.#shift(10);
        if (!request) return false;
        this.#wanted = true;
        if (request[1] === 0) this.#dirty = true;
        return true;
      }
      case 4: {
        const key = this.#shift(8);
        if (!key) return false;
        if (key[1] === 1) {
          this.keys.push(key.readUInt32BE(4));
          this.box(84 + ((this.keys.length * 14) % 480), 366, 10, 14, 180, 40, 40);
          this.onkey(key.readUInt32BE(4));
        }
        return true;
      }
      case 5: {
        const pointer = this.#shift(6);
        if (!pointer) return false;
        const buttons = pointer[1] ?? 0;
        const at = { x: pointer.readUInt16BE(2), y: pointer.readUInt16BE(4) };
        if ((buttons & 1) === 1 && (this.#buttons & 1) === 0) {
          this.clicks.push(at);
          this.box(at.x - 5, at.y - 5, 10, 10, 200, 60, 20);
          this.onclick(at);
        }
        this.#buttons = buttons;
        return true;
      }
      case 6:
        if (this.#in.length < 8) return false;
        return this.#shift(8 + Math.abs(this.#in.readInt32BE(4))) !== null;
      case undefined:
        return false;
      default:
        throw new Error(`the viewer sent message ${this.#in[0]}, which it was not offered`);
    }
  }

  #update() {
    this.#wanted = false;
    this.#dirty = false;
    this.pictures += 1;
    const head = Buffer.alloc(16);
    head.writeUInt16BE(1, 2);
    head.writeUInt16BE(WIDTH, 8);
    head.writeUInt16BE(HEIGHT, 10);
    this.send(Buffer.concat([head, this.#picture]));
  }
}
