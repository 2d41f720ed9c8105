// Signs in Claude Code with a pasted code: ANTEROOM_E2E_LINK=… node e2e/real/claude_code.mjs (see journey.mjs). Its identity provider
// must be a stand-in with one consent button (ANTEROOM_E2E_HOSTS).

import { journey } from "./journey.mjs";
import { runPastedCodeJourney } from "./play.mjs";

journey("claude-code", "Claude Code: start, link, pasted code, connected", (one) => runPastedCodeJourney(one, "claude_code"));
