// Reports that the machine was replaced, once for each replacement, until the user confirms it.

import { useState } from "preact/hooks";
import type { SessionView } from "../api";
import { texts } from "../texts";

export function ReplacedNotice({ session }: { session: SessionView }) {
  const [confirmed_generation, setConfirmedGeneration] = useState(1);
  if (session.status === "vm_stopped" || session.generation <= confirmed_generation) return null;
  return (
    <div class="note warn" role="status" data-notice="replaced">
      <p>
        <strong>{texts.computer_stopped}</strong> {texts.computer_replaced}
      </p>
      <button type="button" class="small" onClick={() => setConfirmedGeneration(session.generation)}>
        {texts.ok}
      </button>
    </div>
  );
}
