// Reads server-sent events (HTML Standard §9.2) of a response.

export interface ServerEvent {
  type: string;
  id: string | null;
  data: string;
}

/** The events of a response until it ends. */
export async function* readEvents(response: Response): AsyncGenerator<ServerEvent> {
  if (response.body === null) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
      const blocks = text.split("\n\n");
      text = blocks.pop() ?? "";
      for (const block of blocks) {
        const event = parse(block);
        if (event !== null) yield event;
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function parse(block: string): ServerEvent | null {
  const event: ServerEvent = { type: "message", id: null, data: "" };
  const data: string[] = [];
  for (const line of block.split("\n")) {
    const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
    if (field === "event") event.type = value ?? "";
    else if (field === "id") event.id = value ?? "";
    else if (field === "data") data.push(value ?? "");
  }
  return data.length === 0 ? null : { ...event, data: data.join("\n") };
}
