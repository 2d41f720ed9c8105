// A button that copies text, also where the page is plain http and the clipboard API is not there.

import { useEffect, useState } from "preact/hooks";

function copyByHand(text: string): boolean {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "off-screen";
  area.setAttribute("aria-hidden", "true");
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyByHand(text);
  }
}

export function Copy({ text, what }: { text: string; what: string }) {
  const [said, say] = useState<string | null>(null);
  useEffect(() => {
    if (said === null) return undefined;
    const timer = window.setTimeout(() => say(null), 2_500);
    return () => window.clearTimeout(timer);
  }, [said]);
  return (
    <>
      <button
        type="button"
        aria-label={`Copy ${what}`}
        onClick={() => void copy(text).then((done) => say(done ? "Copied" : "Select it and copy by hand"))}
      >
        {said ?? "Copy"}
      </button>
      <span class="off-screen" role="status">
        {said ?? ""}
      </span>
    </>
  );
}
