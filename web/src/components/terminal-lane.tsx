// The tab "Terminal": the tool's terminal. It is connected only while it is shown.

import { useEffect } from "preact/hooks";
import { api, type SessionView } from "../api";
import { Terminal } from "../terminal";
import { texts } from "../texts";
import { ConnectionOverlay } from "./connection-overlay";
import { FocusTrap } from "./focus-trap";
import { KeysBar } from "./keys-bar";
import { PasteBox } from "./paste-box";
import { pendingText } from "./status-line";

export function createTerminal(id: string): Terminal {
  return new Terminal(id);
}

interface TerminalLaneProps {
  session: SessionView;
  terminal: Terminal;
  is_shown: boolean;
  /** Whether the keyboard continues in the terminal when it is shown. */
  takes_focus: boolean;
}

export function TerminalLane({ session, terminal, is_shown, takes_focus }: TerminalLaneProps) {
  useEffect(() => {
    if (!is_shown) return terminal.hide();
    terminal.show();
    if (takes_focus) terminal.focus();
  }, [terminal, is_shown, takes_focus]);
  return (
    <>
      <FocusTrap target={terminal} label={texts.terminal_label} exit_id="terminal-tools">
        <ConnectionOverlay socket={terminal.socket} live={terminal.live} name="terminal" pending={pendingText(session)} />
      </FocusTrap>
      <div id="terminal-tools" class="terminal-tools">
        <KeysBar target={terminal} of="terminal" openKeyboard={() => terminal.focus()} />
        {/* It shows what is typed: a secret has its own field above the terminal. */}
        {session.sign_in.prompt?.secret === true ? null : (
          <PasteBox
            id="paste-text"
            label={texts.paste_into_terminal}
            hint={texts.paste_into_terminal_hint}
            button={texts.paste}
            send={(text) => api.typeText(session.id, text, false).then(() => texts.typed_into_terminal)}
          />
        )}
      </div>
    </>
  );
}
