// A button that copies text. The clipboard API exists only in secure contexts; on plain http a text area is used instead.

import { useEffect, useState } from "preact/hooks";
import { texts } from "../texts";

const MESSAGE_MS = 2_500;

function copyWithTextArea(text: string): boolean {
  const focused = document.activeElement;
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  area.setAttribute("aria-hidden", "true");
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  // The selection took the focus.
  (focused as HTMLElement | null)?.focus();
  return copied;
}

async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyWithTextArea(text);
  }
}

interface CopyButtonProps {
  text: string;
  /** What is copied, for the announcement: "the code". */
  name: string;
  /** The text of the button; absent: "Copy", with `name` in the accessible name. */
  label?: string;
}

export function CopyButton({ text, name, label }: CopyButtonProps) {
  const [message, setMessage] = useState<string | null>(null);
  useEffect(() => {
    if (message === null) return undefined;
    const timer = window.setTimeout(() => setMessage(null), MESSAGE_MS);
    return () => window.clearTimeout(timer);
  }, [message]);
  return (
    <>
      <button
        type="button"
        class="copy"
        aria-label={label !== undefined ? undefined : message === null ? texts.copying.copy_what(name) : `${message}: ${name}`}
        onClick={() => void copy(text).then((copied) => setMessage(copied ? texts.copying.copied : texts.copying.not_copied))}
      >
        {message ?? label ?? texts.copying.copy}
      </button>
      <span class="visually-hidden" role="status">
        {message ?? ""}
      </span>
    </>
  );
}
