// A tar archive (POSIX ustar) in memory.

export interface TarFile {
  path: string;
  /** Permission bits. */
  mode: number;
  bytes: Uint8Array<ArrayBuffer>;
}

const BLOCK = 512;
/** The longest path without a separate field for its directories. */
const NAME_MAX = 100;

/** The archive of these files. A path has a file's name of at most 100 bytes and directories of at most 155 bytes. */
export function tarOf(files: readonly TarFile[]): Uint8Array<ArrayBuffer> {
  const size = files.reduce((sum, { bytes }) => sum + BLOCK + paddedSize(bytes.length), 0);
  // Two empty blocks end an archive.
  const archive = new Uint8Array(size + 2 * BLOCK);
  let at = 0;
  for (const file of files) {
    archive.set(headerOf(file), at);
    archive.set(file.bytes, at + BLOCK);
    at += BLOCK + paddedSize(file.bytes.length);
  }
  return archive;
}

const paddedSize = (bytes: number) => Math.ceil(bytes / BLOCK) * BLOCK;

function headerOf({ path, mode, bytes }: TarFile): Uint8Array {
  const header = new Uint8Array(BLOCK);
  const write = (text: string, offset: number) => header.set(new TextEncoder().encode(text), offset);
  const octal = (value: number, digits: number) => value.toString(8).padStart(digits, "0");
  const cut = path.length > NAME_MAX ? path.lastIndexOf("/") : -1;
  write(path.slice(cut + 1), 0);
  write(path.slice(0, Math.max(cut, 0)), 345);
  write(octal(mode & 0o777, 7), 100);
  write(octal(0, 7), 108);
  write(octal(0, 7), 116);
  write(octal(bytes.length, 11), 124);
  write(octal(Math.floor(Date.now() / 1_000), 11), 136);
  // The checksum is made with blanks in its place.
  write("        ", 148);
  write("0", 156);
  write("ustar\0" + "00", 257);
  write(`${octal(header.reduce((sum, byte) => sum + byte, 0), 6)}\0 `, 148);
  return header;
}
