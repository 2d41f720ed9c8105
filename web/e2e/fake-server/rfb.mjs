// A small RFB 3.8 server (RFC 6143) for tests. It draws a picture and marks clicks and key presses in it.

const WIDTH = 800;
const HEIGHT = 500;

/** The server side of one connection: bytes arrive through `receive` and are sent through `send`. */
export class RfbServer {
  #received = Buffer.alloc(0);
  #phase = "version";
  /** 4 bytes a pixel: red, green, blue, unused. noVNC requests this format. */
  #picture = Buffer.alloc(WIDTH * HEIGHT * 4);
  #dirty = true;
  #update_requested = false;
  /** @type {number[]} keysyms of pressed keys, in order */
  keys = [];
  /** @type {{ x: number, y: number }[]} */
  clicks = [];
  /** The texts that the viewer put into this machine's clipboard. @type {string[]} */
  cut_texts = [];
  /** The quality level that the viewer asked for; -1: none. */
  quality_level = -1;
  /** How many frames were sent. */
  frames_sent = 0;
  #buttons = 0;
  /** Called for each pressed key. @type {(keysym: number) => void} */
  onkey = () => {};
  /** Called for each press of the first button. @type {(at: { x: number, y: number }) => void} */
  onclick = () => {};

  /**
   * @param {(bytes: Buffer) => void} send
   * @param {{ hue?: number }} [options]
   */
  constructor(send, options = {}) {
    this.send = send;
    this.#paint(options.hue ?? 0);
    send(Buffer.from("RFB 003.008\n"));
  }

  /** @param {number} hue shifts the colours, so that two machines look different */
  #paint(hue) {
    for (let y = 0; y < HEIGHT; y += 1) {
      for (let x = 0; x < WIDTH; x += 1) {
        this.#setPixel(x, y, 40 + ((x >> 2) % 120), (60 + (y >> 1) + hue) % 256, 120 + hue);
      }
    }
    this.fillRectangle(60, 60, 520, 330, 250, 250, 250);
    this.fillRectangle(60, 60, 520, 28, 70, 90, 120);
    for (let line = 0; line < 9; line += 1) this.fillRectangle(84, 112 + line * 28, 180 + ((line * 137) % 280), 10, 60, 60, 70);
    this.fillRectangle(300, 330, 200, 40, 10, 125, 51);
  }

  /** @param {number} x @param {number} y @param {number} r @param {number} g @param {number} b */
  #setPixel(x, y, r, g, b) {
    this.#picture.writeUInt32LE((r & 255) | ((g & 255) << 8) | ((b & 255) << 16), (y * WIDTH + x) * 4);
  }

  /**
   * Draws a filled rectangle.
   * @param {number} left @param {number} top @param {number} width @param {number} height
   * @param {number} r @param {number} g @param {number} b
   */
  fillRectangle(left, top, width, height, r, g, b) {
    for (let y = Math.max(0, top); y < Math.min(HEIGHT, top + height); y += 1) {
      for (let x = Math.max(0, left); x < Math.min(WIDTH, left + width); x += 1) this.#setPixel(x, y, r, g, b);
    }
    this.#dirty = true;
  }

  /** @param {Buffer} bytes */
  receive(bytes) {
    this.#received = Buffer.concat([this.#received, bytes]);
    while (this.#advance());
    if (this.#update_requested && this.#dirty) this.#update();
  }

  /** @param {number} length @returns {Buffer | null} */
  #read(length) {
    if (this.#received.length < length) return null;
    const part = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return part;
  }

  #advance() {
    if (this.#phase === "version") {
      if (!this.#read(12)) return false;
      this.#phase = "security";
      this.send(Buffer.from([1, 1]));
      return true;
    }
    if (this.#phase === "security") {
      if (!this.#read(1)) return false;
      this.#phase = "init";
      this.send(Buffer.from([0, 0, 0, 0]));
      return true;
    }
    if (this.#phase === "init") {
      if (!this.#read(1)) return false;
      this.#phase = "normal";
      const name = Buffer.from("fake server");
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
    switch (this.#received[0]) {
      case 0:
        return this.#read(20) !== null;
      case 2:
        return this.#receiveEncodings();
      case 3: {
        const request = this.#read(10);
        if (!request) return false;
        this.#update_requested = true;
        if (request[1] === 0) this.#dirty = true;
        return true;
      }
      case 4: {
        const key = this.#read(8);
        if (!key) return false;
        if (key[1] === 1) {
          this.keys.push(key.readUInt32BE(4));
          this.fillRectangle(84 + ((this.keys.length * 14) % 480), 366, 10, 14, 180, 40, 40);
          this.onkey(key.readUInt32BE(4));
        }
        return true;
      }
      case 5: {
        const pointer = this.#read(6);
        if (!pointer) return false;
        const buttons = pointer[1] ?? 0;
        const at = { x: pointer.readUInt16BE(2), y: pointer.readUInt16BE(4) };
        if ((buttons & 1) === 1 && (this.#buttons & 1) === 0) {
          this.clicks.push(at);
          this.fillRectangle(at.x - 5, at.y - 5, 10, 10, 200, 60, 20);
          this.onclick(at);
        }
        this.#buttons = buttons;
        return true;
      }
      case 6:
        return this.#receiveCutText();
      case undefined:
        return false;
      default:
        throw new Error(`the viewer sent message ${this.#received[0]}, which this server does not support`);
    }
  }

  #receiveEncodings() {
    if (this.#received.length < 4) return false;
    const message = this.#read(4 + 4 * this.#received.readUInt16BE(2));
    if (!message) return false;
    const encodings = Array.from({ length: (message.length - 4) / 4 }, (_, at) => message.readInt32BE(4 + 4 * at));
    this.quality_level = (encodings.find((encoding) => encoding >= -32 && encoding <= -23) ?? -33) + 32;
    return true;
  }

  #receiveCutText() {
    if (this.#received.length < 8) return false;
    const text = this.#read(8 + this.#received.readInt32BE(4));
    if (!text) return false;
    this.cut_texts.push(text.subarray(8).toString("latin1"));
    return true;
  }

  /** Copies a text in the machine. @param {string} text of Latin-1 characters */
  copy(text) {
    const head = Buffer.alloc(8);
    head.writeUInt8(3, 0);
    head.writeUInt32BE(text.length, 4);
    this.send(Buffer.concat([head, Buffer.from(text, "latin1")]));
  }

  #update() {
    this.#update_requested = false;
    this.#dirty = false;
    this.frames_sent += 1;
    const head = Buffer.alloc(16);
    head.writeUInt16BE(1, 2);
    head.writeUInt16BE(WIDTH, 8);
    head.writeUInt16BE(HEIGHT, 10);
    this.send(Buffer.concat([head, this.#picture]));
  }
}
